"""In-process transport for httpx clients.

A broken delivery raises the error that httpx raises for a real connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx

from voiceos_provider.emulator.http_messages import Broken, Request, Response, Step, delivery_steps


class EmulatorTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Transport for `httpx.Client` and `httpx.AsyncClient` that respects the client's read timeout."""

    def __init__(
        self, respond: Callable[[Request], Response], *, sleep: Callable[[float], None] | None = None
    ) -> None:
        self._respond = respond
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response, as over a connection."""
        request.read()
        arrival = _Arrival(request, self._respond(_request(request)))
        for seconds in arrival.head():
            self.wait(seconds)
        return arrival.response(_Body(arrival, self))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response, as over a connection; waiting does not block the event loop."""
        await request.aread()
        arrival = _Arrival(request, self._respond(_request(request)))
        for seconds in arrival.head():
            await self.wait_async(seconds)
        return arrival.response(_Body(arrival, self))

    def wait(self, seconds: float) -> None:
        """Wait, or call the replacement for waiting."""
        (self._sleep or time.sleep)(seconds)

    async def wait_async(self, seconds: float) -> None:
        """Wait, or call the replacement for waiting."""
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            await asyncio.sleep(seconds)


class _Arrival:
    """One response during its delivery; the iterators yield seconds to wait or received bytes."""

    def __init__(self, request: httpx.Request, response: Response) -> None:
        self._response = response
        self._head = response.head
        self._read_timeout: float | None = request.extensions.get("timeout", {}).get("read")
        self._steps = self._with_timeout(delivery_steps(self._head, response.body, response.delivery))

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
            self._response.status,
            headers=self._response.all_headers,
            stream=stream,
            extensions={"http_version": b"HTTP/1.1"},
        )

    def _with_timeout(self, steps: Iterator[Step]) -> Iterator[float | bytes]:
        waited = 0.0
        for step in steps:
            match step:
                case bytes():
                    waited = 0.0
                    yield step
                case Broken.RESET:
                    raise httpx.ReadError("[Errno 104] Connection reset by peer")
                case Broken.CLOSED:
                    expected, received = len(self._response.body), self._response.delivery.stop_after
                    raise httpx.RemoteProtocolError(
                        "peer closed connection without sending complete message body "
                        f"(received {received} bytes, expected {expected})"
                    )
                case seconds:
                    if self._read_timeout is not None and waited + seconds > self._read_timeout:
                        yield self._read_timeout - waited
                        raise httpx.ReadTimeout("The read operation timed out")
                    waited += seconds
                    yield seconds


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, arrival: _Arrival, transport: EmulatorTransport) -> None:
        self._arrival = arrival
        self._transport = transport

    def __iter__(self) -> Iterator[bytes]:
        for step in self._arrival.body():
            if isinstance(step, bytes):
                yield step
            else:
                self._transport.wait(step)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._arrival.body():
            if isinstance(step, bytes):
                yield step
            else:
                await self._transport.wait_async(step)


def _request(request: httpx.Request) -> Request:
    path, _, query = request.url.raw_path.partition(b"?")
    return Request(
        method=request.method,
        path=path.decode("ascii"),
        query_string=query.decode("ascii"),
        headers={name.lower(): value for name, value in request.headers.items()},
    )
