"""Wall-clock limit for one blocking request, however slowly the server sends.

A read timeout starts again with every byte. Asyncio code can be cancelled; blocking code cannot, so each blocking
socket call gets only the time that remains for the request. Checking the clock between the chunks of the body is not
enough: headers that arrive byte by byte are read inside httpcore.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

_READ_SIZE = 256 * 1024
"""Bytes to read at once. httpcore reads 64 KiB; a page of conversations is about seven times as large."""

_ends_at: ContextVar[float | None] = ContextVar("voiceos_request_ends_at", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit the total time of all blocking socket calls of this thread, in seconds."""
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def enforce_deadlines(client: httpx.Client) -> None:
    """Make the sockets of a client keep to `deadline`."""
    wrap_network(client, _Backend)


def wrap_network(
    client: httpx.Client, wrap: Callable[[httpcore.NetworkBackend], httpcore.NetworkBackend]
) -> None:
    """Replace the network of a client by one that uses it.

    :param wrap: returns the new network, given the one before
    """
    # httpx passes no network backend on to httpcore, and replacing its transports would lose its proxy
    # support, so the backend is wrapped in place. tests/integration/test_deadline.py fails if that stops working.
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if isinstance(pool, httpcore.ConnectionPool):
            pool._network_backend = wrap(pool._network_backend)


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
        return self._stream.read(max(max_bytes, _READ_SIZE), _remaining(timeout, httpcore.ReadTimeout))

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
