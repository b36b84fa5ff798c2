"""Deadlines of requests on real sockets, however slowly the server sends."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, Retry, VoiceOSClient
from voiceos_provider.client.network import PoolTransport, deadline
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSConnectionError

TIMEOUT = 0.3
AT_MOST = 1.5
"""Upper bound of a test in seconds: enough for a busy machine, and far less than any of these responses takes."""

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

WORLD = World(seed=7, conversations=50, start=datetime(2026, 11, 1, tzinfo=UTC))


def settings(url: str, **changes: Any) -> ClientConfig:
    """Return a configuration with one attempt of a third of a second."""
    return ClientConfig(
        **{
            "token": "emulator-token",
            "base_url": url,
            "request_timeout": TIMEOUT,
            "retry": Retry(max_attempts=1),
            "verify": False,
        }
        | changes
    )


def list_sync(chosen: ClientConfig, **options: Any) -> int:
    """Return the number of conversations that the blocking client lists."""
    with VoiceOSClient(chosen, **options) as client:
        return sum(len(page.conversations) for page in client.list_conversations())


def list_through_pool(chosen: ClientConfig) -> int:
    """Return the number of conversations that the blocking client lists through httpx, as with a proxy."""
    return list_sync(chosen, transport=PoolTransport(NO_CERTIFICATES))


def list_async(chosen: ClientConfig) -> int:
    """Return the number of conversations that the asyncio client lists."""

    async def listed() -> int:
        async with AsyncVoiceOSClient(chosen) as client:
            return sum([len(page.conversations) async for page in client.list_conversations()])

    return asyncio.run(listed())


Lister = Callable[[ClientConfig], int]

SLOW = {
    "drops of the body": Fault.drip_body(200),
    "drops of the headers": Fault.drip_headers(50),
    "no response at all": Fault.slow(20),
}


@pytest.mark.parametrize("fault", SLOW.values(), ids=SLOW.keys())
@pytest.mark.parametrize("lister", [list_sync, list_through_pool, list_async])
def test_slow_response_ends_at_the_deadline(lister: Lister, fault: Fault) -> None:
    """A read timeout would restart with every byte."""
    emulator = Emulator(WORLD)
    emulator.faults.add(fault)
    with emulator.serve() as url:
        began = time.monotonic()
        with pytest.raises(
            VoiceOSConnectionError,
            match=r"^GET /conversations: no complete response from http://127\.0\.0\.1:\d+ \(\w*Time",
        ) as caught:
            lister(settings(url))
        assert TIMEOUT * 0.9 <= time.monotonic() - began < AT_MOST
    assert caught.value.retryable


@pytest.mark.parametrize("lister", [list_sync, list_through_pool, list_async])
def test_each_attempt_has_its_own_deadline(lister: Lister) -> None:
    """A slow attempt takes no time from the next one."""
    emulator = Emulator(WORLD, clock=lambda: datetime(2027, 1, 1, tzinfo=UTC))
    emulator.faults.add(Fault.drip_body(200), at=[1])
    emulator.faults.add(Fault.slow(TIMEOUT * 0.7), at=[2, 3])
    with emulator.serve() as url:
        assert lister(settings(url, page_size=25, retry=Retry(base_delay=0.001))) == 50


@pytest.mark.parametrize("lister", [list_sync, list_through_pool, list_async])
def test_deadlines_of_threads_are_independent(lister: Lister) -> None:
    """A slow request in one thread takes no time from a request in another."""
    slow, quick = Emulator(WORLD), Emulator(WORLD, clock=lambda: datetime(2027, 1, 1, tzinfo=UTC))
    slow.faults.add(Fault.slow(20))
    with slow.serve() as slow_url, quick.serve() as quick_url:
        found: list[int] = []

        def list_quickly() -> None:
            found.append(lister(settings(quick_url, page_size=5, request_timeout=10)))

        thread = threading.Thread(target=list_quickly)
        thread.start()
        with pytest.raises(VoiceOSConnectionError):
            lister(settings(slow_url))
        thread.join()
    assert found == [50]


def test_async_call_can_be_cancelled() -> None:
    """The caller gets asyncio's own error."""
    emulator = Emulator(WORLD)
    emulator.faults.add(Fault.slow(20))

    async def impatient(url: str) -> None:
        async with AsyncVoiceOSClient(settings(url, request_timeout=10)) as client:
            task = asyncio.create_task(anext(client.list_conversations()))  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with emulator.serve() as url:
        asyncio.run(impatient(url))


def test_deadline_applies_to_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment accepts the connection and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        began = time.monotonic()
        with pytest.raises(VoiceOSConnectionError, match="Time"):
            list_sync(settings("http://voiceos.invalid"))
        assert TIMEOUT * 0.9 <= time.monotonic() - began < AT_MOST


def test_socket_without_a_deadline_keeps_its_own_timeout() -> None:
    """A deadline applies only inside its context."""
    emulator = Emulator(WORLD)
    emulator.faults.add(Fault.slow(0.1))
    transport = PoolTransport(NO_CERTIFICATES)
    with emulator.serve() as url, httpx.Client(base_url=url, transport=transport) as client:
        with deadline(0.05), pytest.raises(httpx.TimeoutException):
            client.get("/conversations")
        assert client.get("/conversations", timeout=5).status_code == 401
