"""Exact reader: every conversation of an interval, once, while others are created, change and are deleted.

The interval is cut into windows of creation time, and each is read on its own (see `window_reader`), by several
workers. Windows overlap by one unit, so that no rounding of bounds opens a gap; what was read before is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Generator, Iterable
from dataclasses import replace
from datetime import timedelta
from functools import partial

from voiceos_provider.client import RawPage, VoiceOSClient
from voiceos_provider.client.pages import PageNumberPaginator, PageSizes, parse_page
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.responses import Response
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSContractError,
    VoiceOSResponseTooLargeError,
)
from voiceos_provider.extract.bounds_check import BoundsProbe, are_far_apart
from voiceos_provider.extract.by_id import read_one
from voiceos_provider.extract.prefetch import Channel, prefetch
from voiceos_provider.extract.seen import SeenIndex
from voiceos_provider.extract.window_reader import WindowRead, drive, read_window
from voiceos_provider.extract.windows import MILLISECOND, SECOND, Window, WindowPlanner
from voiceos_provider.interval import Interval

PageParser = Callable[[Request, Response], RawPage]

_REQUESTS_AT_LEAST, _REQUESTS_PER_PAGE = 500, 50
"""Requests after which reading stops: this many, and this many more for each page of distinct conversations."""

_MAY_BE_TOO_WIDE = timedelta(minutes=1)
_TOO_WIDE_STATUSES = (422, 504)
"""Statuses that, for a window wider than this, may mean that the server refuses windows of this width (inferred)."""


def read_windows(
    client: VoiceOSClient,
    interval: Interval,
    *,
    remaining: Iterable[Interval] | None = None,
    max_concurrency: int,
    read_again: Container[str | None] = (),
    parse: PageParser = parse_page,
) -> Generator[RawPage]:
    """Yield pages that hold every conversation created in an interval of the past, in no order.

    A conversation is yielded once; again only if it is listed again, and its id is in `read_again` by then. Each page
    says how many requests it took, and the last one of a window which range is complete with it.

    :param client: sends the requests
    :param interval: the interval of creation time
    :param remaining: the ranges of it that are still to be read; all of it by default
    :param max_concurrency: requests in flight at a time
    :param read_again: ids of conversations that had not ended when they were read
    :param parse: returns the page of a response; `split_page` leaves conversations as they were sent
    :raises VoiceOSContractError: if the server does not keep the contract in a way that would lose or mix up rows
    :raises VoiceOSResponseError: if a part of the interval changes faster than it can be read
    """
    reader = _Reader(client, interval, max_concurrency=max_concurrency, read_again=read_again, parse=parse)
    planner = WindowPlanner([interval] if remaining is None else remaining, page_size=client.config.page_size)
    return prefetch(partial(reader.read_windows, planner), workers=max_concurrency, sleep=client.sleep)


def read_pages(
    client: VoiceOSClient,
    interval: Interval,
    *,
    status: str | None = None,
    read_again: Container[str | None] = (),
    parse: PageParser = parse_page,
) -> Generator[RawPage]:
    """Yield the pages of an interval by their numbers, which may miss a conversation while others are deleted.

    :param status: only conversations in this state, by the server's own filter
    :param read_again: as for `read_windows`
    :param parse: as for `read_windows`
    """
    reader = _Reader(client, interval, max_concurrency=1, read_again=read_again, parse=parse)
    return prefetch(partial(reader.read_pages, status), workers=1, sleep=client.sleep)


class _Reader:
    """State that the workers share."""

    def __init__(
        self,
        client: VoiceOSClient,
        interval: Interval,
        *,
        max_concurrency: int,
        read_again: Container[str | None],
        parse: PageParser,
    ) -> None:
        self._client = client
        self._parse = parse
        self._limiter = client.rate_limiter(max_concurrency)
        self._page_size = client.config.page_size
        self._max_pages = client.config.max_pages
        self._interval = interval
        self._read_again = read_again
        self._sizes = PageSizes(self._page_size)
        self._probe: BoundsProbe | None = None
        self._excluded: set[int] = set()
        self._seen = SeenIndex()
        self._windows: list[Window] = []
        self._missing: dict[int, str] = {}
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._requests = self._unreported = self._distinct = self._unavoidable = 0

    def read_windows(self, planner: WindowPlanner, channel: Channel[RawPage]) -> None:
        """Read windows until there are no more: the work of each thread."""
        probe = self._exclude_earlier(channel)
        while window := self._take(planner, channel):
            with self._limiter.slot(lambda: channel.closed):
                self._read(window, planner, probe, channel)
        if planner.done:
            self._read_missing(channel)

    def read_pages(self, status: str | None, channel: Channel[RawPage]) -> None:
        """Read the pages of the whole interval by their numbers."""
        self._exclude_earlier(channel)
        window = Window(self._interval.start, self._interval.end)
        paginator = PageNumberPaginator(
            Listing(status, window.created_after, window.created_before, self._page_size),
            max_pages=self._max_pages,
        )
        while request := paginator.request:
            page = self._send(request, channel)
            paginator.update(page)
            self._pass_on(page, self._number(window), channel)
        channel.send(RawPage((), (), False, requests=self._take_requests()))

    def _exclude_earlier(self, channel: Channel[RawPage]) -> BoundsProbe:
        """Find out, once, what belongs to the interval before, since windows overlap with it."""
        with self._starting:
            if self._probe is None:
                probe = self._new_probe(channel)
                self._excluded = probe.earlier(self._interval.start)
                self._probe = probe
            return self._probe

    def _new_probe(self, channel: Channel[RawPage]) -> BoundsProbe:
        """Return the control questions of this interval."""

        def fetch(listing: Listing, index: int) -> RawPage:
            page = self._list(listing, index, channel)
            with self._changed:
                self._distinct += len(page.items)  # these rows justify requests, too
            return page

        return BoundsProbe(fetch, self._sizes, page_size=self._page_size, max_pages=self._max_pages)

    def _number(self, window: Window) -> int:
        with self._changed:
            self._windows.append(window)
            return len(self._windows) - 1

    def _take(self, planner: WindowPlanner, channel: Channel[RawPage]) -> Window | None:
        with self._changed:
            while not (window := planner.take()):
                if planner.done or channel.closed:
                    return None
                self._changed.wait(0.1)
            return window

    def _read(
        self, window: Window, planner: WindowPlanner, probe: BoundsProbe, channel: Channel[RawPage]
    ) -> None:
        """Read a window and pass its pages on; or put it back, to be cut."""
        number = self._number(window)
        requests = 0
        passed: set[int] = set()

        def fetch(index: int) -> RawPage:
            nonlocal requests
            requests += 1
            return self._fetch(window, index, channel)

        def emit(page: RawPage) -> None:
            positions = [at for at, key in enumerate(page.keys) if key not in passed]
            passed.update(page.keys)
            self._pass_on(page.only(positions), number, channel)

        def attempt(*, can_be_cut: bool) -> WindowRead:
            reading = read_window(
                window.interval,
                self._sizes,
                emit,
                can_be_cut=can_be_cut,
                max_pages=self._max_pages,
                worth_paging=planner.worth_paging,
            )
            return drive(reading, fetch)

        try:
            if window.can_be_cut:
                read = attempt(can_be_cut=True)
            else:
                # One second can be cut only if the server compares milliseconds, which it is asked if need be.
                may_be_cut_finer = window.unit == SECOND and probe.finer is not False
                read = attempt(can_be_cut=may_be_cut_finer)
                if not read.complete and probe.compares_finer(window.start):
                    planner.refine(MILLISECOND)
                elif not read.complete:
                    read = attempt(can_be_cut=False)
        except _TooWideError:
            self._put_back(planner, window, requests=requests)
            return
        if read.overflowing is not None:
            self._note_missing(read.overflowing)
            self._put_back(planner, window, requests=requests, page_size=self._sizes.longest)
            return
        channel.send(RawPage((), (), False, requests=self._take_requests(), covers=window.interval))
        with self._changed:
            planner.accept(window, listed=read.listed, requests=requests)
            if planner.is_limited:
                self._unavoidable += requests
            self._changed.notify_all()

    def _note_missing(self, overflowing: RawPage) -> None:
        """Note what is listed in a window that is to be cut, and so must be listed in one of its parts."""
        with self._changed:
            for key, id_ in zip(overflowing.keys, overflowing.ids, strict=True):
                if id_ is not None and key not in (self._excluded) and not self._seen.contains(key):
                    self._missing[key] = id_

    def _put_back(self, planner: WindowPlanner, window: Window, **options: object) -> None:
        with self._changed:
            planner.put_back(window, **options)  # type: ignore[arg-type]
            self._changed.notify_all()

    def _fetch(self, window: Window, index: int, channel: Channel[RawPage]) -> RawPage:
        """Return a page of a window.

        :raises _TooWideError: if the server refuses a window of this width, or sends more than the client accepts
        """
        listing = Listing(None, window.created_after, window.created_before, self._page_size)
        may_be_too_wide = window.can_be_cut and window.width > _MAY_BE_TOO_WIDE
        try:
            return self._list(listing, index, channel, max_attempts=1 if may_be_too_wide else None)
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
        return self._list(listing, index, channel)

    def _list(
        self, listing: Listing, index: int, channel: Channel[RawPage], *, max_attempts: int | None = None
    ) -> RawPage:
        """Return a page of a listing, and count the request.

        :raises VoiceOSContractError: if requests have brought too little
        """
        with self._changed:
            allowed = _REQUESTS_AT_LEAST + _REQUESTS_PER_PAGE * self._distinct / max(1, self._sizes.longest)
            if self._requests - self._unavoidable > allowed:
                raise VoiceOSContractError(
                    f"GET /conversations: {self._requests:,} requests brought only {self._distinct:,} conversations: "
                    "the server does not narrow its list to the creation times requested. Nothing was exported."
                )
        return self._send(listing.page(index), channel, max_attempts=max_attempts)

    def _send(
        self, request: Request, channel: Channel[RawPage], *, max_attempts: int | None = None
    ) -> RawPage:
        retry = (
            None if max_attempts is None else replace(self._client.config.retry, max_attempts=max_attempts)
        )
        page = self._client.send(
            request, self._parse, limiter=self._limiter, sleep=channel.sleep, retry=retry
        )
        with self._changed:
            self._requests += 1
            self._unreported += 1
        self._sizes.see(page)
        return page

    def _pass_on(self, page: RawPage, number: int, channel: Channel[RawPage]) -> None:
        """Send what of a page was not read before, and belongs to the interval."""
        keys, excluded = page.keys, self._excluded
        with self._changed:
            read_before = self._seen.add(keys, number)
            self._distinct += len(keys) - len(read_before)
            for key in keys:
                self._missing.pop(key, None)
            far = [
                (page.ids[at], self._windows[other])
                for at, other in read_before.items()
                if page.ids[at] is not None and are_far_apart(self._windows[other], self._windows[number])
            ]
        if far:
            assert self._probe is not None
            self._probe.require_moved(*far[0], self._windows[number])
        kept = [
            at
            for at, key in enumerate(keys)
            if key not in excluded and (at not in read_before or page.ids[at] in self._read_again)
        ]
        if kept:
            page = page if len(kept) == len(keys) else page.only(kept)
            channel.send(replace(page, requests=self._take_requests()))

    def _take_requests(self) -> int:
        with self._changed:
            requests, self._unreported = self._unreported, 0
        return requests

    def _read_missing(self, channel: Channel[RawPage]) -> None:
        """Request by id what an overflowing window listed, and its parts did not.

        Nearly always it was deleted meanwhile. What still exists is in the range, so it is passed on.
        """
        while True:
            with self._changed:
                if not self._missing:
                    return
                key, id_ = self._missing.popitem()
            with self._limiter.slot(lambda: channel.closed):
                page = read_one(self._client, id_, sleep=channel.sleep)
            with self._changed:
                new = not self._seen.contains(key)
                self._seen.add([key], 0)
            if new and (page.items or page.unreadable):
                channel.send(page)


class _TooWideError(Exception):
    """The server does not list a window of this width."""
