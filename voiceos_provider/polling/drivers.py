"""Drivers that run queries with the blocking or the async client, and the clock that they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, VoiceOSClient
from voiceos_provider.client.pages import RawPage, parse_one, split_page
from voiceos_provider.client.requests import Listing, Request, one_conversation
from voiceos_provider.client.responses import Response, http_date
from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.extract.windows import Window
from voiceos_provider.polling.queries import ApiRequest, ListPage, Query

T = TypeVar("T")


def _utcnow() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class ServerClock:
    """The earlier of this machine's clock and the server's, which is known from the `Date` headers seen so far.

    An instant has passed only if it has passed by both clocks: one of them may be fast.

    :param local: this machine's clock
    """

    local: Callable[[], datetime] = _utcnow
    _ahead: timedelta | None = field(default=None, init=False)

    @property
    def is_known(self) -> bool:
        """Whether a response has contained the server's time."""
        return self._ahead is not None

    def observe(self, date: str) -> None:
        """Take note of a `Date` header; an empty or malformed one is ignored."""
        if there := http_date(date):
            self._ahead = there - self.local()

    def now(self) -> datetime:
        """Return the earlier of both times."""
        return self.local() + min(self._ahead or timedelta(0), timedelta(0))


def run(client: VoiceOSClient, query: Query[T], clock: ServerClock) -> T:
    """Send the requests of a query one after another, and return its result.

    :raises VoiceOSError: what the query does not handle
    """
    try:
        request = next(query)
        while True:
            try:
                page = client.send(*_http(client.config, request, clock))
            except VoiceOSError as error:
                request = query.throw(error)
            else:
                request = query.send(page)
    except StopIteration as end:
        result: T = end.value
        return result


async def arun(client: AsyncVoiceOSClient, query: Query[T], clock: ServerClock) -> T:
    """See `run`."""
    try:
        request = next(query)
        while True:
            try:
                page = await client.send(*_http(client.config, request, clock))
            except VoiceOSError as error:
                request = query.throw(error)
            else:
                request = query.send(page)
    except StopIteration as end:
        result: T = end.value
        return result


def cached(query: Query[T], pages: dict[ApiRequest, RawPage]) -> Query[T]:
    """Return the query with its requests answered from `pages` where possible; new pages are added to them."""
    try:
        request = next(query)
        while True:
            if request not in pages:
                try:
                    pages[request] = yield request
                except VoiceOSError as error:
                    request = query.throw(error)
                    continue
            request = query.send(pages[request])
    except StopIteration as end:
        result: T = end.value
        return result


def within_one_poll(config: ClientConfig, poke_interval: float) -> ClientConfig:
    """Return a configuration that retries a request for no longer than until the next poll."""
    retry = config.retry
    return replace(config, retry=replace(retry, deadline=min(retry.deadline, poke_interval)))


def _http(
    config: ClientConfig, request: ApiRequest, clock: ServerClock
) -> tuple[Request, Callable[[Request, Response], RawPage]]:
    """Return what the client sends for a request, and how it parses the response."""

    def parse(sent: Request, response: Response) -> RawPage:
        clock.observe(response.headers.get("date", ""))
        return split_page(sent, response) if isinstance(request, ListPage) else parse_one(sent, response)

    if not isinstance(request, ListPage):
        return one_conversation(request.conversation_id), parse
    window = Window(request.interval.start, request.interval.end)
    limit = request.page_size or config.page_size
    listing = Listing(request.status, window.created_after, window.created_before, limit)
    return listing.page(request.index), parse
