"""Which conversations have ended since the last look? No I/O.

The API tells neither when a conversation was created nor when one changed. So time is cut into slices, as it passes;
a slice is over when all conversations created in it have ended; and then they are listed, once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.conditions import Finding, Window
from voiceos_provider.polling.queries import Look, Pages, Row, judged
from voiceos_provider.polling.shared_poll import survey

_LONGEST = timedelta(minutes=15)
_SLICES_IN_MAX_AGE = 500


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one has come: a plain value, small enough to be stored after each look.

    :param head: what was created before has been cut into slices
    :param open: the slices in which calls go on, the one looked at longest ago first
    :param unknown: the other slices that are to be told
    """

    head: datetime
    open: tuple[Interval, ...] = ()
    unknown: tuple[Interval, ...] = ()

    def without(self, told: Collection[Interval]) -> Cursor:
        """Once these slices have been told."""
        return Cursor(
            self.head,
            tuple(part for part in self.open if part not in told),
            tuple(part for part in self.unknown if part not in told),
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"head": isoformat(self.head), "open": _listed(self.open), "unknown": _listed(self.unknown)}

    @classmethod
    def from_dict(cls, stored: Any) -> Cursor:
        """Back again."""
        parts = (tuple(Interval.parse(*bounds) for bounds in stored[name]) for name in ("open", "unknown"))
        return cls(datetime.fromisoformat(stored["head"]), *parts)


@dataclass(frozen=True, slots=True)
class Ended:
    """All conversations created in an interval have ended, or were let go of."""

    interval: Interval
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """Ids and counts, and nothing personal."""
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
    """What one look has brought.

    :param told: what has ended, each with the cursor that holds once it has been told
    :param cursor: the one that holds after all of them
    :param error: what kept the look from finding more
    """

    told: tuple[tuple[Ended, Cursor], ...]
    cursor: Cursor
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Slicing:
    """How time is cut.

    :param shortest: a slice is no shorter; as long as between two looks
    :param visibility_delay: how long a conversation may take to show up
    :param max_age: a slice is over at this age, whoever is still open in it
    """

    shortest: timedelta
    visibility_delay: timedelta
    max_age: timedelta

    def look(self, cursor: Cursor, now: datetime) -> Look[Progress]:
        """Cut what time has brought, and find the slices that are over."""
        known = [self._window(part) for part in cursor.open]
        fresh = [self._window(part) for part in (*cursor.unknown, *self._cut(cursor.head, now))]
        found = yield from survey([*known, *fresh], now=now, open_before=known)
        error = next((f for f in found.values() if isinstance(f, VoiceOSError)), None)
        over = [w.interval for w, f in found.items() if isinstance(f, Finding) and f.ended]
        asked = [w.interval for w, f in found.items() if isinstance(f, Finding) and not f.ended]
        every = [window.interval for window in (*known, *fresh)]
        answered = {*over, *asked}
        open_ = (*(part for part in cursor.open if part not in answered), *asked)
        still_open = set(open_)
        head = max([cursor.head, *(part.end for part in every)])
        cursor = Cursor(head, open_, tuple(part for part in every if part not in still_open))
        told: list[tuple[Ended, Cursor]] = []
        for run in _runs(over):
            hull = Interval(run[0].start, run[-1].end)
            try:
                rows = yield from _all_of(hull)
            except VoiceOSError as refused:
                error = error or refused
                break
            cursor = cursor.without(run)
            if rows:
                told.append((Ended(hull, rows), cursor))
        return Progress(tuple(told), cursor, error)

    def _window(self, part: Interval) -> Window:
        return Window(part, self.max_age, visibility_delay=timedelta(0))

    def _cut(self, head: datetime, now: datetime) -> Iterator[Interval]:
        """Slice what has settled: shortly where calls may go on, at length where none is waited for."""
        shortest = max(self.shortest, self.max_age / _SLICES_IN_MAX_AGE)
        longest = max(_LONGEST, shortest)
        until, let_go_of = now - self.visibility_delay, now - self.max_age
        while until - head >= shortest:
            end = head + (longest if let_go_of - head >= longest else shortest)
            yield Interval(head, end)
            head = end


def _listed(slices: Iterable[Interval]) -> list[list[str]]:
    return [[isoformat(part.start), isoformat(part.end)] for part in slices]


def _runs(slices: Iterable[Interval]) -> list[list[Interval]]:
    """The slices in the order of time; those that touch together, up to the longest slice there is."""
    runs: list[list[Interval]] = []
    for part in sorted(slices, key=lambda part: part.start):
        if runs and runs[-1][-1].end == part.start and part.end - runs[-1][0].start <= _LONGEST:
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _all_of(interval: Interval) -> Look[tuple[Row, ...]]:
    found: dict[str | None, Row] = {}
    pages = Pages(interval)
    while (rows := (yield from judged(pages))) is not None:
        found.update({row.id: row for row in rows})
    return tuple(found.values())
