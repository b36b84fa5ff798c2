"""Client for asyncio, for triggers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

import httpx

from voiceos_provider.client import requests
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.models import Conversation
from voiceos_provider.client.pages import Page, decoded_page, parse_conversation_response, split_page
from voiceos_provider.client.requests import Request
from voiceos_provider.client.responses import Response, parse_nothing, parse_recording_url
from voiceos_provider.client.transport import BaseClient, Outcome, complete, result
from voiceos_provider.exceptions import VoiceOSAPIError

T = TypeVar("T")


class AsyncVoiceOSClient(BaseClient):
    """Client for asyncio: the calls of `VoiceOSClient` except those for exports, with the same retries and errors."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(config, monotonic, rng)
        self._sleep = sleep
        self._http = self._open(httpx.AsyncClient, transport)

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
        """Yield pages; see `VoiceOSClient.list_conversations`."""
        paginator = self._paginator(status, created_after, created_before, page_size)
        while request := paginator.request:
            page = await self.send(request, split_page)
            paginator.update(page)
            yield decoded_page(page)

    async def get_conversation(self, conversation_id: str) -> Conversation:
        """Return one conversation; see `VoiceOSClient.get_conversation`."""
        return await self.send(requests.one_conversation(conversation_id), parse_conversation_response)

    async def get_recording_url(self, conversation_id: str) -> str:
        """Return the URL of a recording; see `VoiceOSClient.get_recording_url`."""
        return await self.send(requests.recording(conversation_id), parse_recording_url)

    async def check_health(self) -> None:
        """Raise unless the API responds; see `VoiceOSClient.check_health`."""
        await self.send(requests.health(), parse_nothing)

    async def send(self, request: Request, parse: Callable[[Request, Response], T]) -> T:
        """Send one request, retry it as configured, and return the parsed response.

        :param request: the request, from `voiceos_provider.client.requests`
        :param parse: turns the request and its response into the result; an error it raises fails the attempt
        :raises VoiceOSAPIError: if the last attempt fails
        """
        attempts = self._attempts()
        while True:
            while self._limiter and (wait := self._limiter.delay()):
                await self._sleep(wait)
            outcome = await self._exchange(request)
            try:
                return result(request, outcome, parse)
            except VoiceOSAPIError as error:
                delay = attempts.delay_after(error)
            await self._sleep(delay)

    async def _exchange(self, request: Request) -> Outcome:
        head: Response | None = None
        try:
            async with (
                asyncio.timeout(self.config.request_timeout),
                self._http.stream(**self._stream_arguments(request)) as response,
            ):
                head = Response(response.status_code, response.headers, secret=self._token)
                body = self._body_reader(request, head)
                async for chunk in response.aiter_raw():
                    body.feed(chunk)
                return complete(head, body)
        except (VoiceOSAPIError, httpx.TransportError, httpx.InvalidURL, OSError) as error:
            # OSError: asyncio's timeout, and TLS 1.3 alerts after the handshake, which httpx passes on.
            return self._failed(request, head, error)
