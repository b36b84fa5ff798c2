"""Server on a port."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from voiceos_provider.emulator import Emulator, Fault

_HEADERS = {"Authorization": "Bearer emulator-token"}


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=5)


def test_one_connection_serves_many_requests(emulator: Emulator) -> None:
    """Responses are in order, also for pipelined requests."""
    with emulator.serve() as url, _connect(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        received = b""
        while received.count(b'{"status":"ok"}') < 3:
            received += connection.recv(65_536)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3


def test_a_client_can_ask_to_close_the_connection(emulator: Emulator) -> None:
    """`Connection: close` and HTTP/1.0 end the connection after the response."""
    for request in (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
        with emulator.serve() as url, _connect(url) as connection:
            connection.sendall(request)
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert received.endswith(b'{"status":"ok"}')


def test_invalid_http_is_a_bad_request(emulator: Emulator) -> None:
    """The server responds 400 to invalid HTTP and to bodies of unknown length, and continues."""
    with emulator.serve() as url:
        for nonsense in (
            b"\x16\x03\x01 hello\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            with _connect(url) as connection:
                connection.sendall(nonsense)
                assert b"400" in connection.recv(65_536)
        assert httpx.get(url).json() == {"status": "ok"}


def test_concurrent_requests(emulator: Emulator) -> None:
    """Each request gets its own response and is recorded."""

    def read(index: int) -> int:
        response = client.get("/conversations", params={"index": index, "limit": 20})
        page = response.raise_for_status().json()
        assert page["index"] == index
        return len(page["items"])

    with (
        emulator.serve() as url,
        httpx.Client(base_url=url, headers=_HEADERS, verify=False) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        assert sum(pool.map(read, range(1, 38))) == 730
    assert sorted(int(request.query["index"]) for request in emulator.requests) == list(range(1, 38))


def test_leaving_the_context_ends_all_connections(emulator: Emulator) -> None:
    """Idle connections, slow responses and threads end, and the port is free again."""
    emulator.faults.add(Fault.drip_body(10))
    threads = threading.active_count()
    with emulator.serve() as url:
        idle, dripping = _connect(url), _connect(url)
        dripping.sendall(b"GET /conversations HTTP/1.1\r\nAuthorization: Bearer emulator-token\r\n\r\n")
        assert dripping.recv(100)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    with idle, dripping:
        assert idle.recv(100) == b""
    deadline = time.monotonic() + 1
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.005)
    assert threading.active_count() <= threads
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    with emulator.serve(port=urlsplit(url).port or 0) as again:
        assert again == url


def test_transport_and_server_share_one_world(emulator: Emulator) -> None:
    """A change of the world is visible through both."""
    with (
        emulator.serve() as url,
        httpx.Client(transport=emulator.transport(), base_url="http://emulator", headers=_HEADERS) as inside,
        httpx.Client(base_url=url, headers=_HEADERS) as outside,
    ):
        before = inside.get("/conversations").content
        assert outside.get("/conversations").content == before
        emulator.world.delete(emulator.world.ids()[-1])
        after = inside.get("/conversations").content
        assert outside.get("/conversations").content == after != before
