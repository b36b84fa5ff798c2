"""Random numbers that depend on a seed, a purpose and an ordinal only, and are the same on every machine.

They are integers from wrapping 64-bit arithmetic: no floating-point library, salted hash or order of calls changes
them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Ordinals = NDArray[np.int64] | NDArray[np.int32]
RandomBits = NDArray[np.uint64]


@lru_cache(maxsize=4096)
def random_number(seed: int, purpose: str) -> int:
    """Return a number of 64 bits for a purpose."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest(), "big")


def random_numbers(seed: int, purpose: str, ordinals: Ordinals) -> RandomBits:
    """Return a number of 64 bits for each ordinal; purposes are independent of each other."""
    x = ordinals.astype(np.uint64)
    x += np.uint64(1)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64(random_number(seed, purpose))
    # The finaliser of splitmix64: every input bit reaches every output bit.
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def below(numbers: RandomBits, bound: int | Integers) -> Integers:
    """Reduce the numbers to the range [0, bound). The bound must be far below 2**64 for an even distribution."""
    return (numbers % np.asarray(bound, dtype=np.uint64)).astype(np.int64)


def weighted_choice(numbers: RandomBits, weights: Sequence[int] | Integers) -> Integers:
    """Return an index into the weights for each number, in proportion to the weights."""
    upper = np.cumsum(np.asarray(weights, dtype=np.int64))
    return np.searchsorted(upper, below(numbers, int(upper[-1])), side="right").astype(np.int64)


class LogNormal:
    """Log-normal durations in microseconds: most are near the median, a few are many times as long."""

    _STEPS = 4096

    def __init__(self, *, median_seconds: float, sigma: float) -> None:
        normal = NormalDist()
        quantiles = (normal.inv_cdf((step + 0.5) / (self._STEPS + 1)) for step in range(self._STEPS + 1))
        # Whole milliseconds: the last bit of exp() differs between platforms and must not reach a timestamp.
        self._table = np.array(
            [round(1000 * median_seconds * math.exp(sigma * quantile)) * 1000 for quantile in quantiles],
            dtype=np.int64,
        )

    def durations(self, numbers: RandomBits) -> Integers:
        """Return one duration for each number."""
        step = (numbers >> np.uint64(52)).astype(np.int64)
        fraction = ((numbers >> np.uint64(32)) & np.uint64(0xFFFFF)).astype(np.int64)
        low = self._table[step]
        durations: Integers = low + ((self._table[step + 1] - low) * fraction >> 20)
        return durations
