"""Worlds in one week in the past, and clients of the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx
import pytest

from voiceos_provider.emulator import Emulator, World

START = datetime(2026, 11, 2, tzinfo=UTC)
END = START + timedelta(days=7)
LONG_AFTER = END + timedelta(days=30)


class Send(Protocol):
    """Function that sends one request and reads the whole response."""

    def __call__(self, path: str, *, method: str = "GET", **options: Any) -> httpx.Response: ...


Connect = Callable[[Emulator], Send]


@pytest.fixture
def start() -> datetime:
    """Return the start of the week."""
    return START


@pytest.fixture
def end() -> datetime:
    """Return the end of the week."""
    return END


@pytest.fixture
def long_after() -> datetime:
    """Return a time at which nothing changes any more."""
    return LONG_AFTER


@pytest.fixture
def world() -> World:
    """Return a small world that a test may change."""
    return World(seed=7, conversations=730, start=START, end=END)


@pytest.fixture(scope="session")
def large_world() -> World:
    """Return a world that is large enough for statistics; tests must not change it."""
    return World(seed=7, conversations=20_000, start=START, end=END)


@pytest.fixture
def emulator(world: World) -> Emulator:
    """Return an emulator over the small world, long after the week."""
    return Emulator(world, clock=lambda: LONG_AFTER)


@pytest.fixture(params=["in process", "in process, async", "on a port"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Run the test with each way to reach the emulator."""
    with ExitStack() as stack:

        def through_client(emulator: Emulator) -> Send:
            if request.param == "on a port":
                # Without encryption, certificates need not be loaded.
                client = httpx.Client(base_url=stack.enter_context(emulator.serve()), verify=False)
            else:
                client = httpx.Client(transport=emulator.transport(), base_url="http://emulator")
            stack.enter_context(client)
            client.headers["Authorization"] = f"Bearer {emulator.token}"
            return lambda path, *, method="GET", **options: client.request(method, path, **options)

        def through_async_client(emulator: Emulator) -> Send:
            async def send(path: str, method: str, options: dict[str, Any]) -> httpx.Response:
                transport, headers = emulator.transport(), {"Authorization": f"Bearer {emulator.token}"}
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://emulator", headers=headers
                ) as client:
                    return await client.request(method, path, **options)

            return lambda path, *, method="GET", **options: asyncio.run(send(path, method, options))

        yield through_async_client if request.param == "in process, async" else through_client


@pytest.fixture
def send(connect: Connect, emulator: Emulator) -> Send:
    """Return a function that sends one request with the right token."""
    return connect(emulator)


@pytest.fixture
def read_all() -> Callable[..., list[list[dict[str, Any]]]]:
    """Return a function that pages through a listing until the flag is false."""

    def read_all(send: Send, **parameters: Any) -> list[list[dict[str, Any]]]:
        pages = []
        for index in range(1, 1_000):
            page = send("/conversations", params={"index": index, **parameters}).raise_for_status().json()
            assert page["index"] == index
            pages.append(page["items"])
            if not page["has_more"]:
                return pages
        raise AssertionError("The listing does not end.")

    return read_all
