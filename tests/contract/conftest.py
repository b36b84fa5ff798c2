"""Fixtures of the API contract: each test runs with two clients, in process and over a port."""

import asyncio
import random
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, Conversation, Page, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault, World

DATA = Path(__file__).parent / "data"
START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=7)


@dataclass
class Time:
    """A clock that moves only when a client sleeps."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the clock without waiting."""
        self.waits.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        """Advance the clock without waiting."""
        self.sleep(seconds)


class Caller:
    """Either client, called in the same way."""

    def __init__(self, client: VoiceOSClient | AsyncVoiceOSClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def _wait(self, result: Any) -> Any:
        if not isinstance(self._client, AsyncVoiceOSClient):
            return result
        return self._runner.run(result)

    def pages(self, **filters: Any) -> list[Page]:
        """Return all pages of a listing."""
        listing: Any = self._client.list_conversations(**filters)
        if isinstance(self._client, VoiceOSClient):
            return list(listing)

        async def collected() -> list[Page]:
            return [page async for page in listing]

        return self._runner.run(collected())

    def ids(self, **filters: Any) -> list[str]:
        """Return all ids of a listing in the server's order."""
        return [conversation.id for page in self.pages(**filters) for conversation in page.conversations]

    def get(self, conversation_id: str) -> Conversation:
        """Return one conversation."""
        found: Conversation = self._wait(self._client.get_conversation(conversation_id))
        return found

    def recording_url(self, conversation_id: str) -> str:
        """Return the URL of a recording."""
        url: str = self._wait(self._client.get_recording_url(conversation_id))
        return url

    def check_health(self) -> None:
        """Raise if the API does not respond."""
        self._wait(self._client.check_health())


@pytest.fixture
def time() -> Time:
    """Return the clock of the client."""
    return Time()


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of client."""
    return str(request.param)


@pytest.fixture(params=["in process", "on a port"])
def transport(request: pytest.FixtureRequest) -> str:
    """Return the transport: in process, or a port."""
    return str(request.param)


@pytest.fixture(scope="session")
def world() -> World:
    """Return three pages of conversations, created in a week that has passed."""
    return World(seed=7, conversations=60, start=START, end=END)


@pytest.fixture
def emulator(world: World) -> Emulator:
    """Return an emulator at a time after that week."""
    return Emulator(world, clock=lambda: END + timedelta(days=1))


@pytest.fixture(scope="session")
def no_certificates() -> ssl.SSLContext:
    """Load no certificates: these tests use no TLS, and loading takes longer than most of them."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


Connect = Callable[..., Caller]


@pytest.fixture
def connect(kind: str, transport: str, time: Time, no_certificates: ssl.SSLContext) -> Iterator[Connect]:
    """Return a function that opens the client under test at an emulator."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())

        def connected(emulator: Emulator, *, path: str = "", **settings: Any) -> Caller:
            options: dict[str, Any] = {"monotonic": time.monotonic, "rng": random.Random(7)}
            base_url = "http://emulator"
            if transport == "on a port":
                base_url = stack.enter_context(emulator.serve())
            else:
                options["transport"] = emulator.transport()
            defaults = {
                "token": emulator.token,
                "base_url": base_url + path,
                "page_size": 25,
                "verify": no_certificates,
            }
            chosen = ClientConfig(**defaults | settings)
            if kind == "sync":
                client = stack.enter_context(VoiceOSClient(chosen, sleep=time.sleep, **options))
                return Caller(client, runner)
            eventual = AsyncVoiceOSClient(chosen, sleep=time.sleep_async, **options)
            stack.callback(lambda: runner.run(eventual.aclose()))
            return Caller(eventual, runner)

        yield connected


@pytest.fixture
def scripted(world: World) -> Callable[..., Emulator]:
    """Return an emulator that responds to list requests with these bodies, one after the other."""

    def with_bodies(*bodies: str | bytes) -> Emulator:
        emulator = Emulator(world)
        for number, body in enumerate(bodies, start=1):
            content = body.encode() if isinstance(body, str) else body
            emulator.faults.add(Fault.body(content), at=[number])
        return emulator

    return with_bodies
