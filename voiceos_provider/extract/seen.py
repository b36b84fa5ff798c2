"""Index of conversations already read, by 64-bit hashes: sixteen bytes each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RECENT = 4_096


class SeenIndex:
    """Where each of many keys was first seen.

    The most recent keys are in a dictionary, all others in sorted arrays that double in length.

    :param recent: how many keys the dictionary holds, where they cost more memory and less time
    """

    def __init__(self, *, recent: int = _RECENT) -> None:
        self._most = recent
        self._recent: dict[int, int] = {}
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, keys: Sequence[int], place: int) -> dict[int, int]:
        """Note that keys were seen at a place.

        :return: for each key that was seen at another place before, its position among them and that place
        """
        again = {
            at: first
            for at, key in enumerate(keys)
            if (first := self._recent.setdefault(key, place)) != place
        }
        if self._runs:
            wanted = np.array(keys, dtype=np.int64)
            for known, places in reversed(self._runs):  # the oldest last, which holds the first place
                where = np.searchsorted(known, wanted)
                where[where == len(known)] = 0
                hits = np.flatnonzero((known[where] == wanted) & (places[where] != place))
                again |= {int(hit): int(places[where[hit]]) for hit in hits}
        if len(self._recent) >= self._most:
            self._put_away()
        return again

    def contains(self, key: int) -> bool:
        """Return whether a key was seen."""
        if key in self._recent:
            return True
        for known, _ in self._runs:
            where = np.searchsorted(known, key)
            if where < len(known) and known[where] == key:
                return True
        return False

    def _put_away(self) -> None:
        keys = np.fromiter(self._recent.keys(), np.int64, len(self._recent))
        places = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        self._recent.clear()
        order = np.argsort(keys, kind="stable")
        run = (keys[order], places[order])
        while self._runs and len(self._runs[-1][0]) <= len(run[0]):
            known, earlier = self._runs.pop()
            both = np.concatenate([known, run[0]])
            order = np.argsort(both, kind="stable")
            run = (both[order], np.concatenate([earlier, run[1]])[order])
        self._runs.append(run)
