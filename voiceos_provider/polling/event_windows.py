"""Windows of creation time whose conversations have ended since the last poll. No I/O.

The API returns neither creation times nor modification times, so elapsed time is divided into windows. A window
causes an event when two polls find no open conversation in it; the second poll reads the whole listing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.conditions import IntervalCondition, Result
from voiceos_provider.polling.queries import Query, Row, list_interval
from voiceos_provider.polling.shared_poll import check_all

_LONGEST = timedelta(minutes=15)
_WINDOWS_IN_MAX_AGE = 500
_REPORTED = 50_000


@dataclass(frozen=True, slots=True)
class Cursor:
    """Progress of a watch: a plain value, small enough to be stored after each poll.

    :param head: the end of the last window
    :param open: windows with open conversations, the one checked longest ago first
    :param unconfirmed: windows in which the last poll found nothing open
    :param unchecked: the other windows for which an event is due
    """

    head: datetime
    open: tuple[Interval, ...] = ()
    unconfirmed: tuple[Interval, ...] = ()
    unchecked: tuple[Interval, ...] = ()

    def without(self, done: Collection[Interval]) -> Cursor:
        """Return the cursor without these windows."""
        lists = (self.open, self.unconfirmed, self.unchecked)
        return Cursor(
            self.head, *(tuple(window for window in windows if window not in done) for windows in lists)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return {
            "head": isoformat(self.head),
            "open": _as_list(self.open),
            "unconfirmed": _as_list(self.unconfirmed),
            "unchecked": _as_list(self.unchecked),
        }

    @classmethod
    def from_dict(cls, stored: Any) -> Cursor:
        """Return the cursor that `as_dict` was called on."""
        names = ("open", "unconfirmed", "unchecked")
        lists = (tuple(Interval.parse(*bounds) for bounds in stored[name]) for name in names)
        return cls(datetime.fromisoformat(stored["head"]), *lists)


class Reported:
    """The last conversations that were in an event: a listing repeats those of the second before its window."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def add(self, rows: Iterable[Row]) -> tuple[Row, ...]:
        """Return the rows that were in no event yet."""
        new = tuple(row for row in rows if row.id is None or row.id not in self._ids)
        self._ids.update(dict.fromkeys(row.id for row in new if row.id is not None))
        for id_ in list(self._ids)[: len(self._ids) - _REPORTED]:
            del self._ids[id_]
        return new


@dataclass(frozen=True, slots=True)
class EndedWindow:
    """A window whose conversations have all ended, or are older than `max_age`."""

    interval: Interval
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the payload of the event: ids and counts, no personal data."""
        ended = [row.id for row in self.rows if not row.is_open]
        abandoned = [row.id for row in self.rows if row.is_open]
        return {
            "interval_start": isoformat(self.interval.start),
            "interval_end": isoformat(self.interval.end),
            "counts": {"ended": len(ended), "abandoned": len(abandoned)},
            "conversation_ids": ended,
            "abandoned": abandoned,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of one poll.

    :param events: the ended windows, each with the cursor that is valid once its event is stored
    :param cursor: the cursor after all of them
    :param error: the error that ended the poll early
    """

    events: tuple[tuple[EndedWindow, Cursor], ...]
    cursor: Cursor
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class EventWindows:
    """The rules by which time is cut into windows.

    :param shortest: the least length of a window; the time between two polls
    :param visibility_delay: time after its creation in which a conversation may be missing from listings
    :param max_age: at this age a window has ended, with its open conversations abandoned
    """

    shortest: timedelta
    visibility_delay: timedelta
    max_age: timedelta

    def poll(self, cursor: Cursor, now: datetime, reported: Reported) -> Query[Progress]:
        """Cut the time since the last poll into windows, and find those that have ended.

        :param reported: the conversations of earlier events
        """
        new = tuple(self._cut(cursor.head, now))
        head = new[-1].end if new else cursor.head
        cursor = Cursor(head, cursor.open, cursor.unconfirmed, (*cursor.unchecked, *new))
        too_old = [w for w in (*cursor.open, *cursor.unchecked) if self._condition(w).young_part(now) is None]
        events, cursor, error = yield from self._confirm(
            cursor, (*cursor.unconfirmed, *too_old), now, reported
        )
        if error is None:
            cursor, error = yield from self._check(cursor, now)
        return Progress(tuple(events), cursor, error)

    def _check(self, cursor: Cursor, now: datetime) -> Query[tuple[Cursor, Exception | None]]:
        """Sort the windows into those with open conversations and those to be confirmed by the next poll."""
        known = [self._condition(window) for window in cursor.open]
        fresh = [self._condition(window) for window in cursor.unchecked]
        results = yield from check_all([*known, *fresh], now=now, open_before=known)
        error = next((result for result in results.values() if isinstance(result, VoiceOSError)), None)
        still_open: list[Interval] = []
        unconfirmed: list[Interval] = []
        for condition, result in results.items():
            if isinstance(result, Result):
                (still_open if result.state == "open" else unconfirmed).append(condition.interval)
        rest = cursor.without({*still_open, *unconfirmed})
        return (
            Cursor(rest.head, (*rest.open, *still_open), (*rest.unconfirmed, *unconfirmed), rest.unchecked),
            error,
        )

    def _confirm(
        self, cursor: Cursor, windows: Iterable[Interval], now: datetime, reported: Reported
    ) -> Query[tuple[list[tuple[EndedWindow, Cursor]], Cursor, Exception | None]]:
        """Read the listings of windows, and return an event for each run of windows that have ended."""
        events: list[tuple[EndedWindow, Cursor]] = []
        runs = _runs(windows)
        while runs:
            run = runs.pop(0)
            hull = Interval(run[0].start, run[-1].end)
            try:
                rows = yield from list_interval(hull)
            except VoiceOSError as error:
                return events, cursor, error
            if any(row.is_open for row in rows) and self._condition(run[-1]).young_part(now):
                if len(run) > 1:  # a row does not say in which of the windows it was created
                    runs[:0] = [[window] for window in run]
                else:
                    cursor = cursor.without(run)
                    cursor = Cursor(cursor.head, (*cursor.open, hull), cursor.unconfirmed, cursor.unchecked)
                continue
            cursor = cursor.without(run)
            if new := reported.add(rows):
                events.append((EndedWindow(hull, new), cursor))
        return events, cursor, None

    def _condition(self, window: Interval) -> IntervalCondition:
        return IntervalCondition(window, self.max_age, visibility_delay=timedelta(0))

    def _cut(self, head: datetime, now: datetime) -> Iterator[Interval]:
        """Cut the time that has become readable: into long windows where they are too old to have open ones."""
        # Windows begin and end on whole seconds, which every server compares alike.
        seconds = math.ceil(max(self.shortest, self.max_age / _WINDOWS_IN_MAX_AGE).total_seconds())
        shortest = timedelta(seconds=max(seconds, 1))
        longest = max(_LONGEST, shortest)
        head = head.replace(microsecond=0)
        until, abandoned_before = now - self.visibility_delay, now - self.max_age
        while until - head >= shortest:
            end = head + (longest if abandoned_before - head >= longest else shortest)
            yield Interval(head, end)
            head = end


def _as_list(windows: Iterable[Interval]) -> list[list[str]]:
    return [[isoformat(window.start), isoformat(window.end)] for window in windows]


def _runs(windows: Iterable[Interval]) -> list[list[Interval]]:
    """Return the windows in order of time, those that touch in one list, up to the longest window there is."""
    runs: list[list[Interval]] = []
    for window in sorted(windows, key=lambda window: window.start):
        if runs and runs[-1][-1].end == window.start and window.end - runs[-1][0].start <= _LONGEST:
            runs[-1].append(window)
        else:
            runs.append([window])
    return runs
