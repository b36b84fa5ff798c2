"""One poll for many interval conditions. No I/O.

If nothing is open anywhere between the first start and the last end, no interval has an open conversation: two
requests. Otherwise a binary search finds the intervals that have one. Intervals that were open in the last poll
probably still are, and are checked one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from itertools import groupby

from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import UNCONFIRMED, IntervalCondition, Result
from voiceos_provider.polling.queries import Query, Row, first_open, first_open_listed

MIN_CHECKS = 20
_SHARE = 4
_MANY_OPEN = 3

Results = dict[IntervalCondition, Result | VoiceOSError]
"""The result of each condition, or the error that prevented one. A missing condition is checked in a later poll."""


def check_all(
    conditions: Collection[IntervalCondition],
    *,
    now: datetime,
    open_before: Collection[IntervalCondition] = (),
    unconfirmed: Collection[IntervalCondition] = (),
) -> Query[Results]:
    """Check all conditions, within two budgets of `max_checks` checks each.

    One is for conditions that wait for their first result: a check is one or two requests of one row. The other is for
    the unconfirmed: a check reads a listing. Conditions beyond a budget are checked in a later poll. Counting
    `min_conversations` is in neither: it is due once for each condition that has ended.

    A retryable error or a refused token ends the poll, and is the result of every remaining condition. Any other
    error is the result of its condition only.

    :param conditions: the conditions
    :param now: the time
    :param open_before: those that the last polls found open, the one checked longest ago first
    :param unconfirmed: those that the last poll left unconfirmed; their listings are read
    """
    results: Results = {}
    ended: list[IntervalCondition] = []
    parts: dict[Interval, list[IntervalCondition]] = {}
    to_confirm: dict[Interval, list[IntervalCondition]] = {}
    for condition in dict.fromkeys(conditions):
        if now < condition.readable_at:
            results[condition] = condition.not_readable()
        elif part := condition.young_part(now):
            (to_confirm if condition in unconfirmed else parts).setdefault(part, []).append(condition)
        else:
            ended.append(condition)
    part_of = {condition: part for part, same in parts.items() for condition in same}
    known = dict.fromkeys(part_of[condition] for condition in open_before if condition in part_of)
    fresh = _groups(parts, known)
    checks = max_checks(len(parts))
    try:
        confirmed = _Search(to_confirm, first_open_listed, results, ended.append)
        yield from confirmed.run(_adjacent(to_confirm), max_checks(len(to_confirm)))
        search = _Search(
            parts, first_open, results, lambda condition: results.update({condition: UNCONFIRMED})
        )
        # Neither the fresh parts nor the known ones may use up the checks of the others.
        yield from search.run(fresh, checks - min(len(known), checks // 2))
        yield from _check_known(search, list(known), checks // 2 if fresh else checks)
    except VoiceOSError as error:
        done = {*results, *ended}
        waiting = (condition for same in (*parts.values(), *to_confirm.values()) for condition in same)
        results.update({condition: error for condition in waiting if condition not in done})
    for condition in ended:
        try:
            results[condition] = yield from condition.check_count()
        except VoiceOSError as error:
            results[condition] = error
    return results


def _check_known(search: _Search, known: list[Interval], checks: int) -> Query[None]:
    """Check the parts that were open before, one by one, with at most this number of checks."""
    if len(known) > checks:
        # Single checks would take several polls; one check shows whether all of them have ended since.
        yield from search.run([known], 1)
        checks -= 1
        if search.has_none_open(known[0]):
            return
    yield from search.run([[part] for part in known], checks)


def max_checks(intervals: int) -> int:
    """Return how many checks a poll may make: if there are many intervals, a quarter of one check each."""
    return max(MIN_CHECKS, intervals // _SHARE)


def _groups(parts: Iterable[Interval], known: Collection[Interval]) -> list[list[Interval]]:
    """Return the parts that were not open before, in groups between those that were."""
    ordered = sorted(parts, key=lambda part: (part.end, part.start))
    runs = groupby(ordered, key=lambda part: part in known)
    groups = [list(run) for is_known, run in runs if not is_known]
    if _MANY_OPEN * len(known) > len(ordered):
        # Where every third one is open, a group nearly always holds an open one, and its check is wasted.
        return [[part] for group in groups for part in group]
    return groups


def _adjacent(parts: Iterable[Interval]) -> list[list[Interval]]:
    """Return the parts in groups without gaps, so that a listing of a group reads nothing else."""
    groups: list[list[Interval]] = []
    for part in sorted(parts, key=lambda part: (part.start, part.end)):
        if groups and part.start <= max(other.end for other in groups[-1]):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


class _Search:
    """Searches groups of intervals for those with an open conversation.

    :param parts: the intervals and their conditions
    :param find: the query for an open conversation
    :param results: takes the results of conditions with an open conversation, and errors
    :param on_none: called with each condition whose interval has no open conversation
    """

    def __init__(
        self,
        parts: dict[Interval, list[IntervalCondition]],
        find: Callable[[Interval], Query[Row | None]],
        results: Results,
        on_none: Callable[[IntervalCondition], object],
    ) -> None:
        self._parts = parts
        self._find = find
        self._results = results
        self._on_none = on_none

    def has_none_open(self, part: Interval) -> bool:
        """Return whether a check has found no open conversation in an interval."""
        return self._results.get(self._parts[part][0]) is UNCONFIRMED

    def run(self, groups: Sequence[list[Interval]], checks: int) -> Query[None]:
        """Search the groups, sending at most this number of checks."""
        queue = deque(groups)
        while queue and checks > 0:
            group = queue.popleft()
            checks -= 1
            result: Result | VoiceOSError
            try:
                row = yield from self._find(Interval(min(p.start for p in group), max(p.end for p in group)))
            except VoiceOSError as error:
                if error.retryable or isinstance(error, VoiceOSAuthError):
                    raise
                result = error
            else:
                if row is None:
                    for part in group:
                        for condition in self._parts[part]:
                            self._on_none(condition)
                    continue
                result = Result("open", f"{row}")
            if len(group) == 1:
                self._results.update(dict.fromkeys(self._parts[group[0]], result))
            else:
                half = len(group) // 2
                queue.extendleft([group[half:], group[:half]])
