"""How is every conversation of a window read, once, while others are created, change and are deleted?

Slice by slice: an answer that says that nothing follows is all there is in its slice, whatever happens before and after
it. What overflows is cut; an instant that holds more than a page is paged until two passes agree. And what the server
says is held against what was asked: one that ignores the window is found out, not believed, and so is one that lists in
no part of a slice what it has listed in the whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from voiceos_provider.client.pages import (
    PageNumberPaginator,
    RawPage,
    parse_one,
    parse_page,
    split_page,
    started_at,
)
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import Listing, Request, one_conversation
from voiceos_provider.client.responses import Response, http_date, malformed
from voiceos_provider.client.seen_ids import Sightings
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSNotFoundError, VoiceOSResponseError
from voiceos_provider.extract.bounds_check import BEFORE_ANY, require_heeded
from voiceos_provider.extract.prefetch import Channel, read_ahead
from voiceos_provider.extract.windows import Slice, Slices
from voiceos_provider.interval import TICK, Interval, isoformat

T = TypeVar("T")

_TOUCHING = timedelta(seconds=1)
"""How far apart two slices may be that list the same conversation: the server may not look at fractions."""

_PASSES = 6


class Ask(Protocol):
    """Sends a request until it is answered, and parses the answer."""

    def __call__(
        self,
        request: Request,
        parse: Callable[[Request, Response], T],
        /,
        *,
        gate: RateLimiter | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> T:
        """What the answer says."""
        ...


def server_time(ask: Ask) -> datetime | None:
    """What the server's clock says, if it does; asked by a question whose answer must be empty.

    :raises VoiceOSContractError: if it is not: then the server ignores `created_before`
    """
    return ask(Listing(created_before=BEFORE_ANY, page_size=1).page(1), _parse_emptiness)


def read_windows(
    ask: Ask,
    windows: Iterable[Interval],
    *,
    page_size: int,
    max_pages: int,
    gate: RateLimiter,
    readers: int,
    sleep: Callable[[float], None] | None = None,
) -> Iterator[RawPage]:
    """The pages that hold every conversation created in the windows, in no order.

    One on the edge of two slices may be on two pages. Each page tells how many requests it took, and the last one of a
    slice what is covered with it.

    :param ask: sends requests
    :param windows: stretches of creation time, in the past
    :param page_size: conversations to ask for at a time
    :param max_pages: pages of a single instant after which it is taken for endless
    :param gate: where all requests pass
    :param readers: how many slices are read at a time
    :param sleep: replaces waiting, for tests
    :raises VoiceOSContractError: if the server ignores the window
    :raises VoiceOSResponseError: if an instant holds more than a page, and no two passes over it agree
    """
    work = _Work(ask, windows, page_size=page_size, max_pages=max_pages, gate=gate, readers=readers)
    return read_ahead(work, readers=readers, sleep=sleep)


def read_each(
    ask: Ask,
    ids: Iterable[str],
    *,
    gate: RateLimiter,
    readers: int,
    sleep: Callable[[float], None] | None = None,
) -> Iterator[tuple[str, RawPage]]:
    """Each of these conversations on a page of its own, in no order; the page of one that is gone is empty."""
    left = iter(ids)
    taking = threading.Lock()

    def work(channel: Channel[tuple[str, RawPage]]) -> None:
        while True:
            with taking:
                id_ = next(left, None)
            if id_ is None:
                return
            with gate.slot(lambda: channel.closed):
                try:
                    page = ask(one_conversation(id_), parse_one, gate=gate, sleep=channel.sleep)
                except VoiceOSNotFoundError:
                    page = RawPage((), (), False)
                channel.send((id_, page))

    return read_ahead(work, readers=readers, sleep=sleep)


class _Work:
    """What each of the readers does, and what they know together."""

    def __init__(
        self,
        ask: Ask,
        windows: Iterable[Interval],
        *,
        page_size: int,
        max_pages: int,
        gate: RateLimiter,
        readers: int,
    ) -> None:
        self._ask = ask
        self._page_size = page_size
        self._max_pages = max_pages
        self._gate = gate
        self._slices = Slices(windows, page_size=page_size, lanes=readers)
        self._sightings = Sightings()
        self._intervals: dict[int, Interval] = {}
        self._crowded: set[int] = set()
        self._owed: dict[int, tuple[str, Interval]] = {}
        self._changed = threading.Condition()
        self._unreported = 0
        self._largest = 0

    def __call__(self, channel: Channel[RawPage]) -> None:
        while piece := self._take(channel):
            with self._gate.slot(lambda: channel.closed):
                for page in self._read(piece, channel):
                    channel.send(self._checked(page, piece))
        self._ask_for_those_owed(channel)

    def _take(self, channel: Channel[RawPage]) -> Slice | None:
        """The next slice; waits while only others know whether there will be one."""
        with self._changed:
            while not (piece := self._slices.take()):
                if self._slices.done or channel.closed:
                    return None
                self._changed.wait(0.1)
            return piece

    def _read(self, piece: Slice, channel: Channel[RawPage]) -> Iterator[RawPage]:
        """The pages of a slice, if it was not too large.

        Without a word about what follows, a page that is full is taken for one that overflows; and so is one that is
        not, if page 2 lists anything else, for the server may give fewer than were asked for. If it does not, the page
        is whole if the server has given more at a time: two requests for a slice. If it has not, both pages are the
        first of the passes that have to agree: four.
        """
        page = self._fetch(self._listing(piece).page(1), _parse_slice, channel)
        whole = page.has_more is False or not page.items
        read, overflows = [page], not whole
        if page.has_more is None and not whole and not piece.is_tick and not self._is_full(page):
            read.append(self._fetch(self._listing(piece).page(2), _parse_slice, channel))
            overflows = not set(page.keys).issuperset(read[1].keys)
            whole = not overflows and len(page.items) < self._largest
        with self._changed:
            if overflows and not piece.is_tick:
                for key, id_ in zip(page.keys, page.ids, strict=True):
                    if id_ is not None:
                        self._owed[key] = (id_, piece.interval)
                self._slices.overflowed(piece, self._times(page, piece), listed=len(page.items))
                self._changed.notify_all()
                return
        if whole:
            yield replace(page, covers=piece.interval)
            listed = len(page.items)
        else:
            listed = 0
            self._crowded.add(piece.number)
            for page in self._agreed(piece, read, channel):
                self._times(page, piece)
                yield page
                listed = max(listed, len(page.items))
        with self._changed:
            self._slices.accept(piece, listed)
            self._changed.notify_all()

    def _is_full(self, page: RawPage) -> bool:
        return len(page.items) >= self._slices.page_size

    def _agreed(self, piece: Slice, read: list[RawPage], channel: Channel[RawPage]) -> Iterator[RawPage]:
        """The pages of what no single answer holds, read until two passes list the same, and nothing twice.

        A pass that repeats nothing can only miss what a deletion of something it has listed has moved out of its way.
        The pass after it then lists something else.

        :param read: pages that the first pass need not ask for again
        """
        last: set[int] | None = None
        brought: set[int] = set()
        for _ in range(_PASSES):
            walk = PageNumberPaginator(self._listing(piece), max_pages=self._max_pages)
            listed: set[int] = set()
            twice = False
            before: list[int] = []
            while request := walk.request:
                page = read.pop(0) if read else self._fetch(request, _parse_slice, channel)
                walk.update(page)
                keys = page.keys
                news = set(keys) - listed
                # A server that does not say what follows may answer its last page again to whoever asks beyond it.
                beyond = page.has_more is None and keys == before
                twice = twice or (len(news) < len(keys) and not beyond)
                listed |= news
                before = keys
                fresh = [at for at, key in enumerate(keys) if key not in brought]
                brought |= news
                yield page.only(fresh)
            if not twice and listed == last:
                yield RawPage((), (), False, covers=piece.interval)
                return
            last = None if twice else listed
        raise VoiceOSResponseError(
            f"GET /conversations: {piece.interval} holds more than a page, and {_PASSES} passes over its pages did not "
            "agree: conversations are deleted or reordered faster than they can be read. Nothing was exported."
        )

    def _ask_for_those_owed(self, channel: Channel[RawPage]) -> None:
        """Make sure that what a slice held and its parts did not is not there any more.

        :raises VoiceOSContractError: if it is
        """
        while True:
            with self._changed:
                if not self._slices.done or not self._owed:
                    return
                _, (id_, interval) = self._owed.popitem()
            try:
                with self._gate.slot(lambda: channel.closed):
                    self._ask(one_conversation(id_), parse_one, gate=self._gate, sleep=channel.sleep)
            except VoiceOSNotFoundError:
                continue
            raise VoiceOSContractError(
                f"GET /conversations: {id_!r} is listed among the conversations created in {interval}, and in no part "
                "of it. The server ignores fractions of a second, and more conversations were created in one than fit "
                "on a page; raise the connection's page_size."
            )

    def _fetch(
        self, request: Request, parse: Callable[[Request, Response], RawPage], channel: Channel[RawPage]
    ) -> RawPage:
        page = self._ask(request, parse, gate=self._gate, sleep=channel.sleep)
        with self._changed:
            self._unreported += 1
            self._largest = max(self._largest, len(page.items))
        return page

    def _listing(self, piece: Slice) -> Listing:
        return Listing(
            created_after=piece.interval.created_after,
            created_before=piece.interval.created_before,
            page_size=self._page_size,
        )

    def _times(self, page: RawPage, piece: Slice) -> list[datetime]:
        """When the conversations of a page started, which is about when they were created.

        :raises VoiceOSContractError: if most of them started long before they were created
        """
        starts = [started_at(item) for item in page.items]
        require_heeded(starts, piece.interval)
        return [start for start in starts if start is not None]

    def _checked(self, page: RawPage, piece: Slice) -> RawPage:
        """The page, with the requests it took.

        :raises VoiceOSContractError: if a conversation was listed in another slice that is not next to this one
        """
        with self._changed:
            requests, self._unreported = self._unreported, 0
            self._intervals[piece.number] = piece.interval
            for key in page.keys:
                self._owed.pop(key, None)
            for at, number in self._sightings.add(page.keys, piece.number):
                if page.ids[at] is None:
                    continue  # two that have no id may well read the same
                other = self._intervals[number]
                first, second = sorted((other, piece.interval), key=lambda interval: interval.start)
                # Of two instants that hold more than a page each, the server has to tell which conversation is whose.
                crowded = {number, piece.number} <= self._crowded
                if second.start - first.end > (TICK if crowded else _TOUCHING):
                    raise VoiceOSContractError(
                        f"GET /conversations: {page.ids[at]!r} is listed among the conversations created in {other}, "
                        f"and among those created in {piece.interval}. The server ignores the window"
                        f"{', or fractions of a second' if crowded else ''}."
                    )
        return replace(page, requests=requests)


def _parse_slice(request: Request, answer: Response) -> RawPage:
    page = parse_page(request, answer)
    if page.has_more and not page.items:
        raise malformed(request, answer, "the page is empty and says that more follows")
    return page


def _parse_emptiness(request: Request, answer: Response) -> datetime | None:
    if split_page(request, answer).items:
        raise VoiceOSContractError(
            f"{request}: asked for conversations created before {isoformat(BEFORE_ANY)}, and got some. The server "
            "ignores created_before, so an export would hold the wrong rows.",
            answer.status,
            answer.request_id,
        )
    return http_date(answer.headers.get("date", ""))
