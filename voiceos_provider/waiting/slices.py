"""Which conversations have ended since the last look? No I/O.

The API tells neither when a conversation was created nor when one changed. So time is cut into slices, as it passes;
a slice is over when all conversations created in it have ended; and then they are listed, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.waiting.looks import Look, Pages, Row, require_interval
from voiceos_provider.waiting.questions import Finding, Window
from voiceos_provider.waiting.survey import survey

_LONGEST = timedelta(minutes=15)
_SLICES_IN_MAX_AGE = 500


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one has come: a plain value, small enough to be stored after each look.

    :param head: what was created before has been cut into slices
    :param open: the slices that are not over, the one looked at longest ago first
    """

    head: datetime
    open: tuple[Interval, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        slices = [[isoformat(part.start), isoformat(part.end)] for part in self.open]
        return {"head": isoformat(self.head), "open": slices}

    @classmethod
    def from_dict(cls, stored: Any) -> Cursor:
        """Back again."""
        slices = tuple(Interval.parse(start, end) for start, end in stored["open"])
        return cls(datetime.fromisoformat(stored["head"]), slices)


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
    :param settle: how long a conversation may take to show up
    :param max_age: a slice is over at this age, whoever is still open in it
    """

    shortest: timedelta
    settle: timedelta
    max_age: timedelta

    def look(self, cursor: Cursor, now: datetime) -> Look[Progress]:
        """Cut what time has brought, and find the slices that are over."""
        cursor = self._cut(cursor, now)
        windows = [Window(part, self.max_age, timedelta(0)) for part in cursor.open]
        found = yield from survey(windows, now=now, open_before=windows)
        error = next((f for f in found.values() if isinstance(f, VoiceOSError)), None)
        over = [w.interval for w, f in found.items() if isinstance(f, Finding) and f.ended]
        asked = [window.interval for window in found]
        waiting = [part for part in cursor.open if part not in asked] + asked  # longest ago first
        told: list[tuple[Ended, Cursor]] = []
        cursor = replace(cursor, open=tuple(waiting))
        for run in _runs(over):
            hull = Interval(run[0].start, run[-1].end)
            try:
                rows = yield from _all_of(hull)
            except VoiceOSError as refused:
                error = error or refused
                break
            cursor = replace(cursor, open=tuple(part for part in cursor.open if part not in run))
            if rows:
                told.append((Ended(hull, rows), cursor))
        return Progress(tuple(told), cursor, error)

    def _cut(self, cursor: Cursor, now: datetime) -> Cursor:
        """Slice what has settled: shortly where calls may go on, at length where none is waited for."""
        shortest = max(self.shortest, self.max_age / _SLICES_IN_MAX_AGE)
        longest = max(_LONGEST, shortest)
        until, let_go_of = now - self.settle, now - self.max_age
        slices, head = [], cursor.head
        while until - head >= shortest:
            end = head + (longest if let_go_of - head >= longest else shortest)
            slices.append(Interval(head, end))
            head = end
        return Cursor(head, (*slices, *cursor.open))


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
    while (rows := (yield pages)) is not None:
        require_interval(rows, interval)
        found.update({row.id: row for row in rows})
    return tuple(found.values())
