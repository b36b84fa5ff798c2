"""Connections of the blocking client, without httpx and through it: the same requests, reuse and errors."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpcore
import httpx
import pytest

from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient, direct_client
from voiceos_provider.client.direct_client import DirectClient
from voiceos_provider.client.network import NETWORK, PoolTransport, deadline
from voiceos_provider.exceptions import VoiceOSConnectionError, VoiceOSResponseError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Open = Callable[..., VoiceOSClient]


def open_direct(url: str, **changes: float) -> VoiceOSClient:
    """Return a client that has its own connections."""
    config = ClientConfig(
        token="tok_1",
        base_url=url,
        verify=False,
        retry=Retry(max_attempts=1),
        **{"request_timeout": 5} | changes,
    )  # type: ignore[arg-type]
    return VoiceOSClient(config)


def open_through_httpx(url: str, **changes: float) -> VoiceOSClient:
    """Return a client that uses httpx, as with a proxy."""
    config = open_direct(url, **changes).config
    return VoiceOSClient(config, transport=PoolTransport(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))


@pytest.fixture(params=[open_direct, open_through_httpx], ids=["direct", "httpx"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Return a function that opens a client, with either kind of connections."""
    function: Open = request.param
    return function


@contextmanager
def serving(
    *connections: list[bytes], host: str = "127.0.0.1", hold: bool = False
) -> Iterator[tuple[str, list[list[bytes]]]]:
    """Yield a URL, and the requests of each connection.

    :param connections: the responses of each connection, which is closed after the last one
    :param hold: keep each connection open after its last response
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family)
    seen: list[list[bytes]] = []

    def serve() -> None:
        with ExitStack() as held, suppress(OSError):
            for responses in connections:
                connection = held.enter_context(server.accept()[0])
                connection.settimeout(5)
                seen.append([])
                for response in responses:
                    seen[-1].append(connection.recv(65_536))
                    connection.sendall(response)
                if not hold:
                    connection.close()
            finished.wait(10)

    finished = threading.Event()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"http://{shown}:{server.getsockname()[1]}", seen
    finally:
        finished.set()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(6)


def test_both_send_the_same_request() -> None:
    """Only the order of the headers may differ."""
    sent = []
    for function in (open_direct, open_through_httpx):
        with serving([OK]) as (url, seen), function(url + "/v1/") as client:
            with pytest.raises(VoiceOSResponseError):
                next(client.list_conversations(status="ended", page_size=7))
            line, *headers = seen[0][0].decode().split("\r\n")
            sent.append((line, sorted(h for h in headers if not h.startswith("Host"))))
            assert f"Host: {url.removeprefix('http://')}" in headers
    assert sent[0] == sent[1]
    assert sent[0][0] == "GET /v1/conversations?status=ended&index=1&limit=7 HTTP/1.1"


def test_connection_is_used_again(opened: Open) -> None:
    """One connection serves requests that follow each other."""
    with serving([OK, OK, OK]) as (url, seen), opened(url) as client:
        for _ in range(3):
            client.check_health()
    assert [len(requests) for requests in seen] == [3]


def test_connection_that_the_server_closed_is_not_used_again(opened: Open) -> None:
    """A closed idle connection costs no attempt."""
    with serving([OK], [OK]) as (url, seen), opened(url) as client:
        client.check_health()
        time.sleep(0.1)
        client.check_health()
    assert [len(requests) for requests in seen] == [1, 1]


def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not used for a while is closed, though others are."""
    monkeypatch.setattr(direct_client, "MAX_IDLE", 0.2)
    server = socket.create_server(("127.0.0.1", 0))
    with server, open_direct(f"http://127.0.0.1:{server.getsockname()[1]}") as client, ExitStack() as stack:
        threads = [threading.Thread(target=client.check_health) for _ in range(2)]
        for thread in threads:
            thread.start()
        used, idle = (stack.enter_context(server.accept()[0]) for _ in threads)
        for connection in (used, idle):
            connection.recv(65_536)
        for connection in (idle, used):  # the one released last is used next
            connection.sendall(OK)
            time.sleep(0.05)
        for _ in range(4):
            thread = threading.Thread(target=client.check_health)
            thread.start()
            used.settimeout(5)
            used.recv(65_536)
            used.sendall(OK)
            thread.join(5)
            time.sleep(0.1)
        idle.settimeout(5)
        assert idle.recv(1) == b""


@pytest.mark.parametrize(
    "response",
    [
        OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
        OK.replace(b"1.1", b"1.0"),
    ],
    ids=["close", "HTTP/1.0"],
)
def test_connection_that_must_not_be_used_again_is_not(opened: Open, response: bytes) -> None:
    """The server may keep it open."""
    with serving([response], [OK], hold=True) as (url, seen), opened(url) as client:
        client.check_health()
        client.check_health()
    assert [len(requests) for requests in seen] == [1, 1]


def test_bytes_after_a_response_are_not_read_as_the_next_one() -> None:
    """The client would take each following response for another request's."""
    with (
        serving([OK + OK.replace(b"200", b"404")], [OK], hold=True) as (url, seen),
        open_direct(url) as client,
    ):
        client.check_health()
        client.check_health()
    assert [len(requests) for requests in seen] == [1, 1]


@pytest.mark.parametrize("status", ["100 Continue", "103 Early Hints"])
def test_informational_response_is_skipped(opened: Open, status: str) -> None:
    """The final response follows it."""
    early = f"HTTP/1.1 {status}\r\nLink: </x>\r\n\r\n".encode()
    with serving([early + OK]) as (url, _), opened(url) as client:
        client.check_health()


INVALID = {
    "lengths that differ": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
    "a body that is too short": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
    "an unknown transfer encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    "a chunk with a sign": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a protocol that was not offered": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "a large header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "headers that end too early": b"HTTP/1.1 200 OK\r\nContent-",
    "nothing": b"",
}


@pytest.mark.parametrize("response", INVALID.values(), ids=INVALID.keys())
def test_errors_are_the_same(response: bytes) -> None:
    """Both raise the same message about an invalid response."""
    messages = []
    for function in (open_direct, open_through_httpx):
        with serving([response]) as (url, _), function(url) as client:
            with pytest.raises(VoiceOSConnectionError) as caught:
                client.check_health()
            messages.append(str(caught.value).replace(url, "URL"))
    assert messages[0] == messages[1]
    assert "URL (RemoteProtocolError: " in messages[0]


def test_address_of_ipv6_is_reached(opened: Open) -> None:
    """Its brackets belong to the URL and the Host header, not to the address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:  # as in containers without IPv6
        pytest.skip(f"this machine has no address ::1: {error}")
    with serving([OK], host="::1") as (url, seen), opened(url) as client:
        client.check_health()
    assert b"\r\nHost: [::1]:" in seen[0][0]


def test_user_of_the_base_url_is_sent_as_httpx_does() -> None:
    """A base URL with a user works as before."""
    with serving([OK]) as (url, seen), open_direct(url.replace("://", "://user:secret@")) as client:
        client.check_health()
    assert b"Basic dXNlcjpzZWNyZXQ=" in seen[0][0]


def test_closed_client_sends_nothing(opened: Open) -> None:
    """A thread that retries after the client was closed must end."""
    with serving([OK]) as (url, seen):
        client = opened(url)
        client.close()
        with pytest.raises(RuntimeError, match="the client has been closed"):
            client.check_health()
    assert seen == []


def test_closing_ends_a_request_of_another_thread(opened: Open) -> None:
    """It ends when its next bytes arrive, and not at its deadline only."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = opened(f"http://127.0.0.1:{server.getsockname()[1]}", request_timeout=30)
        errors: list[BaseException] = []

        def check() -> None:
            try:
                client.check_health()
            except VoiceOSConnectionError as error:
                errors.append(error)

        thread = threading.Thread(target=check, daemon=True)
        thread.start()
        connection = stack.enter_context(server.accept()[0])
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for sent in range(100):
            if sent == 10:
                client.close()
            time.sleep(0.01)
            with suppress(OSError):
                connection.send(b"x")
        thread.join(1)
        assert not thread.is_alive()
    assert len(errors) == 1


def test_deadline_between_connecting_and_tls_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error holds the connection, which the garbage collector would close only later."""

    class SlowNetwork(httpcore.NetworkBackend):
        """Connects, and waits until the deadline is over."""

        def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
            stream = NETWORK.connect_tcp(*args, **kwargs)
            time.sleep(0.2)
            return stream

    monkeypatch.setattr(direct_client, "NETWORK", SlowNetwork())
    client = DirectClient(headers={}, ssl_context=ssl.create_default_context(), connect_timeout=5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(httpx.ConnectTimeout) as held, deadline(0.1):
            client.stream(method="GET", url=url, headers={}).__enter__()
        with server.accept()[0] as connection:
            connection.settimeout(5)
            assert connection.recv(1) == b""
    assert held.value.__traceback__ is not None


def test_connecting_ends_at_its_own_limit(opened: Open) -> None:
    """A server whose queue is full does not respond at all."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        client = stack.enter_context(opened(url, connect_timeout=0.2))
        began = time.monotonic()
        with pytest.raises(VoiceOSConnectionError, match=r"ConnectTimeout: .* Check the base URL"):
            client.check_health()
        assert 0.15 < time.monotonic() - began < 3
