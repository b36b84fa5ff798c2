"""Windows of creation time whose conversations have ended since the last poll.

The API returns neither creation times nor modification times, so elapsed time is divided into windows. A window
causes an event when two polls find no open conversation in it; the second poll reads the whole listing. The windows
of an export are in `extract.windows`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.conditions import IntervalCondition, Result, adjacent, check_all, hull
from voiceos_provider.polling.polling_client import PollingClient, Row

_LONGEST = timedelta(minutes=15)
_WINDOWS_IN_MAX_AGE = 500
_REPORTED = 50_000
_STATES = ("open", "unconfirmed", "unchecked")


@dataclass
class EventWindows:
    """The windows of one watch for which an event is due.

    :param poke_interval: the least length of a window
    :param max_age: at this age a window has ended, with its open conversations abandoned
    :param head: the beginning of the next window
    """

    poke_interval: timedelta
    visibility_delay: timedelta
    max_age: timedelta
    head: datetime
    # In each state, the window that was checked longest ago comes first.
    _states: dict[Interval, str] = field(default_factory=dict)
    _reported: dict[str, None] = field(default_factory=dict)

    @property
    def cursor(self) -> dict[str, Any]:
        """The progress: a value for JSON, small enough to be stored after each poll."""
        cursor: dict[str, Any] = {state: [] for state in _STATES}
        for window, state in self._states.items():
            cursor[state].append([isoformat(window.start), isoformat(window.end)])
        return {"head": isoformat(self.head), **cursor}

    def restore(self, cursor: dict[str, Any]) -> None:
        """Continue from the cursor of an earlier watch."""
        states = {Interval.parse(*bounds): state for state in _STATES for bounds in cursor[state]}
        self.head, self._states = datetime.fromisoformat(cursor["head"]), states

    async def poll(self, client: PollingClient) -> AsyncGenerator[dict[str, Any]]:
        """Find the windows that have ended, and yield the payload of each event: ids and counts, no personal data.

        At each payload the cursor is the one that is valid once this event is stored.
        """
        now = client.clock.now()
        self._add_windows(now)
        due = [w for w, state in self._states.items() if state == "unconfirmed" or self._is_too_old(w, now)]
        runs = adjacent(due, longest=_LONGEST)
        while runs:
            run = runs.pop(0)
            rows = await client.list_interval(hull(run))
            if any(row.is_open for row in rows) and not self._is_too_old(run[-1], now):
                if len(run) > 1:  # a row does not say in which of the windows it was created
                    runs[:0] = [[window] for window in run]
                else:
                    self._set_state(run[0], "open")
                continue
            for window in run:
                del self._states[window]
            if new := self._not_reported(rows):
                yield _payload(hull(run), new)
        await self._check(client)

    async def _check(self, client: PollingClient) -> None:
        """Sort the windows into those with open conversations and those to be confirmed by the next poll."""
        conditions = {
            IntervalCondition(window, self.max_age, visibility_delay=timedelta(0)): state
            for window, state in self._states.items()
        }
        results = await check_all(client, conditions, conditions)
        for condition in conditions:
            result = results.get(condition)
            if isinstance(result, Result):
                self._set_state(condition.interval, "open" if result.state == "open" else "unconfirmed")
        for result in results.values():
            if isinstance(result, VoiceOSError):
                raise result

    def _set_state(self, window: Interval, state: str) -> None:
        self._states.pop(window)
        self._states[window] = state

    def _is_too_old(self, window: Interval, now: datetime) -> bool:
        return now - self.max_age >= window.end

    def _not_reported(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows that were in no event: a listing repeats those of the second before its window."""
        new = [row for row in rows if row.id not in self._reported]
        self._reported.update(dict.fromkeys(row.id for row in new if row.id is not None))
        for id_ in list(self._reported)[: len(self._reported) - _REPORTED]:
            del self._reported[id_]
        return new

    def _add_windows(self, now: datetime) -> None:
        """Cut the time that has become readable: into long windows where they are too old to have open ones."""
        # Windows begin and end on whole seconds, which every server compares alike.
        seconds = math.ceil(max(self.poke_interval, self.max_age / _WINDOWS_IN_MAX_AGE).total_seconds())
        shortest = timedelta(seconds=max(seconds, 1))
        longest = max(_LONGEST, shortest)
        start = self.head.replace(microsecond=0)
        while now - self.visibility_delay - start >= shortest:
            is_old = now - self.max_age - start >= longest
            end = start + (longest if is_old else shortest)
            self._states[Interval(start, end)] = "unchecked"
            self.head = start = end


def _payload(interval: Interval, rows: list[Row]) -> dict[str, Any]:
    ended = [row.id for row in rows if not row.is_open]
    abandoned = [row.id for row in rows if row.is_open]
    return {
        "interval_start": isoformat(interval.start),
        "interval_end": isoformat(interval.end),
        "counts": {"ended": len(ended), "abandoned": len(abandoned)},
        "conversation_ids": ended,
        "abandoned": abandoned,
    }
