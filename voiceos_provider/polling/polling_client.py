"""Requests of a poll, with the blocking client in a worker or the async one in the triggerer.

All methods are coroutines. In a worker, where no event loop runs, `run` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, VoiceOSClient
from voiceos_provider.client.pages import PageSizes, RawPage, parse_one, split_page, started_at, status
from voiceos_provider.client.requests import ENDED, STATUSES, Listing, Request, one_conversation
from voiceos_provider.client.responses import Response, http_date
from voiceos_provider.exceptions import VoiceOSBadRequestError, VoiceOSContractError
from voiceos_provider.extract.window_reader import WindowRead, read_window
from voiceos_provider.extract.windows import SECOND, Window, floor
from voiceos_provider.interval import TICK, Interval, isoformat

T = TypeVar("T")

OPEN = STATUSES[:-1]
"""The documented states before the end, in the order in which they must be requested.

A conversation that moves on from `queued` to `started` between two requests is listed by the second one. In the
opposite order neither would list it.
"""

_CLOCK_SKEW = timedelta(hours=1)
_FUTURE = Interval(datetime(2200, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, 0, 0, 1, tzinfo=UTC))
_MAX_PAGES = 10_000
_SMALL_PAGE = 100


class Row(NamedTuple):
    """The fields of a conversation that a condition depends on."""

    id: str | None
    status: str | None
    started_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is in any state but `ended`, documented or not."""
        return self.status != ENDED

    def __str__(self) -> str:
        return f"conversation {self.id or 'without an id'} is {self.status or 'without a status'}"


@dataclass(slots=True)
class ServerClock:
    """The earlier of this machine's clock and the server's, which is known from the `Date` headers seen so far.

    An instant has passed only if it has passed by both clocks: one of them may be fast.

    :param ahead: how far the server's clock is ahead of it; None until a response contained the server's time
    """

    local: Callable[[], datetime] = lambda: datetime.now(UTC)
    ahead: timedelta | None = None

    def observe(self, date: str) -> None:
        """Take note of a `Date` header; an empty or malformed one is ignored."""
        if there := http_date(date):
            self.ahead = there - self.local()

    def now(self) -> datetime:
        """Return the earlier of both times."""
        return self.local() + min(self.ahead or timedelta(0), timedelta(0))


class PollingClient:
    """Requests of one poll. They raise `VoiceOSContractError` if the server ignores an interval.

    :param clock: observes the server's time in each response, and is the time of the poll
    """

    def __init__(self, client: VoiceOSClient | AsyncVoiceOSClient, clock: ServerClock) -> None:
        self._client = client
        self.clock = clock
        self._conversations: dict[str, Row] = {}

    async def get(self, conversation_id: str) -> Row:
        """Return a conversation, which is requested once in a poll."""
        if conversation_id not in self._conversations:
            page = await self._send(one_conversation(conversation_id), parse_one)
            (self._conversations[conversation_id],) = _rows(page)
        return self._conversations[conversation_id]

    async def first_open(self, interval: Interval) -> Row | None:
        """Return a conversation of the interval that is listed as open, with at most two requests of one row each.

        None does not prove that all have ended: a replica that lags, or a state that the API's filter does not know,
        can hide a conversation. `first_open_listed` decides.
        """
        for state in OPEN:
            for row in _rows(await self._list(interval, state, page_size=1)):
                if row.is_open:
                    return row
        return None

    async def first_open_listed(self, interval: Interval) -> Row | None:
        """Return a conversation of the interval that has not ended, from the whole listing; None if all have ended."""
        rows = await self.list_interval(interval, until_open=True)
        return next((row for row in rows if row.is_open), None)

    async def list_interval(
        self, interval: Interval, *, status: str | None = None, until_open: bool = False, enough: int = 0
    ) -> list[Row]:
        """Return every conversation created in the interval, each once, though others change or are deleted meanwhile.

        :param until_open: stop reading at a page with an open conversation
        :param enough: stop reading once this number of conversations is found; 0 for all
        :raises UnstableWindowError: if one second of it changes faster than its pages can be read
        """
        found: dict[int, Row] = {}
        page_size = enough if 0 < enough < _SMALL_PAGE else self._client.config.page_size
        sizes = PageSizes(page_size)
        remaining = [Window(interval.start, interval.end)]
        while remaining:
            window = remaining.pop()
            cut = window.can_be_cut
            steps = read_window(window.interval, sizes, lambda _: None, can_be_cut=cut, max_pages=_MAX_PAGES)
            try:
                index = next(steps)
                while True:
                    page = await self._list(window.interval, status, page_size=page_size, index=index)
                    sizes.see(page)
                    rows = _rows(page)
                    found.update(zip(page.keys, rows, strict=True))
                    if until_open and any(row.is_open for row in rows):
                        return rows
                    if enough and len(found) >= enough:
                        return list(found.values())
                    index = steps.send(page)
            except StopIteration as end:
                read: WindowRead = end.value
            if not read.complete:
                remaining += reversed(_halves(window))
        return list(found.values())

    async def require_empty_future(self) -> None:
        """Request a window of the far future, in which no conversation can have been created."""
        try:
            page = await self._list(_FUTURE, None, page_size=1)
        except VoiceOSBadRequestError:
            return  # a server that refuses the future reads the bounds
        if page.items:
            raise VoiceOSContractError(
                f"GET /conversations: the server ignores created_after. It was sent {isoformat(_FUTURE.start)}, and "
                "lists conversations."
            )

    async def _list(
        self, interval: Interval, status: str | None, *, page_size: int, index: int = 1
    ) -> RawPage:
        """Return a page; if one of its conversations started long before the interval, check the bounds first.

        Rows that were imported, or have a wrong `started_at`, start early, too, and prove nothing.
        """
        window = Window(interval.start, interval.end)
        listing = Listing(status, window.created_after, window.end, page_size)
        page = await self._send(listing.page(index), split_page)
        starts = (row.started_at for row in _rows(page) if row.started_at)
        if interval != _FUTURE and any(interval.start - start > _CLOCK_SKEW for start in starts):
            await self.require_empty_future()
        return page

    async def _send(self, request: Request, parse: Callable[[Request, Response], RawPage]) -> RawPage:
        def observe(sent: Request, response: Response) -> RawPage:
            self.clock.observe(response.headers.get("date", ""))
            return parse(sent, response)

        if isinstance(self._client, AsyncVoiceOSClient):
            return await self._client.send(request, observe)
        return self._client.send(request, observe)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that uses the blocking client, and so never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("The coroutine has waited for something else than the blocking client.")


def within_one_poll(config: ClientConfig, poke_interval: float) -> ClientConfig:
    """Return a configuration that retries a request for no longer than until the next poll."""
    retry = config.retry
    return replace(config, retry=replace(retry, deadline=min(retry.deadline, poke_interval)))


def _rows(page: RawPage) -> list[Row]:
    return [Row(id_, status(item), started_at(item)) for id_, item in zip(page.ids, page.items, strict=True)]


def _halves(window: Window) -> list[Window]:
    middle = floor(window.start + window.width / 2, SECOND)
    if middle <= window.start:
        middle = floor(window.end - TICK, SECOND)
    return [Window(window.start, middle), Window(middle, window.end)]
