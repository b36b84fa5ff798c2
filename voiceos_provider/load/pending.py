"""Which conversations of earlier intervals had not ended when they were exported, and who has seen them end since?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from voiceos_provider.interval import Interval


@dataclass(frozen=True, slots=True)
class Account:
    """What the export of one interval said of conversations that end late.

    :param interval: the interval
    :param pending: those of it that had not ended
    :param settled: those of earlier intervals of which it saw the end
    """

    interval: Interval
    pending: frozenset[str]
    settled: frozenset[str]


@dataclass(frozen=True, slots=True)
class Due:
    """What an export should ask for by id.

    :param ids: conversations of earlier intervals that nobody has seen end, with the interval of each
    :param abandoned: those that are too old to be asked for any more, and were not too old for the interval before
    """

    ids: Mapping[str, Interval] = field(default_factory=dict)
    abandoned: tuple[str, ...] = ()


def since(interval: Interval, max_age: timedelta) -> datetime:
    """Intervals that ended before this instant do not matter any more."""
    return oldest(interval, capped(interval, max_age) + (interval.end - interval.start))


def oldest(interval: Interval, age: timedelta) -> datetime:
    """So long before the interval begins, or the first instant there is."""
    return interval.start - capped(interval, age)


def capped(interval: Interval, age: timedelta) -> timedelta:
    """An age, or that of the first instant there is."""
    return min(age, interval.start - datetime.min.replace(tzinfo=interval.start.tzinfo))


def due(accounts: Iterable[Account], interval: Interval, max_age: timedelta) -> Due:
    """What an export of the interval should ask for.

    What the interval's own earlier export settled is asked for again, since that export is about to be replaced. So a
    run that is repeated asks for the same, and finds at least as much.

    :param max_age: how long after the end of its interval a conversation is asked for
    """
    others = [account for account in accounts if account.interval != interval]
    settled = frozenset[str]().union(*(account.settled for account in others))
    ids: dict[str, Interval] = {}
    abandoned: dict[str, Interval] = {}
    for account in sorted(others, key=lambda account: account.interval.end):
        if account.interval.end > interval.end or account.interval.end <= since(interval, max_age):
            continue
        kept = ids if account.interval.end > oldest(interval, max_age) else abandoned
        kept.update(dict.fromkeys(sorted(account.pending - settled), account.interval))
    return Due(ids, tuple(id_ for id_ in abandoned if id_ not in ids))
