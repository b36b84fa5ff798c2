"""Conversations that exist, their ids, and the status of each at a given time.

A population is a value: a change makes a new one, so a request in progress never sees half a change. An id looks like
any random UUID. Its first 32 bits are the ordinal, shuffled by an invertible function, so a conversation is found by
its id without an index of a million ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voiceos_provider.emulator.rng import Integers, Ordinals, random_number, random_numbers
from voiceos_provider.emulator.timestamps import NEVER

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
        """Return the rows at these positions, in this order."""
        return Population(*(getattr(self, field.name)[positions] for field in fields(self)))

    def with_one(self, row: Population) -> Population:
        """Return these rows and one more, after those created at the same time."""
        at = np.searchsorted(self.created, row.created[0], side="right")
        return Population(
            *(np.insert(getattr(self, field.name), at, getattr(row, field.name)[0]) for field in fields(self))
        )

    def without(self, position: int) -> Population:
        """Return all rows except one."""
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
        """Return the position of the conversation with this ordinal."""
        # Until a conversation is inserted or deleted, its position is its ordinal.
        if ordinal < len(self) and self.ordinal[ordinal] == ordinal:
            return ordinal
        found = np.flatnonzero(self.ordinal == ordinal)
        return int(found[0]) if len(found) else None

    def statuses(self, now: int) -> Integers:
        """Return the status of each row as an index into `STATUSES`."""
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
        """Return the time of the last change of each row, as of now."""
        updated = self.created
        for change in (self.started, self.ended, self.priced):
            updated = np.where(change <= now, np.maximum(updated, change), updated)
        return updated

    def next_change(self, now: int) -> int:
        """Return the earliest time after now at which any row changes."""
        later = [
            int(change[change > now].min(initial=NEVER)) for change in (self.started, self.ended, self.priced)
        ]
        return min(later)


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_32_BITS = 0xFFFFFFFF
_MULTIPLIERS = (0x85EBCA6B, 0xC2B2AE35)
_INVERSES = tuple(pow(multiplier, -1, 2**32) for multiplier in reversed(_MULTIPLIERS))


def ids(seed: int, ordinals: Ordinals) -> list[str]:
    """Return the ids of these conversations, in this order."""
    shuffled = ordinals.astype(np.uint64) ^ np.uint64(random_number(seed, "id") & _32_BITS)
    for multiplier in _MULTIPLIERS:
        shuffled = shuffled * np.uint64(multiplier) & np.uint64(_32_BITS)
        shuffled ^= shuffled >> np.uint64(16)
    halves = np.empty((len(ordinals), 2), dtype=">u8")
    halves[:, 0] = (
        shuffled << np.uint64(32)
        | random_numbers(seed, "id, first half", ordinals) & np.uint64(0xFFFF0FFF)
        | np.uint64(0x4000)
    )
    halves[:, 1] = random_numbers(seed, "id, second half", ordinals) & np.uint64(2**62 - 1) | np.uint64(2**63)
    digits = halves.tobytes().hex()
    return [
        f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-{digits[at + 12 : at + 16]}"
        f"-{digits[at + 16 : at + 20]}-{digits[at + 20 : at + 32]}"
        for at in range(0, len(digits), 32)
    ]


def ordinal(seed: int, id: str) -> int | None:
    """Return the ordinal of this id; None if no ordinal of this seed has it."""
    if not _UUID.fullmatch(id):
        return None
    shuffled = int(id[:8], 16)
    for inverse in _INVERSES:
        shuffled = (shuffled ^ shuffled >> 16) * inverse & _32_BITS
    found = shuffled ^ random_number(seed, "id") & _32_BITS
    return found if ids(seed, np.array([found], dtype=np.int64)) == [id] else None
