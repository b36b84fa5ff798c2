"""The API, sync and async: send what the flow asks for, sleep when it says so."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import httpcore
import httpx

from voiceos_provider import __version__
from voiceos_provider.client import requests
from voiceos_provider.client.body import ACCEPT_ENCODING, Body
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.deadline import deadline, observe_deadline
from voiceos_provider.client.flow import Call, Outcome, call
from voiceos_provider.client.models import Conversation, parse_conversation
from voiceos_provider.client.pages import Page, RawPage, parse_page, replace_unstorable, split_page, typed
from voiceos_provider.client.paging import PageWalk
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.responses import Response, malformed
from voiceos_provider.client.values import loads
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSAuthError,
    VoiceOSConnectionError,
    VoiceOSTLSError,
)

T = TypeVar("T")

log = logging.getLogger(__name__)


class _Client:
    """What both clients remember."""

    def __init__(
        self, settings: ClientConfig, monotonic: Callable[[], float], rng: random.Random | None
    ) -> None:
        self.settings = settings
        self._token = settings.token
        self._monotonic = monotonic
        self._rng = rng or random.Random()
        # A single reader waits by itself when it is told to; all that is left to the gate is the rate.
        rate = settings.requests_per_second
        self._gate = RateLimiter(requests_per_second=rate, monotonic=monotonic) if rate else None
        _keep_urls_out_of_the_log(settings.base_url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.base_url!r})"

    @property
    def _options(self) -> dict[str, Any]:
        patience = self.settings.request_timeout
        return {
            "base_url": self.settings.base_url,
            "verify": self.settings.verify,
            "timeout": httpx.Timeout(patience, connect=min(self.settings.connect_timeout, patience)),
            "follow_redirects": False,
            "headers": {
                "Accept": "application/json",
                "Accept-Encoding": ACCEPT_ENCODING,
                "User-Agent": f"airflow-provider-voiceos/{__version__}",
            },
        }

    def _stream_arguments(self, request: Request) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"} if request.authenticated else {}
        # Whole, because httpx reads an address anew for each part that is added to it.
        url = f"{self.settings.base_url.rstrip('/')}{request.path}"
        if request.params:
            url += "?" + urlencode(request.params, safe=":")
        return {"method": "GET", "url": url, "headers": headers}

    def _body(self, request: Request, head: Response) -> Body:
        encoding = head.headers.get("content-encoding", "")
        return Body(str(request), encoding, limit=self.settings.max_body_bytes)

    def _call(
        self, request: Request, parse: Callable[[Request, Response], T], max_attempts: int | None = None
    ) -> Call[T]:
        retry = self.settings.retry
        return call(
            request,
            parse,
            retry=retry if max_attempts is None else replace(retry, max_attempts=max_attempts),
            secret=self._token,
            monotonic=self._monotonic,
            rng=self._rng,
        )

    def _connection_error(self, request: Request, error: Exception) -> VoiceOSConnectionError:
        what = " ".join(_QUOTED_BYTES.sub("", str(error)).split()) or "no answer in time"
        message = (
            f"{request}: no whole answer from {self.settings.base_url} ({type(error).__name__}: {what})."
        )
        if "CERTIFICATE_VERIFY_FAILED" in what:
            return VoiceOSTLSError(f"{message} Set the connection's ca_bundle to your company's CA file.")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            message += (
                " Check the base URL in the connection's host field, and that this worker may reach it."
            )
        return VoiceOSConnectionError(message)

    def _walk(
        self,
        status: str | None,
        created_after: datetime | None,
        created_before: datetime | None,
        page_size: int | None,
    ) -> PageWalk:
        size = self.settings.page_size if page_size is None else page_size
        listing = Listing(status, created_after, created_before, size)
        return PageWalk(listing, max_pages=self.settings.max_pages)


class VoiceOSClient(_Client):
    """The API, blocking. Nothing is sent before it is asked for something.

    Every call sends one request until it is answered whole: it retries what may pass (no answer, 5xx, a body that
    is cut, is not JSON or has not the documented shape), waits as long as a 429 asks, and raises an error of
    `voiceos_provider.exceptions` otherwise.

    :param settings: where the API is, the token, and how much patience to have
    :param transport: replaces the network, for tests
    :param sleep: called with seconds to wait
    :param monotonic: the clock that waits are measured with, in seconds
    :param rng: where jitter comes from
    :param renew_token: asked for the token of now, once for each time that one is refused
    """

    def __init__(
        self,
        settings: ClientConfig,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        renew_token: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(settings, monotonic, rng)
        self._sleep = sleep
        self._renew_token = renew_token
        self._renewing = threading.Lock()
        self._http = httpx.Client(**self._options, transport=transport)
        observe_deadline(self._http)

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
        """Page through the conversations, decoded.

        An id may come twice while conversations are created or deleted: the later copy is the newer one.

        :raises ValueError: on a bad argument
        :raises VoiceOSError: as in `voiceos_provider.exceptions`
        """
        walk = self._walk(status, created_after, created_before, page_size)
        while request := walk.request:
            page = self.send(request, split_page)
            walk.accept(page)
            yield typed(page)

    def list_raw(
        self,
        *,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[RawPage]:
        """Like `list_conversations`, for those who make columns of it: see `RawPage`."""
        walk = self._walk(status, created_after, created_before, page_size)
        while request := walk.request:
            page = self.send(request, parse_page)
            walk.accept(page)
            yield page

    def get_conversation(self, conversation_id: str) -> Conversation:
        """One conversation by its id.

        :raises VoiceOSNotFoundError: if there is none
        """
        return self.send(requests.one_conversation(conversation_id), _parse_conversation)

    def get_recording_url(self, conversation_id: str) -> str:
        """Where the recording can be fetched; probably for a short time only (inferred).

        :raises VoiceOSNotFoundError: if there is no recording (inferred)
        """
        return self.send(requests.recording(conversation_id), _parse_recording)

    def check_health(self) -> None:
        """Return if the API answers; needs no token."""
        self.send(requests.health(), _is_there)

    def send(
        self,
        request: Request,
        parse: Callable[[Request, Response], T],
        *,
        limiter: RateLimiter | None = None,
        sleep: Callable[[float], None] | None = None,
        max_attempts: int | None = None,
    ) -> T:
        """Send one request, retry it as configured, and return the parsed response.

        A refused token is renewed once, if the client was given `renew_token`.

        :param request: the request, from `voiceos_provider.client.requests`
        :param parse: turns the request and its response into the result; an error it raises fails the attempt
        :param limiter: rate limiter shared with other threads; see `rate_limiter`
        :param sleep: replaces the client's own, for instance to end early when the caller is cancelled
        :param max_attempts: replaces the configured number of attempts
        :raises VoiceOSAPIError: once the request has failed for good
        """
        limiter, sleep, token = limiter or self._gate, sleep or self._sleep, self._token
        try:
            return self._run(self._call(request, parse, max_attempts), limiter, sleep)
        except VoiceOSAuthError:
            if not self._renew(token):
                raise
        return self._run(self._call(request, parse, max_attempts), limiter, sleep)

    @property
    def sleep(self) -> Callable[[float], None] | None:
        """The replacement for waiting, or None if the client really waits."""
        return None if self._sleep is time.sleep else self._sleep

    def rate_limiter(self, max_concurrency: int) -> RateLimiter:
        """Return a rate limiter for threads that share this client; it keeps to `requests_per_second`.

        :param max_concurrency: how many requests may be in flight at a time
        """
        rate = self.settings.requests_per_second
        return RateLimiter(max_concurrency, requests_per_second=rate, monotonic=self._monotonic)

    def _renew(self, refused: str) -> bool:
        """Whether there is another token than the one that was refused."""
        with self._renewing:
            if self._token == refused and self._renew_token is not None:
                self._token = self._renew_token()
                if self._token != refused:
                    log.warning(
                        "The token was refused in mid-work. There is a new one, which is used from now on."
                    )
            return self._token != refused

    def _run(self, call: Call[T], gate: RateLimiter | None, sleep: Callable[[float], None]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = call.send(outcome)
                if isinstance(step, Request):
                    while gate and (wait := gate.wait()):
                        sleep(wait)
                    outcome = self._send(step)
                    if gate:
                        gate.hear(outcome)
                else:
                    if gate:
                        gate.hold(step)
                    sleep(step)
                    outcome = None
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: Request) -> Outcome:
        head: Response | None = None
        try:
            with (
                deadline(self.settings.request_timeout),
                self._http.stream(**self._stream_arguments(request)) as response,
            ):
                head = Response(response.status_code, response.headers)
                body = self._body(request, head)
                for chunk in response.iter_raw():
                    body.feed(chunk)
                return replace(head, body=body.finish())
        except VoiceOSAPIError as error:
            return _without_body(head, error)
        except (httpx.TransportError, httpcore.TimeoutException) as error:
            return _without_body(head, self._connection_error(request, error))


class AsyncVoiceOSClient(_Client):
    """The API for asyncio; the same calls but those of exports, the same settings and promises as `VoiceOSClient`."""

    def __init__(
        self,
        settings: ClientConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(settings, monotonic, rng)
        self._sleep = sleep
        self._http = httpx.AsyncClient(**self._options, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        await self._http.aclose()

    async def list_conversations(
        self,
        *,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[Page]:
        """See `VoiceOSClient.list_conversations`."""
        walk = self._walk(status, created_after, created_before, page_size)
        while request := walk.request:
            page = await self._run(self._call(request, split_page))
            walk.accept(page)
            yield typed(page)

    async def get_conversation(self, conversation_id: str) -> Conversation:
        """See `VoiceOSClient.get_conversation`."""
        return await self._run(self._call(requests.one_conversation(conversation_id), _parse_conversation))

    async def get_recording_url(self, conversation_id: str) -> str:
        """See `VoiceOSClient.get_recording_url`."""
        return await self._run(self._call(requests.recording(conversation_id), _parse_recording))

    async def check_health(self) -> None:
        """See `VoiceOSClient.check_health`."""
        await self._run(self._call(requests.health(), _is_there))

    async def _run(self, call: Call[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = call.send(outcome)
                while isinstance(step, Request) and self._gate and (wait := self._gate.wait()):
                    await self._sleep(wait)
                outcome = await (self._send(step) if isinstance(step, Request) else self._sleep(step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, request: Request) -> Outcome:
        head: Response | None = None
        try:
            async with (
                asyncio.timeout(self.settings.request_timeout),
                self._http.stream(**self._stream_arguments(request)) as response,
            ):
                head = Response(response.status_code, response.headers)
                body = self._body(request, head)
                async for chunk in response.aiter_raw():
                    body.feed(chunk)
                return replace(head, body=body.finish())
        except VoiceOSAPIError as error:
            return _without_body(head, error)
        except (httpx.TransportError, OSError) as error:
            # OSError: asyncio's timeout, and what TLS 1.3 has to say after the handshake, which httpx lets through.
            return _without_body(head, self._connection_error(request, error))


def _without_body(head: Response | None, error: VoiceOSAPIError) -> Outcome:
    """What to make of an answer whose body did not come: an error's status says enough without it."""
    return error if head is None or head.is_success else head


# Where h11 cannot read what was sent, it quotes it.
_QUOTED_BYTES = re.compile(r"[:\s]*(bytearray\()?\bb(['\"]).*", re.S)


def _parse_conversation(request: Request, answer: Response) -> Conversation:
    try:
        body, _ = replace_unstorable(answer.body)
        return parse_conversation(body)
    except (ValueError, RecursionError):
        raise malformed(request, answer, "the body is not a conversation with an id") from None


def _parse_recording(request: Request, answer: Response) -> str:
    try:
        content = loads(answer.body)
    except (ValueError, RecursionError):
        content = None
    url = content.get("recording_url") if isinstance(content, dict) else None
    if not isinstance(url, str):
        raise malformed(request, answer, "the body has no 'recording_url'")
    return url


def _is_there(request: Request, answer: Response) -> bool:
    return True  # any success will do


_quiet_hosts: set[str] = set()


def _keep_urls_out_of_the_log(base_url: str) -> None:
    """httpx logs every URL with its query at INFO. Drop those of our hosts, and leave other users' alone."""
    _quiet_hosts.add(httpx.URL(base_url).host)
    logger = logging.getLogger("httpx")
    if _is_not_ours not in logger.filters:
        logger.addFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(isinstance(item, httpx.URL) and item.host in _quiet_hosts for item in arguments)
