"""Has this been seen before? Eight bytes each, so that a million ids cost eight megabytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_AT_HAND = 4_096


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
    """Where each of many things was seen first: sixteen bytes for one, but for the last few.

    :param last: how many are kept at hand, where they cost more memory and less time
    """

    def __init__(self, *, last: int = _AT_HAND) -> None:
        self._most = last
        self._last: dict[int, int] = {}
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, hashes: Iterable[int], place: int) -> list[tuple[int, int]]:
        """Note that they were seen at a place.

        :return: for each that was seen at another place before, its position among them and that place
        """
        keys = list(hashes)
        again = [
            (at, first)
            for at, key in enumerate(keys)
            if (first := self._last.setdefault(key, place)) != place
        ]
        looked_for = np.array(keys, dtype=np.int64)
        for known, places in self._runs:
            where = np.searchsorted(known, looked_for)
            where[where == len(known)] = 0
            hits = np.flatnonzero((known[where] == looked_for) & (places[where] != place))
            again += [(int(hit), int(places[where[hit]])) for hit in hits]
        if len(self._last) >= self._most:
            self._put_away()
        return again

    def _put_away(self) -> None:
        keys = np.fromiter(self._last.keys(), np.int64, len(self._last))
        places = np.fromiter(self._last.values(), np.int64, len(self._last))
        self._last.clear()
        order = np.argsort(keys, kind="stable")
        run = (keys[order], places[order])
        while self._runs and len(self._runs[-1][0]) <= len(run[0]):
            known, places = self._runs.pop()
            both = np.concatenate([known, run[0]])
            order = np.argsort(both, kind="stable")
            run = (both[order], np.concatenate([places, run[1]])[order])
        self._runs.append(run)
