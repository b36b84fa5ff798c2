"""Which id has the conversation of an ordinal, and which ordinal has an id?

An id looks like any random UUID. Its first 32 bits are the ordinal, shuffled by a function that can be undone, so a
conversation is found by its id without an index of a million ids.
"""

from __future__ import annotations

import re

import numpy as np

from voiceos_provider.emulator.dice import Ordinals, lot, roll

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_32_BITS = 0xFFFFFFFF
_MULTIPLIERS = (0x85EBCA6B, 0xC2B2AE35)
_INVERSES = tuple(pow(multiplier, -1, 2**32) for multiplier in reversed(_MULTIPLIERS))


def ids(seed: int, ordinals: Ordinals) -> list[str]:
    """The ids of these conversations, in this order."""
    shuffled = ordinals.astype(np.uint64) ^ np.uint64(lot(seed, "id") & _32_BITS)
    for multiplier in _MULTIPLIERS:
        shuffled = shuffled * np.uint64(multiplier) & np.uint64(_32_BITS)
        shuffled ^= shuffled >> np.uint64(16)
    halves = np.empty((len(ordinals), 2), dtype=">u8")
    halves[:, 0] = (
        shuffled << np.uint64(32)
        | roll(seed, "id, first half", ordinals) & np.uint64(0xFFFF0FFF)
        | np.uint64(0x4000)
    )
    halves[:, 1] = roll(seed, "id, second half", ordinals) & np.uint64(2**62 - 1) | np.uint64(2**63)
    digits = halves.tobytes().hex()
    return [
        f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-{digits[at + 12 : at + 16]}"
        f"-{digits[at + 16 : at + 20]}-{digits[at + 20 : at + 32]}"
        for at in range(0, len(digits), 32)
    ]


def ordinal(seed: int, id: str) -> int | None:
    """The ordinal whose id this is; None if no ordinal of this seed has it."""
    if not _UUID.fullmatch(id):
        return None
    shuffled = int(id[:8], 16)
    for inverse in _INVERSES:
        shuffled = (shuffled ^ shuffled >> 16) * inverse & _32_BITS
    found = shuffled ^ lot(seed, "id") & _32_BITS
    return found if ids(seed, np.array([found], dtype=np.int64)) == [id] else None
