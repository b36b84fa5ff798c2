"""Which conversations exist at one moment of the emulator's own story, and in what state is each at a given time?

A value: inserting or deleting makes a new one, so a request that is being answered never sees half a change.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voiceos_provider.emulator.dice import Integers
from voiceos_provider.emulator.instants import NEVER

Status = Literal["queued", "started", "ended"]
STATUSES: tuple[Status, ...] = ("queued", "started", "ended")


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Columns of equal length, ascending by creation; instants in microseconds, `NEVER` for what will not happen."""

    ordinal: NDArray[np.int32]
    created: Integers
    started: Integers
    ended: Integers
    priced: Integers
    """When the costs become known."""
    agent: NDArray[np.int8]

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
        """Which rows are in this status."""
        if status == "queued":
            return self.started > now
        if status == "ended":
            return self.ended <= now
        return (self.started <= now) & (self.ended > now)

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
