"""Has this been seen before? Eight bytes each, so that a million ids cost eight megabytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Seen:
    """A growing set of 64-bit hashes, kept as sorted runs that double in length."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def add(self, hashes: Iterable[int]) -> int:
        """Add them, and say how many were new."""
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


class Sightings:
    """Where each of many things was seen last: sixteen bytes for one."""

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, hashes: Iterable[int], place: int) -> list[tuple[int, int]]:
        """Note that they were seen at a place.

        :return: for each that was seen at another place before, its position among them and that place
        """
        keys = np.fromiter(hashes, dtype=np.int64)
        again = []
        for known, places in self._runs:
            at = np.searchsorted(known, keys)
            at[at == len(known)] = 0
            hits = np.flatnonzero((known[at] == keys) & (places[at] != place))
            again += [(int(hit), int(places[at[hit]])) for hit in hits]
        run = (np.sort(keys), np.full(len(keys), place, dtype=np.int64))
        while self._runs and len(self._runs[-1][0]) <= len(run[0]):
            other = self._runs.pop()
            merged = np.concatenate([other[0], run[0]])
            order = np.argsort(merged, kind="stable")
            run = (merged[order], np.concatenate([other[1], run[1]])[order])
        if len(keys):
            self._runs.append(run)
        return again
