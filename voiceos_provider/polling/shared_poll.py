"""One poll for many conditions.

If nothing is open anywhere between the first start and the last end, no interval has an open conversation: two
requests. Otherwise a binary search finds the intervals that have one. Intervals that were open in the last poll
probably still are, and are checked one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import timedelta
from itertools import groupby
from typing import Any

from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.conditions import (
    MET,
    UNCONFIRMED,
    Condition,
    IdsCondition,
    IntervalCondition,
    Result,
)
from voiceos_provider.polling.polling_client import PollingClient, Row

MIN_CHECKS = 20
_SHARE = 4
_MANY_OPEN = 3

Results = dict[Condition, Result | VoiceOSError]
"""The result of each condition, or the error that prevented one. A missing condition is checked in a later poll."""


async def check_all(
    client: PollingClient, conditions: Collection[Condition], states: Mapping[Any, str]
) -> Results:
    """Check all conditions.

    Intervals are checked within two budgets of `max_checks` checks each. One is for conditions that wait for their
    first result: a check is one or two requests of one row. The other is for the unconfirmed: a check reads a listing,
    which shows every state and is not misled by a replica that lags. Conditions beyond a budget have no result.
    Counting `min_conversations` is in neither budget: it is due once for each condition that has ended. Nothing is sent
    for an interval before it is readable.

    A retryable error or a refused token ends the poll, and is the result of every remaining condition. Any other
    error is the result of its condition only.

    :param states: the results of earlier polls by condition, the one checked longest ago first
    """
    intervals = [condition for condition in conditions if isinstance(condition, IntervalCondition)]
    ids = [condition for condition in conditions if isinstance(condition, IdsCondition)]
    return await _check_intervals(client, intervals, states) | await _check_ids(client, ids)


async def _check_ids(client: PollingClient, conditions: Iterable[IdsCondition]) -> Results:
    results: Results = {}
    failure: VoiceOSError | None = None
    for condition in conditions:
        try:
            results[condition] = failure or await condition.check(client)
        except VoiceOSError as error:
            results[condition] = error
            failure = error if _ends_poll(error) else None
    return results


async def _check_intervals(
    client: PollingClient, conditions: Collection[IntervalCondition], states: Mapping[Any, str]
) -> Results:
    now = client.clock.now()
    results: Results = {}
    parts: dict[IntervalCondition, Interval] = {}
    for condition in conditions:
        if now < condition.readable_at:
            readable_at = isoformat(condition.readable_at)
            results[condition] = Result(
                "open", f"reading starts at {readable_at}, visibility_delay after the interval"
            )
        elif part := condition.young_part(now):
            parts[condition] = part
        else:
            results[condition] = MET
    unconfirmed = {c: part for c, part in parts.items() if states.get(c) == "unconfirmed"}
    others = {c: part for c, part in parts.items() if c not in unconfirmed}
    known = dict.fromkeys(others[c] for c, state in states.items() if state == "open" and c in others)
    listed, probed = _Search(client.first_open_listed, MET), _Search(client.first_open, UNCONFIRMED)
    failure: VoiceOSError | None = None
    try:
        await listed.run(adjacent(unconfirmed.values()), max_checks(len(set(unconfirmed.values()))))
        await _probe(probed, set(others.values()), known)
    except VoiceOSError as error:
        failure = error
    for condition, part in parts.items():
        result = (listed if condition in unconfirmed else probed).results.get(part, failure)
        if result is not None:
            results[condition] = result
    for condition in [condition for condition in conditions if results.get(condition) == MET]:
        try:
            results[condition] = await condition.check_count(client)
        except VoiceOSError as error:
            results[condition] = error
    return results


def max_checks(intervals: int) -> int:
    """Return how many checks a poll may make: if there are many intervals, a quarter of one check each."""
    return max(MIN_CHECKS, intervals // _SHARE)


class _Search:
    """Binary search for intervals with an open conversation.

    :param find: returns an open conversation of an interval
    :param result_of_none: the result of an interval that has none
    """

    def __init__(self, find: Callable[[Interval], Awaitable[Row | None]], result_of_none: Result) -> None:
        self._find = find
        self._result_of_none = result_of_none
        self.results: dict[Interval, Result | VoiceOSError] = {}

    async def run(self, groups: Iterable[list[Interval]], checks: int) -> None:
        """Search groups of intervals, with at most this number of checks."""
        queue = deque(groups)
        while queue and checks > 0:
            group = queue.popleft()
            checks -= 1
            result: Result | VoiceOSError
            try:
                row = await self._find(hull(group))
                result = Result("open", f"{row}") if row else self._result_of_none
            except VoiceOSError as error:
                if _ends_poll(error):
                    raise
                result = error
            if result is self._result_of_none or len(group) == 1:
                self.results.update(dict.fromkeys(group, result))
            else:
                half = len(group) // 2
                queue.extendleft([group[half:], group[:half]])


async def _probe(search: _Search, parts: Collection[Interval], known: Collection[Interval]) -> None:
    """Search the parts.

    :param known: those that the last polls found open
    """
    checks = max_checks(len(parts))
    fresh = _groups(parts, known)
    # Neither the fresh parts nor the known ones may use up the checks of the others.
    await search.run(fresh, checks - min(len(known), checks // 2))
    if fresh:
        checks //= 2
    if len(known) > checks:
        # Single checks would take several polls; one check shows whether all of them have ended since.
        await search.run([[*known]], 1)
        checks -= 1
    await search.run([[part] for part in known if part not in search.results], checks)


def _groups(parts: Iterable[Interval], known: Collection[Interval]) -> list[list[Interval]]:
    """Return the parts that were not open before, in groups between those that were."""
    ordered = sorted(parts, key=lambda part: (part.end, part.start))
    runs = groupby(ordered, key=lambda part: part in known)
    groups = [list(run) for is_known, run in runs if not is_known]
    if _MANY_OPEN * len(known) > len(ordered):
        # Where every third one is open, a group nearly always holds an open one, and its check is wasted.
        return [[part] for group in groups for part in group]
    return groups


def adjacent(parts: Iterable[Interval], *, longest: timedelta = timedelta.max) -> list[list[Interval]]:
    """Return the parts in groups without gaps, so that a listing of a group reads nothing else.

    :param longest: limit for the length of a group, unless a part exceeds it
    """
    groups: list[list[Interval]] = []
    for part in sorted(set(parts), key=lambda part: (part.start, part.end)):
        group = groups[-1] if groups else []
        if group and part.start <= hull(group).end and part.end - group[0].start <= longest:
            group.append(part)
        else:
            groups.append([part])
    return groups


def hull(parts: Collection[Interval]) -> Interval:
    """Return the interval from the first start to the last end."""
    return Interval(min(part.start for part in parts), max(part.end for part in parts))


def _ends_poll(error: VoiceOSError) -> bool:
    return error.retryable or isinstance(error, VoiceOSAuthError)
