"""Pending conversations: not ended at the export of their interval, and requested by a later export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from voiceos_provider.interval import Interval


@dataclass(frozen=True, slots=True)
class IntervalOutcome:
    """What the export of one interval left to later ones.

    :param pending: conversations of it that had not ended
    :param resolved: conversations of earlier intervals that it has exported as ended, or found deleted
    """

    interval: Interval
    pending: frozenset[str]
    resolved: frozenset[str]


@dataclass(frozen=True, slots=True)
class PendingConversations:
    """What an export requests by id.

    :param ids: conversations of earlier intervals that no export has resolved, with the interval of each
    :param abandoned: those that have become too old since the interval before
    """

    ids: Mapping[str, Interval] = field(default_factory=dict)
    abandoned: tuple[str, ...] = ()


def lookback_start(interval: Interval, max_age: timedelta) -> datetime:
    """Return the end of the earliest interval whose conversations are requested."""
    return interval.start - _capped(interval, max_age)


def previous_lookback_start(interval: Interval, max_age: timedelta) -> datetime:
    """Return the same for the interval before; what lies between the two is abandoned now."""
    age = _capped(interval, max_age) + (interval.end - interval.start)
    return lookback_start(interval, age)


def _capped(interval: Interval, age: timedelta) -> timedelta:
    return min(age, interval.start - datetime.min.replace(tzinfo=interval.start.tzinfo))


def is_relevant(other: Interval, interval: Interval, max_age: timedelta) -> bool:
    """Return whether the outcome of another interval can matter to the export of this one.

    An earlier one matters if it is not too old, a later one if it may have resolved a conversation that is not.
    """
    lasts_to = interval.end + min(max_age, datetime.max.replace(tzinfo=interval.end.tzinfo) - interval.end)
    return other.end > previous_lookback_start(interval, max_age) and other.start <= lasts_to


def find_pending(
    outcomes: Iterable[IntervalOutcome], interval: Interval, max_age: timedelta
) -> PendingConversations:
    """Return the conversations of earlier intervals that an export requests.

    What the interval's own earlier export has resolved is requested again, because that export is about to be replaced.
    A repeated run therefore requests the same ids, and finds at least as many.

    :param outcomes: those of all relevant intervals, in any order
    :param max_age: how long after the end of its interval a conversation is requested
    """
    others = [outcome for outcome in outcomes if outcome.interval != interval]
    resolved = frozenset[str]().union(*(outcome.resolved for outcome in others))
    ids: dict[str, Interval] = {}
    abandoned: dict[str, Interval] = {}
    for outcome in sorted(others, key=lambda outcome: outcome.interval.end):
        ended = outcome.interval.end
        if ended > interval.end or ended <= previous_lookback_start(interval, max_age):
            continue
        kept = ids if ended > lookback_start(interval, max_age) else abandoned
        kept.update(dict.fromkeys(sorted(outcome.pending - resolved), outcome.interval))
    return PendingConversations(ids, tuple(id_ for id_ in abandoned if id_ not in ids))


def split_by_age(
    found: Mapping[str, Interval], interval: Interval, max_age: timedelta
) -> PendingConversations:
    """Return conversations of earlier intervals that have not ended, apart from those that have become too old.

    :param found: the conversations since `previous_lookback_start`, with the interval of each
    """
    start = lookback_start(interval, max_age)
    ids = {id_: other for id_, other in found.items() if other.end > start}
    return PendingConversations(ids, tuple(id_ for id_ in found if id_ not in ids))
