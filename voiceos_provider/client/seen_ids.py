"""Compact set of 64-bit hashes; a million ids take eight megabytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Seen:
    """Growing set of 64-bit hashes, kept as sorted runs that double in length."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def add(self, hashes: Iterable[int]) -> int:
        """Add hashes, and return how many were new."""
        run = np.unique(np.fromiter(hashes, dtype=np.int64))
        for known in self._runs:
            at = np.searchsorted(known, run)
            at[at == len(known)] = 0
            run = run[known[at] != run]
        new = len(run)
        if not new:
            return 0
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)
        return new
