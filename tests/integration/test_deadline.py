"""A request ends on time, however slowly the server sends: on real sockets, by the clock on the wall."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpcore
import httpx
import pytest

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, Retry, VoiceOSClient
from voiceos_provider.client.deadline import deadline, enforce_deadlines
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSConnectionError

TIMEOUT = 0.3
AT_MOST = 1.5
"""Seconds: enough for a busy machine, and far less than any of these responses would take."""

WORLD = World(seed=7, conversations=50, start=datetime(2026, 11, 1, tzinfo=UTC))


def settings(url: str, **changes: Any) -> ClientConfig:
    """One attempt of a third of a second, by default."""
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
    """How many conversations the blocking client finds."""
    with VoiceOSClient(chosen, **options) as client:
        return sum(len(page.conversations) for page in client.list_conversations())


def list_async(chosen: ClientConfig) -> int:
    """How many conversations the client for asyncio finds."""

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
@pytest.mark.parametrize("lister", [list_sync, list_async])
def test_a_slow_response_ends_at_the_deadline(lister: Lister, fault: Fault) -> None:
    """A read timeout would start anew with every drop; the request's own time does not."""
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


@pytest.mark.parametrize("lister", [list_sync, list_async])
def test_each_attempt_has_its_own_time(lister: Lister) -> None:
    """After a slow response the next one may take its time again."""
    emulator = Emulator(WORLD, clock=lambda: datetime(2027, 1, 1, tzinfo=UTC))
    emulator.faults.add(Fault.drip_body(200), at=[1])
    emulator.faults.add(Fault.slow(TIMEOUT * 0.7), at=[2, 3])
    with emulator.serve() as url:
        assert lister(settings(url, page_size=25, retry=Retry(base_delay=0.001))) == 50


@pytest.mark.parametrize("lister", [list_sync, list_async])
def test_the_deadline_is_kept_while_others_are_served(lister: Lister) -> None:
    """One slow request in one thread takes no time from a quick one in another."""
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


def test_an_async_call_can_be_cancelled_from_outside() -> None:
    """A caller that stops waiting gets what asyncio promises, and not an error of ours."""
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


def test_httpx_still_lets_its_network_be_wrapped() -> None:
    """`deadline.py` reaches into httpx: if an update of httpx or httpcore ends that, this test says so."""
    with httpx.Client(proxy="http://127.0.0.1:9", verify=False) as client:
        enforce_deadlines(client)
        transports = [client._transport, *client._mounts.values()]
        pools = [getattr(transport, "_pool", None) for transport in transports]
        assert any(isinstance(pool, httpcore.HTTPProxy) for pool in pools)
        for pool in pools:
            assert isinstance(pool, httpcore.ConnectionPool)
            assert pool._network_backend.__class__.__module__ == "voiceos_provider.client.deadline"


def test_a_proxy_is_held_to_the_deadline_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment, as httpx reads it, that takes the connection and never responses."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        began = time.monotonic()
        with pytest.raises(VoiceOSConnectionError, match="Time"):
            list_sync(settings("http://voiceos.invalid"))
        assert TIMEOUT * 0.9 <= time.monotonic() - began < AT_MOST


def test_without_a_deadline_a_socket_keeps_its_own_timeout() -> None:
    """Only requests of this client are bounded; nothing leaks into the next call."""
    emulator = Emulator(WORLD)
    emulator.faults.add(Fault.slow(0.1))
    with emulator.serve() as url, httpx.Client(base_url=url, verify=False) as client:
        enforce_deadlines(client)
        with deadline(0.05), pytest.raises((httpx.TimeoutException, httpcore.TimeoutException)):
            client.get("/conversations")
        assert client.get("/conversations", timeout=5).status_code == 401
