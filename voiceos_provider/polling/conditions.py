"""Conditions: all conversations of an interval, or conversations given by their ids, have ended.

One poll checks all conditions. If nothing is open anywhere between the first start and the last end, no interval has an
open conversation: two requests. Otherwise a binary search finds the intervals that have one. Intervals that were open
in the last poll probably still are, and are checked one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Literal

from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError, VoiceOSNotFoundError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.polling_client import OPEN, PollingClient, Row

MIN_CHECKS = 20
_SHARE = 4
_MANY_OPEN = 3


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check.

    :param state: `unconfirmed` if no open conversation was found, and the next check has to agree
    :param abandoned: open conversations that are older than `max_age`, if the condition is one of ids
    """

    state: Literal["open", "unconfirmed", "ended"]
    reason: str = ""
    abandoned: tuple[Row, ...] = ()


MET = Result("ended")
UNCONFIRMED = Result("unconfirmed", "no open conversation was found; the next poll has to confirm it")


@dataclass(frozen=True, slots=True)
class IntervalCondition:
    """All conversations created in an interval have ended.

    A value: tasks with equal conditions share one check.

    :param max_age: conversations created longer ago than this are not waited for; None waits for all
    :param visibility_delay: time after its creation in which a conversation may be missing from listings
    """

    interval: Interval
    max_age: timedelta | None
    visibility_delay: timedelta
    min_conversations: int = 0

    def __str__(self) -> str:
        return f"the conversations created in {self.interval}"

    @property
    def scope(self) -> dict[str, Any]:
        """The arguments by which users choose the conversations."""
        start, end = isoformat(self.interval.start), isoformat(self.interval.end)
        return {"interval_start": start, "interval_end": end, "conversation_ids": None}

    @property
    def readable_at(self) -> datetime:
        """The instant from which on no further conversation of the interval appears."""
        return self.interval.end + self.visibility_delay

    def young_part(self, now: datetime) -> Interval | None:
        """Return the part whose conversations are waited for; None if all are older than `max_age`."""
        start = self.interval.start
        with suppress(OverflowError):  # before the year 1
            start = max(start, now - self.max_age) if self.max_age is not None else start
        return Interval(start, self.interval.end) if start < self.interval.end else None

    async def check_count(self, client: PollingClient) -> Result:
        """Check `min_conversations`, after all have ended."""
        least = self.min_conversations
        count = len(await client.list_interval(self.interval, enough=least)) if least else 0
        if count >= least:
            return MET
        return Result("open", f"the interval has {count:,} of at least {least:,} conversations")

    async def find_abandoned(self, client: PollingClient) -> tuple[Row, ...]:
        """Return the open conversations that are older than `max_age`."""
        young = self.young_part(client.clock.now())
        found: dict[str | None, Row] = {}
        for old in self.interval.without([young] if young else []):
            for status in OPEN:
                rows = await client.list_interval(old, status=status)
                found.update({row.id: row for row in rows if row.is_open})
        return tuple(found.values())


@dataclass(eq=False, slots=True)
class IdsCondition:
    """The conversations with these ids have ended.

    A check stops at the first open one, and never requests an ended one again: `ended` is final. So the whole wait
    takes one request per id, and one per poll.

    :param max_age: an open conversation of this age is abandoned. Age counts from its start or, while it is queued,
        from the beginning of the wait, since the API does not return creation times
    :param visibility_delay: time after the beginning of the wait in which an id may be unknown
    :param since: the beginning of the wait
    """

    ids: tuple[str, ...]
    max_age: timedelta | None
    visibility_delay: timedelta
    since: datetime
    ended: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{len(self.ids):,} conversations"

    @property
    def scope(self) -> dict[str, Any]:
        """The arguments by which users choose the conversations."""
        return {"interval_start": None, "interval_end": None, "conversation_ids": list(self.ids)}

    @property
    def remaining(self) -> list[str]:
        """The ids that are not known to have ended."""
        return [id_ for id_ in self.ids if id_ not in self.ended]

    async def check(self, client: PollingClient) -> Result:
        """Check the condition; raise `VoiceOSNotFoundError` if an id is unknown after `visibility_delay`."""
        now = client.clock.now()
        abandoned: list[Row] = []
        for id_ in self.remaining:
            try:
                row = await client.get(id_)
            except VoiceOSNotFoundError as error:
                if now - self.since < self.visibility_delay:
                    return Result("open", f"conversation {id_} is not there yet")
                raise VoiceOSNotFoundError(
                    f"Check conversation_ids: there is no conversation {id_!r}, or it was deleted. {error}",
                    *error.args[1:],
                ) from error
            if not row.is_open:
                self.ended.add(id_)
            elif self.max_age is not None and now - (row.started_at or self.since) >= self.max_age:
                abandoned.append(row)
            else:
                return Result("open", f"{row}")
        return Result("ended", abandoned=tuple(abandoned))


Condition = IntervalCondition | IdsCondition
Results = dict[Condition, Result | VoiceOSError]
"""The result of each condition, or the error that prevented one. A missing condition is checked in a later poll."""


async def check_all(
    client: PollingClient, conditions: Collection[Condition], states: Mapping[Any, str]
) -> Results:
    """Check all conditions; intervals within two budgets of `max_checks` checks each.

    A check of the unconfirmed reads a listing, which shows every state and is not misled by a replica that lags. The
    other checks are one or two requests of one row. Conditions beyond a budget have no result. Counting
    `min_conversations` is in neither budget: it is due once for each condition that has ended.

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
            begin = isoformat(condition.readable_at)
            reason = f"reading starts at {begin}, visibility_delay after the interval"
            results[condition] = Result("open", reason)
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
    """Binary search for intervals with an open conversation. The others get the result `result_of_none`."""

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
    """Search the parts. The last polls found `known` open."""
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
    """Return the parts in groups without gaps, up to a length, so that a listing of a group reads nothing else."""
    groups: list[list[Interval]] = []
    end: datetime | None = None
    for part in sorted(set(parts), key=lambda part: (part.start, part.end)):
        if end and part.start <= end and part.end - groups[-1][0].start <= longest:
            groups[-1].append(part)
            end = max(end, part.end)
        else:
            groups.append([part])
            end = part.end
    return groups


def hull(parts: Collection[Interval]) -> Interval:
    """Return the interval from the first start to the last end."""
    return Interval(min(part.start for part in parts), max(part.end for part in parts))


def _ends_poll(error: VoiceOSError) -> bool:
    return error.retryable or isinstance(error, VoiceOSAuthError)
