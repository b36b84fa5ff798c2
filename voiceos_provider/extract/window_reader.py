"""Protocol of reading one window: which pages to request, and when the window is known to be complete. No I/O.

One response that says that nothing follows holds its whole window, at one moment: no order, no tie and no change
between two requests can spoil it. Where no single response holds a window, its pages are read until two passes agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar

from voiceos_provider.client.pages import PageSizes, RawPage
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSResponseError
from voiceos_provider.interval import Interval

T = TypeVar("T")
Steps = Generator[int, RawPage, T]
"""Yields the number of the page to request, counted from 1; is sent the page; returns the result."""

Emit = Callable[[RawPage], None]

_PASSES = 6
"""Passes over the pages of a window that cannot be cut; of fewer, two deletions could spoil all."""

_PASSES_BEFORE_CUTTING = 2
_EMPTY_PAGES = 3
"""Empty pages in a row that say that more follows, after which that is not believed."""

_UNLIKELY = 8
"""Conversations that must be listed again in the same order before that is no chance."""


class UnstableWindowError(VoiceOSResponseError):
    """The pages of a window that cannot be cut change faster than they can be read."""


@dataclass(frozen=True, slots=True)
class WindowRead:
    """Result of reading a window.

    :param complete: whether everything in it was read; if not, it must be cut
    :param listed: distinct conversations on its pages
    :param overflowing: the page that more follows, if it must be cut
    """

    complete: bool
    listed: int = 0
    overflowing: RawPage | None = None


def read_window(
    interval: Interval,
    sizes: PageSizes,
    emit: Emit,
    *,
    can_be_cut: bool,
    max_pages: int,
    worth_paging: int = 1,
) -> Steps[WindowRead]:
    """Read a window.

    :param interval: the window, for messages
    :param sizes: what is known of the server's pages; the caller shows it each page first
    :param emit: takes each page of conversations that are known to be in the window
    :param can_be_cut: whether a window that overflows can be cut instead of paged
    :param max_pages: pages after which a listing is considered endless
    :param worth_paging: how many pages to read before a window is cut that could be
    :raises UnstableWindowError: if a window that cannot be cut changes faster than it can be read
    :raises VoiceOSContractError: if its pages never end
    """
    first = yield 1
    if sizes.is_last(first) or (not first.items and first.has_more is None):
        emit(first)
        return WindowRead(True, len(first.items))
    read = [first]
    if first.has_more is not True or not first.items:
        whole = yield from _only_page(sizes, read)
        if whole is not None:
            emit(first)
            if whole is not first:
                emit(whole)
            return WindowRead(True, len(whole.items))
    passes = _PASSES
    if can_be_cut:
        # A server that lists nothing on a first page may never list what belongs there.
        passes = _PASSES_BEFORE_CUTTING if worth_paging > 1 and first.items else 0
        max_pages = min(max_pages, worth_paging)
    last: set[int] | None = None
    for _ in range(passes):
        listed = yield from _read_pass(
            interval, sizes, emit, read, can_be_cut=can_be_cut, max_pages=max_pages
        )
        # If a conversation that the last pass had listed was deleted or moved meanwhile, this one lists something else.
        if listed is not None and listed == last:
            return WindowRead(True, len(listed))
        last = listed
    if can_be_cut:
        return WindowRead(False, overflowing=first)
    raise UnstableWindowError(
        f"GET /conversations: {interval} holds more than a page, and {_PASSES} passes over its pages did not "
        "agree: conversations are deleted or reordered faster than they can be read. Nothing was exported. Retry later."
    )


def _only_page(sizes: PageSizes, read: list[RawPage]) -> Steps[RawPage | None]:
    """Return a page that holds the whole window, if the pages after the first one are empty or only repeat it.

    A first page that was cut off is requested again: the conversations after it may have moved to it when some of
    its own were deleted. When the second page was empty, all were on the first.

    :param read: the first page; pages in front of the first pass that are read already are added
    """
    first = read[0]
    repeats = 0
    while repeats < _repeats_that_end(len(first.items)):
        page = yield repeats + 2
        if not page.items and not repeats:
            break
        if page.keys != first.keys:
            if not repeats:
                read.append(page)
            return None
        repeats += 1
    if not first.items or sizes.is_shorter(first):
        return first
    if first.has_more is False and len(first.items) >= sizes.requested:
        return first  # a flag computed from the requested limit would be true
    again = yield 1
    return again if again.has_more is not True and (not repeats or again.keys == first.keys) else None


def _repeats_that_end(items: int) -> int:
    """Return how often a page must be repeated until that is taken for the end of the listing."""
    return max(2, math.ceil(_UNLIKELY / max(1, items)))


@dataclass(slots=True)
class _Pass:
    """What one pass over the pages of a window has listed so far.

    A pass counts only if no page lists a conversation of an earlier page again, other than repetitions of the last page
    in response to requests beyond it. Its pages are then disjoint, so that a conversation is missing only if another
    one was deleted or moved to an earlier page meanwhile.

    :ivar listed: keys of the conversations on its pages
    :ivar overlapping: whether a page has listed a conversation of an earlier page again
    """

    sizes: PageSizes
    listed: set[int] = field(default_factory=set)
    overlapping: bool = False
    _previous_keys: list[int] = field(default_factory=list)
    _identical_pages: int = 0
    """Pages that were identical to the page before them, in a row."""
    _empty_pages: int = 0
    _has_new: bool = False

    def add(self, page: RawPage) -> bool:
        """Add the next page, and return whether it lists a conversation that no earlier page has listed."""
        keys = page.keys
        if keys and keys == self._previous_keys:
            self._identical_pages += 1
        else:
            if self._may_be_reordered or not self.listed.isdisjoint(keys):
                self.overlapping = True
            self._identical_pages = 0
        self._empty_pages = 0 if keys else self._empty_pages + 1
        self._has_new = not self.listed.issuperset(keys)
        self.listed.update(keys)
        self._previous_keys = keys
        return self._has_new

    def ends_with(self, page: RawPage) -> bool:
        """Return whether the page that was added last is the end of the listing."""
        if self.sizes.is_last(page):
            return True
        if not page.keys:
            return page.has_more is not True or self._empty_pages == _EMPTY_PAGES
        if self._has_new:
            return False
        return not self._identical_pages or self._identical_pages >= _repeats_that_end(len(page.keys))

    def result(self) -> set[int] | None:
        """Return the keys that the pass has listed; None if it does not count."""
        return None if self.overlapping or self._may_be_reordered else self.listed

    @property
    def _may_be_reordered(self) -> bool:
        """Whether the last page may be identical by chance, because the server changes the order with each request."""
        return 0 < self._identical_pages * len(self._previous_keys) < _UNLIKELY


def _read_pass(
    interval: Interval,
    sizes: PageSizes,
    emit: Emit,
    read: list[RawPage],
    *,
    can_be_cut: bool,
    max_pages: int,
) -> Steps[set[int] | None]:
    """Read the pages once, and return the keys of their conversations.

    :param read: the first pages, if they need not be requested again; they are removed
    :return: None if the pass does not count, or if a window that can be cut has more pages than are worth reading
    """
    found = _Pass(sizes)
    for number in range(1, max_pages + 1):
        page = read.pop(0) if read else (yield number)
        if found.add(page):
            emit(page)
        if found.ends_with(page):
            return found.result()
    if not can_be_cut and not found.overlapping:
        raise VoiceOSContractError(
            f"GET /conversations: page {max_pages:,} of {interval} still says that more follows: the listing has "
            "no end. Export a shorter interval."
        )
    return None


def drive(steps: Steps[T], fetch: Callable[[int], RawPage]) -> tuple[T, int]:
    """Fetch the pages that a protocol requests; return its result, and how many pages it took."""
    requests = 0
    try:
        index = next(steps)
        while True:
            requests += 1
            index = steps.send(fetch(index))
    except StopIteration as end:
        return end.value, requests
