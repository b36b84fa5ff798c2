"""Exact reader: every conversation of an interval, once, while others are created, change and are deleted.

The interval is cut into windows of creation time, and each is read on its own (see `window_reader`), by several
workers. Windows overlap by one unit, so that no rounding of bounds opens a gap; what was read before is dropped.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from voiceos_provider.client import RawPage, VoiceOSClient
from voiceos_provider.client.pages import PageSizes, parse_page
from voiceos_provider.client.paging import PageNumberPaginator, SeenKeys
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.responses import Response
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSContractError,
    VoiceOSResponseTooLargeError,
)
from voiceos_provider.extract.bounds_probe import BoundsProbe, are_far_apart
from voiceos_provider.extract.by_id import read_one
from voiceos_provider.extract.window_reader import WindowRead, drive, read_window
from voiceos_provider.extract.windows import Window, WindowPlanner
from voiceos_provider.extract.workers import Channel
from voiceos_provider.interval import Interval

PageParser = Callable[[Request, Response], RawPage]

_REQUESTS_AT_LEAST, _REQUESTS_PER_PAGE = 500, 50
"""Requests after which reading stops: this many, and this many more for each page of distinct conversations."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAY_BE_TOO_WIDE = timedelta(minutes=1)
_TOO_WIDE_STATUSES = (422, 504)
"""Statuses that, for a window wider than this, may mean that the server refuses windows of this width (inferred)."""


def read_windows(
    client: VoiceOSClient,
    interval: Interval,
    *,
    remaining: Iterable[Interval] | None = None,
    max_concurrency: int,
    read_again: Callable[[str | None], bool] = lambda id_: False,
    parse: PageParser = parse_page,
) -> Generator[RawPage]:
    """Yield pages that hold every conversation created in an interval of the past, in no order.

    A conversation is yielded once; again only if it is listed again, and `read_again` says so by then. Each page
    says how many requests it took, and the last one of a window which range is complete with it.

    :param remaining: the ranges of it that are still to be read; all of it by default
    :param read_again: returns whether the conversation of an id had not ended when it was read
    :param parse: returns the page of a response; `split_page` leaves conversations as they were sent
    :raises VoiceOSContractError: if the server does not keep the contract in a way that would lose or mix up rows
    :raises VoiceOSResponseError: if a part of the interval changes faster than it can be read
    """
    ranges = [interval] if remaining is None else remaining
    return _Reader(client, interval, ranges, max_concurrency, parse, read_again).read()


def read_pages(
    client: VoiceOSClient,
    interval: Interval,
    *,
    status: str | None = None,
    read_again: Callable[[str | None], bool] = lambda id_: False,
    parse: PageParser = parse_page,
) -> Generator[RawPage]:
    """Yield the pages of an interval by their numbers, which may miss a conversation while others are deleted.

    :param status: only conversations in this state, by the server's own filter
    """
    requests = _Requests(client, parse, max_concurrency=1)
    window = Window(interval.start, interval.end)
    listing = Listing(status, window.created_after, window.end, client.config.page_size)
    paginator = PageNumberPaginator(listing, max_pages=client.config.max_pages)

    def work() -> None:
        excluded = requests.probe.earlier(interval.start)
        while request := paginator.request:
            page = requests.send(request, counts=False)
            if new := _belonging(page, paginator.update(page), excluded, read_again):
                requests.emit(new)
        requests.emit(RawPage((), (), False))

    return requests.channel.run(work)


class _Requests:
    """Requests of one reading, by several workers; they are counted, and limited if they bring too little.

    :ivar channel: takes the pages to yield
    :ivar limiter: paces the requests
    :ivar sizes: what is known of the server's pages
    :ivar probe: probe requests, which do not count towards the limit
    """

    def __init__(self, client: VoiceOSClient, parse: PageParser, *, max_concurrency: int) -> None:
        self.channel: Channel[RawPage] = Channel(max_concurrency, client.sleep)
        self.limiter = client.rate_limiter(max_concurrency)
        self.sizes = PageSizes(client.config.page_size)
        self.probe = BoundsProbe(
            lambda listing, index: self.send(listing.page(index), counts=False),
            self.sizes,
            max_pages=client.config.max_pages,
        )
        self._client = client
        self._parse = parse
        self._lock = threading.Lock()
        self._sent = self._unreported = self._exempt = self._distinct = 0

    def send(self, request: Request, *, max_attempts: int | None = None, counts: bool = True) -> RawPage:
        """Return the page that a request brings.

        :param counts: whether it counts towards the limit
        :raises VoiceOSContractError: if requests have brought too little
        """
        with self._lock:
            allowed = _REQUESTS_AT_LEAST + _REQUESTS_PER_PAGE * self._distinct / max(1, self.sizes.longest)
            if counts and self._sent - self._exempt > allowed:
                raise VoiceOSContractError(
                    f"GET /conversations: {self._sent:,} requests brought only {self._distinct:,} conversations: "
                    "the server does not narrow its list to the creation times requested. Nothing was exported."
                )
        retry = self._client.config.retry
        if max_attempts is not None:
            retry = replace(retry, max_attempts=max_attempts)
        page = self._client.send(
            request, self._parse, limiter=self.limiter, sleep=self.channel.sleep, retry=retry
        )
        with self._lock:
            self._sent += 1
            self._unreported += 1
            self._exempt += not counts
        self.sizes.see(page)
        return page

    def note(self, *, distinct: int = 0, exempt: int = 0) -> None:
        """Count distinct conversations that were listed, and requests that do not count towards the limit after all."""
        with self._lock:
            self._distinct += distinct
            self._exempt += exempt

    def emit(self, page: RawPage, *, covers: Interval | None = None) -> None:
        """Yield a page, with the number of requests since the last one, and the range that is complete with it."""
        with self._lock:
            requests, self._unreported = self._unreported, 0
        self.channel.send(replace(page, requests=requests, covers=covers))


class _Reader:
    """Reader of windows: the state that its workers share."""

    def __init__(
        self,
        client: VoiceOSClient,
        interval: Interval,
        ranges: Iterable[Interval],
        max_concurrency: int,
        parse: PageParser,
        read_again: Callable[[str | None], bool],
    ) -> None:
        self._client = client
        self._interval = interval
        self._read_again = read_again
        self._requests = _Requests(client, parse, max_concurrency=max_concurrency)
        self._planner = WindowPlanner(ranges, page_size=client.config.page_size)
        self._excluded: set[int] = set()
        self._excluded_known = False
        self._seen = SeenKeys()
        self._bounds = array("q")  # of each window, in microseconds: objects would keep pages' memory in use
        self._missing: dict[int, str] = {}
        self._starting = threading.Lock()
        self._changed = threading.Condition()  # of all that follows, of the planner and of what was seen

    def read(self) -> Generator[RawPage]:
        """Yield the pages of the windows, as several workers read them."""
        return self._requests.channel.run(self._work)

    def _work(self) -> None:
        """Read windows until there are no more: the work of each thread."""
        self._exclude_earlier()
        while window := self._take():
            with self._requests.limiter.slot(lambda: self._requests.channel.closed):
                self._read(window)
        if self._planner.done:
            self._read_missing()

    def _exclude_earlier(self) -> None:
        """Find out, once, what belongs to the interval before, since windows overlap with it."""
        with self._starting:
            if not self._excluded_known:
                self._excluded = self._requests.probe.earlier(self._interval.start)
                self._excluded_known = True

    def _take(self) -> Window | None:
        """Return the next window; None if there are no more."""
        with self._changed:
            while not (window := self._planner.take()):
                if self._planner.done or self._requests.channel.closed:
                    return None
                self._changed.wait(0.1)
            return window

    def _read(self, window: Window) -> None:
        """Read a window and pass its pages on; or put it back, to be cut."""
        with self._changed:
            number = len(self._bounds) // 2
            self._bounds.extend(_microseconds(bound) for bound in (window.start, window.end))
            is_coarse = self._planner.is_coarse
        if is_coarse:
            self._refine(window, overflows=False)
        # One unit can be cut only if the server compares a finer one, which is found out if need be.
        can_be_cut = window.can_be_cut or self._requests.probe.may_be_finer(window.unit)
        held: list[RawPage] = []
        try:
            read, requests = self._attempt(window, number, held, can_be_cut=can_be_cut)
            if not read.complete and not window.can_be_cut and not self._refine(window, overflows=True):
                read, more = self._attempt(window, number, held, can_be_cut=False)
                requests += more
        except _TooWideError:
            self._emit_held(held)
            with self._changed:
                self._planner.refuse(window)
                self._changed.notify_all()
            return
        self._emit_held(held, covers=window.interval if read.complete else None)
        with self._changed:
            if read.overflowing is not None:
                self._note_missing(read.overflowing)
                self._planner.put_back(window, requests=requests, page_size=self._requests.sizes.longest)
            else:
                self._planner.accept(window, listed=read.listed, requests=requests)
                if self._planner.is_capped_by_server:
                    self._requests.note(exempt=requests)
            self._changed.notify_all()

    def _refine(self, window: Window, *, overflows: bool) -> bool:
        """Cut windows at a finer unit from now on if the server compares it, and return whether it does."""
        if window.start + window.unit > self._interval.end:
            return False  # what was created after the end may become visible between two probe requests
        finer = self._requests.probe.finer_unit(window.unit, window.start, overflows=overflows)
        if finer is None:
            return False
        with self._changed:
            self._planner.refine(finer)
        return True

    def _attempt(
        self, window: Window, number: int, held: list[RawPage], *, can_be_cut: bool
    ) -> tuple[WindowRead, int]:
        """Read a window, and return how many requests that took. Its last page is held back, for `_emit_held`."""

        def emit(page: RawPage) -> None:
            if new := self._unseen(number, page):
                self._emit_held(held)
                held.append(new)

        steps = read_window(
            window.interval,
            self._requests.sizes,
            emit,
            can_be_cut=can_be_cut,
            max_pages=self._client.config.max_pages,
            worth_paging=self._planner.worth_paging,
        )
        return drive(steps, partial(self._fetch, window))

    def _note_missing(self, overflowing: RawPage) -> None:
        """Note what is listed in a window that is to be cut, and so must be listed in one of its parts."""
        seen = self._seen.find(overflowing.keys)
        for at, (key, id_) in enumerate(zip(overflowing.keys, overflowing.ids, strict=True)):
            if id_ is not None and at not in seen and key not in self._excluded:
                self._missing[key] = id_

    def _fetch(self, window: Window, index: int) -> RawPage:
        """Return a page of a window.

        :raises _TooWideError: if the server refuses a window of this width, or sends more than the client accepts
        """
        listing = Listing(None, window.created_after, window.end, self._client.config.page_size)
        may_be_too_wide = window.can_be_cut and window.width > _MAY_BE_TOO_WIDE
        try:
            return self._requests.send(listing.page(index), max_attempts=1 if may_be_too_wide else None)
        except VoiceOSResponseTooLargeError:
            if not window.can_be_cut:
                raise
            raise _TooWideError from None
        except VoiceOSAPIError as error:
            if not may_be_too_wide:
                raise
            if error.status_code in _TOO_WIDE_STATUSES:
                raise _TooWideError from None
            if not error.retryable:
                raise
        return self._requests.send(listing.page(index))

    def _unseen(self, number: int, page: RawPage) -> RawPage | None:
        """Return what of a window's page was not read before, and belongs to the interval; None if nothing does."""
        keys = page.keys
        with self._changed:
            read_before = self._seen.add(keys, number)
            self._requests.note(distinct=len(keys) - len(read_before))
            if self._missing:
                for key in keys:
                    self._missing.pop(key, None)
        for at, place in read_before.items():
            if page.ids[at] is not None and place != number:
                first, window = self._window(place), self._window(number)
                if are_far_apart(first, window):
                    self._requests.probe.require_moved(page.ids[at], first, window)
                    break
        return _belonging(page, read_before, self._excluded, self._read_again)

    def _window(self, number: int) -> Window:
        """Return a window that was taken, by its number."""
        start, end = self._bounds[2 * number : 2 * number + 2]
        return Window(_EPOCH + timedelta(microseconds=start), _EPOCH + timedelta(microseconds=end))

    def _emit_held(self, held: list[RawPage], *, covers: Interval | None = None) -> None:
        """Yield the page held back, if there is one, with the range that is complete with it."""
        page = held.pop() if held else RawPage((), (), False)
        if page.items or covers:
            self._requests.emit(page, covers=covers)

    def _read_missing(self) -> None:
        """Request by id what an overflowing window listed, and its parts did not.

        Nearly always it was deleted meanwhile. What still exists is in the range, so it is passed on.
        """
        while True:
            with self._changed:
                if not self._missing:
                    return
                key, id_ = self._missing.popitem()
            with self._requests.limiter.slot(lambda: self._requests.channel.closed):
                page = read_one(self._client, id_, sleep=self._requests.channel.sleep).page
            with self._changed:
                is_new = not self._seen.add([key])
            if is_new and (page.items or page.unreadable):
                self._requests.channel.send(page)


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


class _TooWideError(Exception):
    """The server does not list a window of this width."""


def _belonging(
    page: RawPage,
    read_before: Collection[int],
    excluded: set[int],
    read_again: Callable[[str | None], bool],
) -> RawPage | None:
    """Return what of a page is to be yielded, or None if nothing is.

    :param read_before: positions of what was read before, and is yielded only if `read_again` says so
    :param excluded: keys of what does not belong to the interval
    """
    if not read_before and excluded.isdisjoint(page.keys):
        return page if page.items else None
    kept = [
        at
        for at, key in enumerate(page.keys)
        if key not in excluded and (at not in read_before or read_again(page.ids[at]))
    ]
    return page.only(kept) if kept else None
