"""Paginator by page number, and the index of conversations listed before."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from voiceos_provider.client.pages import PageSizes, RawPage
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.exceptions import VoiceOSContractError

log = logging.getLogger(__name__)

_RECENT = 4_096
_BITS = 2**25
_LONGEST_RUN = 2**17
"""Keys above which an array is not merged with others: merging takes memory."""


class SeenKeys:
    """Where each of many keys was first seen; twelve bytes a key, and a bitmap of 4 MB.

    The most recent keys are in a dictionary, all others in sorted arrays that double in length, up to a limit. The
    bitmap shows which keys may be in an array, so that few are searched for.

    :param recent: how many keys the dictionary holds, where they cost more memory and less time
    """

    def __init__(self, *, recent: int = _RECENT) -> None:
        self._most = recent
        self._recent: dict[int, int] = {}
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []
        self._bitmap = np.empty(0, np.uint8)

    def find(self, keys: Sequence[int]) -> dict[int, int]:
        """Return the positions of those keys that were seen before, each with the place it was first seen at."""
        found: dict[int, int] = {}
        if not self._recent.keys().isdisjoint(keys):
            found = {at: self._recent[key] for at, key in enumerate(keys) if key in self._recent}
        if self._runs:
            every = np.array(keys, dtype=np.int64)
            byte, bit = _places_of(every)
            maybe = np.flatnonzero(self._bitmap[byte] & bit)
            if len(maybe):
                found |= self._search(every[maybe], maybe)
        return found

    def add(self, keys: Sequence[int], place: int = 0) -> dict[int, int]:
        """Note that keys were seen at a place, and return those seen before, as `find` does."""
        found = self.find(keys)
        new = [key for at, key in enumerate(keys) if at not in found] if found else keys
        self._recent |= dict.fromkeys(new, place)
        if len(self._recent) >= self._most:
            self._put_away()
        return found

    def _search(self, wanted: np.ndarray, positions: np.ndarray) -> dict[int, int]:
        """Return the positions of those keys that are in an array, as `find` does."""
        found: dict[int, int] = {}
        for known, places in self._runs:
            where = np.searchsorted(known, wanted)
            where[where == len(known)] = 0
            hits = np.flatnonzero(known[where] == wanted)
            found |= {int(positions[hit]): int(places[where[hit]]) for hit in hits}
        return found

    def _put_away(self) -> None:
        keys = np.fromiter(self._recent.keys(), np.int64, len(self._recent))
        run: list[np.ndarray] = [keys, np.fromiter(self._recent.values(), np.int32, len(keys))]
        self._recent.clear()
        if not self._runs:
            self._bitmap = np.zeros(_BITS // 8, np.uint8)
        byte, bit = _places_of(keys)
        np.bitwise_or.at(self._bitmap, byte, bit)
        while self._runs and len(self._runs[-1][0]) <= len(run[0]) < _LONGEST_RUN:
            run = [np.concatenate(parts) for parts in zip(self._runs.pop(), run, strict=True)]
        order = np.argsort(run[0], kind="stable")
        self._runs.append((run[0][order], run[1][order]))


def _places_of(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the byte of the bitmap for each key, and the bit in it."""
    low = keys & (_BITS - 1)
    return low >> 3, np.left_shift(1, low & 7).astype(np.uint8)


class PageNumberPaginator:
    """Paginator by page number.

    It ends on an empty page; on a page without a new id, because some servers repeat their last page; and on a false
    flag of a page that cannot have been truncated. A short page is not the end, because a server may clamp the page
    size.
    """

    def __init__(self, listing: Listing, *, max_pages: int) -> None:
        self._listing = listing
        self._max_pages = max_pages
        self._seen = SeenKeys()
        self._sizes = PageSizes(listing.page_size)
        self._index: int | None = 1

    @property
    def request(self) -> Request | None:
        """The next page to request; None at the end."""
        return None if self._index is None else self._listing.page(self._index)

    def update(self, page: RawPage) -> dict[int, int]:
        """Set the next request from the page just received, and return the positions that earlier pages listed.

        :raises VoiceOSContractError: if more pages follow the highest page number allowed
        """
        assert self._index is not None
        read_before = self._seen.add(page.keys)
        is_new = len(read_before) < len(page.items)
        if page.has_more and page.items and not is_new:
            log.warning(
                "%s: page %d has has_more=true, but only repeats earlier conversations; stopping there.",
                self.request,
                self._index,
            )
        self._sizes.see(page)
        if self._sizes.is_last(page) or not is_new:
            self._index = None
        elif self._index >= self._max_pages:
            raise VoiceOSContractError(
                f"{self.request}: page {self._index:,} still has has_more=true; the listing has no end. "
                "Request a shorter interval."
            )
        else:
            self._index += 1
        return read_before
