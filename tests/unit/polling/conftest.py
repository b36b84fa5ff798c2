"""An API in process whose conversations begin and end when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.polling.drivers import look
from voiceos_provider.polling.queries import Look

T = TypeVar("T")
DAY = datetime(2026, 11, 2, tzinfo=UTC)


@dataclass
class Clock:
    """The time, for the API and for those who ask it."""

    now: datetime = DAY

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> datetime:
        """Let time pass."""
        self.now += timedelta(**span)
        return self.now


@dataclass
class Api:
    """A client of the emulator in process, and what it was asked."""

    emulator: Emulator
    client: VoiceOSClient = field(init=False)

    def __post_init__(self) -> None:
        settings = ClientConfig(
            token=self.emulator.token, base_url="http://emulator", page_size=20, retry=Retry(max_attempts=1)
        )
        self.client = VoiceOSClient(settings, transport=self.emulator.transport(), sleep=lambda _: None)

    def look(self, looking: Look[T]) -> T:
        """Ask what the look asks."""
        return look(self.client, looking)

    def asked(self) -> list[tuple[str | None, str | None]]:
        """Status and limit of each request since the last time, or the path of one that is no listing."""
        requests = [
            (request.query.get("status"), request.query.get("limit"))
            if request.path == "/conversations"
            else (request.path, None)
            for request in self.emulator.requests
        ]
        self.emulator.requests.clear()
        return requests


@pytest.fixture
def clock() -> Clock:
    """Noon of a Monday."""
    return Clock(DAY + timedelta(hours=12))


@pytest.fixture
def world() -> World:
    """No conversation at first."""
    return World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1))


@pytest.fixture
def serve(world: World, clock: Clock) -> Callable[..., Api]:
    """The API as a server of some kind gives it."""

    def serve(**reading: Any) -> Api:
        return Api(Emulator(world, clock=clock, **reading))

    return serve


@pytest.fixture
def api(serve: Callable[..., Api]) -> Api:
    """The API as it is documented."""
    return serve()
