"""Exact reader: every conversation of an interval, once, while others are created, change and are deleted.

The interval is cut into windows of creation time, and each is read on its own (see `window_reader`), by several
workers. Windows overlap by one unit, so that no rounding of bounds opens a gap; what was read before is dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Generator, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from voiceos_provider.client import RawPage, Retry, VoiceOSClient
from voiceos_provider.client.pages import PageNumberPaginator, PageSizes, parse_one, parse_page
from voiceos_provider.client.requests import Listing, Request, one_conversation
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSBadRequestError,
    VoiceOSContractError,
    VoiceOSNotFoundError,
    VoiceOSResponseTooLargeError,
    VoiceOSServerError,
)
from voiceos_provider.extract.prefetch import Channel, prefetch
from voiceos_provider.extract.seen import SeenIndex
from voiceos_provider.extract.window_reader import Steps, WindowRead, read_window
from voiceos_provider.extract.windows import MILLISECOND, SECOND, Window, WindowPlanner, floor
from voiceos_provider.interval import TICK, Interval

T = TypeVar("T")

log = logging.getLogger(__name__)

_REQUESTS_AT_LEAST, _REQUESTS_PER_PAGE = 500, 25
"""Requests after which a read is given up: so many, and so many more for each page of distinct conversations."""

_MAY_BE_TOO_WIDE = timedelta(minutes=1)
_NARROW_ENOUGH = timedelta(days=1)
"""Widths above which a 504, and a 422, may mean that the server refuses windows of this width (inferred)."""

_GONE = 410
_UNPROCESSABLE, _GATEWAY_TIMEOUT = 422, 504
_ATTEMPTS_BY_ID = 3
_UNDECIDED = 3
"""Seconds in which everything was created at once, after which the server is taken to compare seconds."""


def read_windows(
    client: VoiceOSClient,
    interval: Interval,
    *,
    remaining: Iterable[Interval] | None = None,
    max_concurrency: int = 4,
    read_again: Container[str | None] = (),
) -> Generator[RawPage]:
    """Yield pages that hold every conversation created in an interval of the past, in no order.

    A conversation is yielded once; again only if it is listed again, and its id is in `read_again` by then. Each page
    says how many requests it took, and the last one of a window which range is complete with it.

    :param client: sends the requests
    :param interval: the interval of creation time
    :param remaining: the ranges of it that are still to be read; all of it by default
    :param max_concurrency: requests in flight at a time
    :param read_again: ids of conversations that had not ended when they were read
    :raises VoiceOSContractError: if the server does not keep the contract in a way that would lose or mix up rows
    :raises VoiceOSResponseError: if a part of the interval changes faster than it can be read
    """
    reader = _Reader(client, interval, max_concurrency=max_concurrency, read_again=read_again)
    planner = WindowPlanner([interval] if remaining is None else remaining, page_size=client.config.page_size)
    return prefetch(partial(reader.read_windows, planner), workers=max_concurrency, sleep=client.sleep)


def read_pages(
    client: VoiceOSClient,
    interval: Interval,
    *,
    status: str | None = None,
    read_again: Container[str | None] = (),
) -> Generator[RawPage]:
    """Yield the pages of an interval by their numbers, which may miss a conversation while others are deleted.

    :param status: only conversations in this state, by the server's own filter
    :param read_again: as for `read_windows`
    """
    reader = _Reader(client, interval, max_concurrency=1, read_again=read_again)
    return prefetch(partial(reader.read_pages, status), workers=1, sleep=client.sleep)


def read_each(
    client: VoiceOSClient, ids: Iterable[str], *, max_concurrency: int = 4
) -> Generator[tuple[str, RawPage]]:
    """Yield each of these conversations on a page of its own, in no order.

    The page of one that does not exist any more is empty; one that cannot be read is `unreadable` on its page.
    """
    remaining = iter(ids)
    taking = threading.Lock()
    limiter = client.rate_limiter(max_concurrency)

    def work(channel: Channel[tuple[str, RawPage]]) -> None:
        while True:
            with taking:
                id_ = next(remaining, None)
            if id_ is None:
                return
            with limiter.slot(lambda: channel.closed):
                channel.send((id_, _read_one(client, id_, limiter=limiter, sleep=channel.sleep)))

    return prefetch(work, workers=max_concurrency, sleep=client.sleep)


def _read_one(client: VoiceOSClient, id_: str, **options: object) -> RawPage:
    try:
        request = one_conversation(id_)
        return client.send(request, parse_one, retry=_fewer_attempts(client, _ATTEMPTS_BY_ID), **options)  # type: ignore[arg-type]
    except VoiceOSNotFoundError:
        return RawPage((), (), False, requests=0)
    except VoiceOSAPIError as error:
        if error.status_code == _GONE:
            return RawPage((), (), False, requests=0)
        if error.status_code is None or error.status_code in (
            401,
            429,
        ):  # of the client or the server, not of this conversation
            raise
        log.warning("Cannot read conversation %s; it stays pending. %s", id_, error)
        return RawPage((), (), False, requests=0, unreadable=(id_,))


class _Reader:
    """State that the workers share."""

    def __init__(
        self,
        client: VoiceOSClient,
        interval: Interval,
        *,
        max_concurrency: int,
        read_again: Container[str | None],
    ) -> None:
        self._client = client
        self._limiter = client.rate_limiter(max_concurrency)
        self._page_size = client.config.page_size
        self._max_pages = client.config.max_pages
        self._interval = interval
        self._read_again = read_again
        self._sizes = PageSizes(self._page_size)
        self._excluded: set[int] | None = None
        self._seen = SeenIndex()
        self._windows: list[Window] = []
        self._missing: dict[int, str] = {}
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._requests = self._unreported = self._distinct = 0
        self._finer: bool | None = None  # whether the server compares less than a second, once that is known
        self._undecided = 0
        self._asking = threading.Lock()

    def read_windows(self, planner: WindowPlanner, channel: Channel[RawPage]) -> None:
        """Read windows until there are no more: the work of each thread."""
        self._exclude_earlier(channel)
        while window := self._take(planner, channel):
            with self._limiter.slot(lambda: channel.closed):
                self._read(window, planner, channel)
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

    def _exclude_earlier(self, channel: Channel[RawPage]) -> None:
        """Find out, once, what belongs to the interval before, since windows overlap with it."""
        with self._starting:
            if self._excluded is None:
                self._excluded = self._earlier(self._interval.start, channel)

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

    def _read(self, window: Window, planner: WindowPlanner, channel: Channel[RawPage]) -> None:
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
            return _drive(reading, fetch)

        try:
            read = attempt(
                can_be_cut=window.can_be_cut or (window.unit == SECOND and self._finer is not False)
            )
            if not read.complete and not window.can_be_cut:
                if self._compares_finer(window, channel):
                    planner.refine(MILLISECOND)
                else:
                    read = attempt(can_be_cut=False)
        except _TooWideError:
            self._put_back(planner, window, requests=requests)
            return
        if not read.complete:
            assert read.overflowing is not None
            with self._changed:
                for key, id_ in zip(read.overflowing.keys, read.overflowing.ids, strict=True):
                    if id_ is not None and key not in (self._excluded or ()) and not self._seen.contains(key):
                        self._missing[key] = id_
            self._put_back(planner, window, requests=requests, page_size=len(read.overflowing.items))
            return
        channel.send(RawPage((), (), False, requests=self._take_requests(), covers=window.interval))
        with self._changed:
            planner.accept(window, listed=read.listed, requests=requests)
            self._changed.notify_all()

    def _put_back(self, planner: WindowPlanner, window: Window, **options: object) -> None:
        with self._changed:
            planner.put_back(window, **options)  # type: ignore[arg-type]
            self._changed.notify_all()

    def _fetch(self, window: Window, index: int, channel: Channel[RawPage]) -> RawPage:
        """Return a page of a window.

        :raises _TooWideError: if the server refuses a window of this width, or sends more than the client takes
        """
        listing = Listing(None, window.created_after, window.created_before, self._page_size)
        if not window.can_be_cut or window.width <= _MAY_BE_TOO_WIDE:
            return self._list(listing, index, channel)
        try:
            return self._list(listing, index, channel, max_attempts=1)
        except VoiceOSResponseTooLargeError:
            raise _TooWideError from None
        except VoiceOSServerError as error:
            if error.status_code == _GATEWAY_TIMEOUT:
                raise _TooWideError from None
        except VoiceOSBadRequestError as error:
            if error.status_code == _UNPROCESSABLE and window.width > _NARROW_ENOUGH:
                raise _TooWideError from None
            raise
        except VoiceOSAPIError as error:
            if not error.retryable:
                raise
        return self._list(listing, index, channel)

    def _list(
        self, listing: Listing, index: int, channel: Channel[RawPage], *, max_attempts: int | None = None
    ) -> RawPage:
        with self._changed:
            allowed = _REQUESTS_AT_LEAST + _REQUESTS_PER_PAGE * self._distinct / max(1, self._sizes.longest)
            if self._requests > allowed:
                raise VoiceOSContractError(
                    f"GET /conversations: {self._requests:,} requests brought only {self._distinct:,} conversations: "
                    "the server does not narrow its list to the creation times it is asked for. Nothing was exported."
                )
        return self._send(listing.page(index), channel, max_attempts=max_attempts)

    def _send(
        self, request: Request, channel: Channel[RawPage], *, max_attempts: int | None = None
    ) -> RawPage:
        page = self._client.send(
            request,
            parse_page,
            limiter=self._limiter,
            sleep=channel.sleep,
            retry=_fewer_attempts(self._client, max_attempts),
        )
        with self._changed:
            self._requests += 1
            self._unreported += 1
        self._sizes.see(page)
        return page

    def _pass_on(self, page: RawPage, number: int, channel: Channel[RawPage]) -> None:
        """Send what of a page was not read before, and belongs to the interval."""
        keys, excluded = page.keys, self._excluded or ()
        with self._changed:
            read_before = self._seen.add(keys, number)
            self._distinct += len(keys) - len(read_before)
            for at, other in read_before.items():
                if page.ids[at] is not None:
                    self._require_near(page.ids[at], self._windows[other], self._windows[number])
            for key in keys:
                self._missing.pop(key, None)
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

    def _require_near(self, id_: str | None, first: Window, second: Window) -> None:
        """Make sure that two windows that list the same conversation are next to each other.

        :raises VoiceOSContractError: if not
        """
        earlier, later = sorted((first, second), key=lambda window: window.start)
        if later.start - earlier.end > 2 * SECOND:
            raise VoiceOSContractError(
                f"GET /conversations: {id_!r} is listed among the conversations created in {earlier.interval}, and "
                f"among those created in {later.interval}. The server ignores created_after or created_before."
            )

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
                page = _read_one(self._client, id_, limiter=self._limiter, sleep=channel.sleep)
            with self._changed:
                new = not self._seen.contains(key)
                self._seen.add([key], 0)
            if new and (page.items or page.unreadable):
                channel.send(page)

    def _earlier(self, start: datetime, channel: Channel[RawPage]) -> set[int]:
        """Return the keys of conversations that windows list, and that belong to the range before.

        A conversation is earlier if it is listed before the start; unless it is one created at the very start, which
        a server that includes its bounds lists there, too.
        """
        begin = floor(start - TICK, SECOND)
        before = self._keys(begin - SECOND, start, channel)
        if not before:
            return before
        on_the_edge = self._keys(start - TICK, start, channel)
        if not on_the_edge:
            return before
        return before - (on_the_edge - self._keys(begin - SECOND, start - TICK, channel))

    def _keys(self, after: datetime, before: datetime, channel: Channel[RawPage]) -> set[int]:
        """Return the keys of all conversations listed between two bounds."""
        listing = Listing(None, after, before, self._page_size)
        keys: set[int] = set()

        def emit(page: RawPage) -> None:
            keys.update(page.keys)

        reading = read_window(
            Interval(after, before), self._sizes, emit, can_be_cut=False, max_pages=self._max_pages
        )
        _drive(reading, lambda index: self._list(listing, index, channel))
        return keys

    def _compares_finer(self, window: Window, channel: Channel[RawPage]) -> bool:
        """Return whether the server tells apart creation times within a second, by two questions of one row.

        A server that compares whole seconds lists the same for any two bounds within half a second: always nothing, or
        always what was created at that second. Something in a wide range, and nothing in a narrow one, is proof.
        """
        with self._asking:
            if self._finer is None:
                second = floor(window.start, SECOND)
                for half in (second, second + timedelta(milliseconds=500)):
                    wide = Listing(None, half + MILLISECOND, half + timedelta(milliseconds=498), 1)
                    if not self._list(wide, 1, channel).items:
                        continue
                    after = half + timedelta(microseconds=123_457)
                    self._finer = not self._list(Listing(None, after, after + TICK, 1), 1, channel).items
                    break
                else:
                    self._undecided += 1
                    if self._undecided == _UNDECIDED:
                        self._finer = False
            return bool(self._finer)


def _fewer_attempts(client: VoiceOSClient, max_attempts: int | None) -> Retry | None:
    return None if max_attempts is None else replace(client.config.retry, max_attempts=max_attempts)


class _TooWideError(Exception):
    """The server does not list a window of this width."""


def _drive(steps: Steps[T], fetch: Callable[[int], RawPage]) -> T:
    """Fetch the pages that a protocol requests, and return its result."""
    try:
        index = next(steps)
        while True:
            index = steps.send(fetch(index))
    except StopIteration as end:
        result: T = end.value
        return result
