"""The door in process: how does an answer reach an httpx client without a socket?

Whatever goes wrong on the way is raised as httpx would raise it from a real connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx

from voiceos_provider.emulator.delivery import Broken, Step, journey
from voiceos_provider.emulator.exchange import Answer, Request


class EmulatorTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport for `httpx.Client` and `httpx.AsyncClient`; keeps the client's read timeout."""

    def __init__(
        self, answer: Callable[[Request], Answer], *, sleep: Callable[[float], None] | None = None
    ) -> None:
        self._answer = answer
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as a server would."""
        request.read()
        arriving = _Arriving(request, self._answer(_asked(request)))
        for seconds in arriving.head():
            self.wait(seconds)
        return arriving.response(_Body(arriving, self))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as a server would, without blocking the loop while waiting."""
        await request.aread()
        arriving = _Arriving(request, self._answer(_asked(request)))
        for seconds in arriving.head():
            await self.wait_async(seconds)
        return arriving.response(_Body(arriving, self))

    def wait(self, seconds: float) -> None:
        """Let so much time pass, or pretend to."""
        (self._sleep or time.sleep)(seconds)

    async def wait_async(self, seconds: float) -> None:
        """Let so much time pass, or pretend to."""
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            await asyncio.sleep(seconds)


class _Arriving:
    """One answer on its way: what is yielded is a number of seconds to wait, or bytes that came."""

    def __init__(self, request: httpx.Request, answer: Answer) -> None:
        self._answer = answer
        self._head = answer.head
        self._patience: float | None = request.extensions.get("timeout", {}).get("read")
        self._steps = self._patient(journey(self._head, answer.body, answer.delivery))

    def head(self) -> Iterator[float]:
        missing = len(self._head)
        while missing:
            step = next(self._steps)
            if isinstance(step, bytes):
                missing -= len(step)
            else:
                yield step

    def body(self) -> Iterator[float | bytes]:
        yield from self._steps

    def response(self, stream: _Body) -> httpx.Response:
        return httpx.Response(
            self._answer.status,
            headers=self._answer.all_headers,
            stream=stream,
            extensions={"http_version": b"HTTP/1.1"},
        )

    def _patient(self, steps: Iterator[Step]) -> Iterator[float | bytes]:
        waited = 0.0
        for step in steps:
            match step:
                case bytes():
                    waited = 0.0
                    yield step
                case Broken.RESET:
                    raise httpx.ReadError("[Errno 104] Connection reset by peer")
                case Broken.CLOSED:
                    expected, received = len(self._answer.body), self._answer.delivery.stop_after
                    raise httpx.RemoteProtocolError(
                        "peer closed connection without sending complete message body "
                        f"(received {received} bytes, expected {expected})"
                    )
                case seconds:
                    if self._patience is not None and waited + seconds > self._patience:
                        yield self._patience - waited
                        raise httpx.ReadTimeout("The read operation timed out")
                    waited += seconds
                    yield seconds


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, arriving: _Arriving, transport: EmulatorTransport) -> None:
        self._arriving = arriving
        self._transport = transport

    def __iter__(self) -> Iterator[bytes]:
        for step in self._arriving.body():
            if isinstance(step, bytes):
                yield step
            else:
                self._transport.wait(step)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._arriving.body():
            if isinstance(step, bytes):
                yield step
            else:
                await self._transport.wait_async(step)


def _asked(request: httpx.Request) -> Request:
    path, _, query = request.url.raw_path.partition(b"?")
    return Request(
        method=request.method,
        path=path.decode("ascii"),
        query_string=query.decode("ascii"),
        headers={name.lower(): value for name, value in request.headers.items()},
    )
