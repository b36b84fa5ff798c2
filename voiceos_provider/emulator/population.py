"""Conversations that exist, and the status of each at a given time.

A population is a value: a change makes a new one, so a request in progress never sees half a change.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voiceos_provider.emulator.dice import Integers
from voiceos_provider.emulator.instants import NEVER

Status = Literal["queued", "started", "ended"]
STATUSES: tuple[Status, ...] = ("queued", "started", "ended")


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Columns of equal length, ascending by creation; times in microseconds, `NEVER` for what does not happen."""

    ordinal: NDArray[np.int32]
    created: Integers
    started: Integers
    ended: Integers
    priced: Integers
    """When the costs become known."""
    agent: NDArray[np.int8]
    status_override: NDArray[np.int8]
    """Number of an undocumented status that the world knows; 0 for the status that the times give."""
    start_override: NDArray[np.int8]
    """Number of a text that the world shows as `started_at`; 0 for the true time."""

    def __len__(self) -> int:
        return len(self.created)

    def take(self, positions: Integers | slice) -> Population:
        """The rows at these positions, in this order."""
        return Population(*(getattr(self, field.name)[positions] for field in fields(self)))

    def with_one(self, row: Population) -> Population:
        """These rows and one more, after those created at the same instant."""
        at = np.searchsorted(self.created, row.created[0], side="right")
        return Population(
            *(np.insert(getattr(self, field.name), at, getattr(row, field.name)[0]) for field in fields(self))
        )

    def without(self, position: int) -> Population:
        """These rows but one."""
        return Population(*(np.delete(getattr(self, field.name), position) for field in fields(self)))

    def with_override(
        self, position: int, *, status: int | None = None, start: int | None = None
    ) -> Population:
        """Return these rows with another override at one position; None keeps the present one."""
        numbers = {"status_override": status, "start_override": start}
        changed = {name: getattr(self, name).copy() for name, number in numbers.items() if number is not None}
        for name, column in changed.items():
            column[position] = numbers[name]
        return replace(self, **changed)

    def position(self, ordinal: int) -> int | None:
        """Where the conversation of this ordinal is."""
        # Before anything was inserted or deleted, positions and ordinals are the same thing.
        if ordinal < len(self) and self.ordinal[ordinal] == ordinal:
            return ordinal
        found = np.flatnonzero(self.ordinal == ordinal)
        return int(found[0]) if len(found) else None

    def statuses(self, now: int) -> Integers:
        """The status of each row as an index into `STATUSES`."""
        statuses: Integers = (self.started <= now).astype(np.int64) + (self.ended <= now)
        return statuses

    def in_status(self, status: Status, now: int) -> NDArray[np.bool_]:
        """Return which rows are in this status; a row with a status override is in none."""
        documented: NDArray[np.bool_] = self.status_override == 0
        if status == "queued":
            documented &= self.started > now
        elif status == "ended":
            documented &= self.ended <= now
        else:
            documented &= (self.started <= now) & (self.ended > now)
        return documented

    def updated(self, now: int) -> Integers:
        """When each row changed last, as of now."""
        updated = self.created
        for change in (self.started, self.ended, self.priced):
            updated = np.where(change <= now, np.maximum(updated, change), updated)
        return updated

    def next_change(self, now: int) -> int:
        """The earliest instant after now at which any row changes."""
        later = [
            int(change[change > now].min(initial=NEVER)) for change in (self.started, self.ended, self.priced)
        ]
        return min(later)
