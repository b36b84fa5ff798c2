"""Blocking client for the VoiceOS API."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

import httpcore
import httpx

from voiceos_provider.client import requests
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.direct_client import DirectClient
from voiceos_provider.client.models import Conversation
from voiceos_provider.client.network import PoolTransport, deadline
from voiceos_provider.client.pages import (
    Page,
    RawPage,
    decoded_page,
    parse_conversation_response,
    parse_page,
    split_page,
)
from voiceos_provider.client.paging import PageNumberPaginator
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import Request
from voiceos_provider.client.responses import Response, parse_nothing, parse_recording_url
from voiceos_provider.client.retry import Retry
from voiceos_provider.client.transport import HEADERS, BaseClient, Outcome, complete, result
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSAuthError

T = TypeVar("T")

log = logging.getLogger(__name__)

_RENEWALS = 2
"""Renewals of the token during one request: another thread may have renewed it first, and that one has expired, too."""


class VoiceOSClient(BaseClient):
    """Blocking client for the VoiceOS API. Creating it sends no request.

    Transient failures are retried: no response, 5xx, and a body that is truncated, not JSON, or not in the documented
    format. After a rate limit (429) the client waits. Every other failure raises an error of
    `voiceos_provider.exceptions`.

    :param config: base URL, token, limits and retries
    :param transport: replaces the network, for tests
    :param sleep: waits, given seconds
    :param monotonic: clock that waits are measured with, in seconds
    :param rng: random source for jitter
    :param renew_token: returns the current token; called once for each token that the API refuses
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        renew_token: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(config, monotonic, rng)
        self._sleep = sleep
        self._renew_token = renew_token
        self._renewing = threading.Lock()
        self._http = self._connections(transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._http.close()

    def list_conversations(
        self,
        *,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[Page]:
        """Yield the pages of conversations, decoded.

        Pages may contain duplicates while conversations are created or deleted; the later copy is the newer one.

        :raises VoiceOSValueError: if an argument is invalid
        :raises VoiceOSAPIError: if the last attempt of a request fails
        """
        paginator = self._paginator(status, created_after, created_before, page_size)
        return map(decoded_page, self._pages(paginator, split_page))

    def list_raw(
        self,
        *,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[RawPage]:
        """Yield the pages as `list_conversations` does, but not decoded: see `RawPage`."""
        return self._pages(self._paginator(status, created_after, created_before, page_size), parse_page)

    def get_conversation(self, conversation_id: str) -> Conversation:
        """Return one conversation.

        :raises VoiceOSNotFoundError: if it does not exist
        """
        return self.send(requests.one_conversation(conversation_id), parse_conversation_response)

    def get_recording_url(self, conversation_id: str) -> str:
        """Return the URL of a recording. It probably expires soon (inferred).

        :raises VoiceOSNotFoundError: if there is no recording (inferred)
        """
        return self.send(requests.recording(conversation_id), parse_recording_url)

    def check_health(self) -> None:
        """Raise unless the API responds. Needs no token."""
        self.send(requests.health(), parse_nothing)

    def send(
        self,
        request: Request,
        parse: Callable[[Request, Response], T],
        *,
        limiter: RateLimiter | None = None,
        sleep: Callable[[float], None] | None = None,
        retry: Retry | None = None,
    ) -> T:
        """Send one request, retry it as configured, and return the parsed response.

        If the API refuses the token and the client has `renew_token`, the request is sent again with a renewed token.

        :param request: the request, from `voiceos_provider.client.requests`
        :param parse: turns the request and its response into the result; an error it raises fails the attempt
        :param limiter: rate limiter shared with other threads; see `rate_limiter`
        :param sleep: replaces the client's own, for instance to end early when the caller is cancelled
        :param retry: replaces the configured retries of this request
        :raises VoiceOSAPIError: if the last attempt fails
        """
        limiter, sleep = limiter or self._limiter, sleep or self._sleep
        attempts, renewals = self._attempts(retry), 0
        while True:
            while limiter and (wait := limiter.delay()):
                sleep(wait)
            token = self._token
            outcome = self._exchange(request)
            if limiter:
                limiter.record(outcome)
            try:
                return result(request, outcome, parse)
            except VoiceOSAPIError as error:
                if isinstance(error, VoiceOSAuthError) and renewals < _RENEWALS and self._renew(token):
                    attempts, renewals = self._attempts(retry), renewals + 1
                    continue
                delay = attempts.delay_after(error)
            sleep(delay)

    @property
    def sleep(self) -> Callable[[float], None] | None:
        """The replacement for waiting, or None if the client really waits."""
        return None if self._sleep is time.sleep else self._sleep

    def rate_limiter(self, max_concurrency: int) -> RateLimiter:
        """Return a rate limiter for threads that share this client; it keeps to `requests_per_second`.

        :param max_concurrency: how many requests may be in flight at a time
        """
        rate = self.config.requests_per_second
        return RateLimiter(max_concurrency, requests_per_second=rate, monotonic=self._monotonic)

    def _pages(
        self, paginator: PageNumberPaginator, parse: Callable[[Request, Response], RawPage]
    ) -> Iterator[RawPage]:
        while request := paginator.request:
            page = self.send(request, parse)
            paginator.update(page)
            yield page

    def _renew(self, refused: str) -> bool:
        """Return whether there is another token than the one that was refused."""
        with self._renewing:
            if self._token == refused and self._renew_token is not None:
                self._token = self._renew_token()
                if self._token != refused:
                    log.warning("The API refused the token; continuing with the connection's new one.")
            return self._token != refused

    def _connections(self, transport: httpx.BaseTransport | None) -> httpx.Client | DirectClient:
        # httpx sends a user of the URL as another Authorization.
        if transport is None and self._proxy is None and not httpx.URL(self.config.base_url).userinfo:
            return DirectClient(
                headers={**HEADERS, "Connection": "keep-alive"},
                ssl_context=self._ssl_context(),
                connect_timeout=self._connect_timeout,
            )
        if transport is None:
            ssl_context = self._ssl_context()
            proxy = self._proxy.settings if self._proxy else None
            with self._socks_is_installed():
                transport = PoolTransport(ssl_context, proxy=proxy)
        return self._open(httpx.Client, transport)

    def _exchange(self, request: Request) -> Outcome:
        head: Response | None = None
        try:
            with (
                deadline(self.config.request_timeout),
                self._http.stream(**self._stream_arguments(request)) as response,
            ):
                head = Response(response.status_code, response.headers, secret=self._token)
                body = self._body_reader(request, head)
                for chunk in response.iter_raw():
                    body.feed(chunk)
                return complete(head, body)
        except (VoiceOSAPIError, httpx.TransportError, httpx.InvalidURL, httpcore.TimeoutException) as error:
            return self._failed(request, head, error)
