"""Network of the blocking clients: it limits the time of a request, however slowly the server sends.

A read timeout starts again with every byte. Asyncio code can be cancelled; blocking code cannot, so each blocking
socket call gets only the time that remains for the request. Checking the clock between the chunks of the body is not
enough, because headers may arrive byte by byte. Resolving a name is not limited, and each of its addresses gets the
time that remained before the first.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import h11
import httpcore
import httpx

MAX_IDLE = 5.0
"""Seconds after which an idle connection is not used again. As in httpx."""

READ_SIZE = 256 * 1024
"""Bytes to read at once. httpcore reads 64 KiB; a page of conversations is about seven times as large."""

_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    h11.ProtocolError,
)

_ends_at: ContextVar[float | None] = ContextVar("voiceos_request_ends_at", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit the total time of all blocking socket calls of this thread, in seconds."""
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


@contextmanager
def errors_of_httpx() -> Iterator[None]:
    """Raise errors of httpcore and h11 as those of httpx, which have the same names."""
    try:
        yield
    except _FAILURES as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


def _remaining(timeout: float | None, error: type[Exception]) -> float | None:
    ends_at = _ends_at.get()
    if ends_at is None:
        return timeout
    remaining = ends_at - time.monotonic()
    if remaining <= 0:
        raise error("the request took too long")
    return remaining if timeout is None else min(timeout, remaining)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.NetworkStream:
        timeout = _remaining(timeout, httpcore.ConnectTimeout)
        return _Stream(self._backend.connect_tcp(host, port, timeout, *args, **kwargs))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max(max_bytes, READ_SIZE), _remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _remaining(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


NETWORK = _Backend(httpcore.SyncBackend())
"""The network, whose sockets keep to `deadline`."""


class PoolTransport(httpx.BaseTransport):
    """Transport of `httpx.Client` over a network of ours; httpx's own has no parameter for it."""

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        *,
        network: httpcore.NetworkBackend = NETWORK,
        proxy: httpx.Proxy | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "ssl_context": ssl_context,
            "network_backend": network,
            "max_connections": 100,
            "max_keepalive_connections": 20,
            "keepalive_expiry": MAX_IDLE,
        }
        self._pool: httpcore.ConnectionPool
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**options)
            return
        options |= {"proxy_url": _core_url(proxy.url), "proxy_auth": proxy.raw_auth}
        if proxy.url.scheme.startswith("socks"):
            self._pool = httpcore.SOCKSProxy(**options)
        else:
            headers = proxy.headers.raw
            self._pool = httpcore.HTTPProxy(
                **options, proxy_headers=headers, proxy_ssl_context=proxy.ssl_context
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        assert isinstance(request.stream, httpx.SyncByteStream)
        with errors_of_httpx():
            response = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    _core_url(request.url),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with errors_of_httpx():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
