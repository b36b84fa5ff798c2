"""An in-process API whose conversations start and end when a test decides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.polling.conditions import Condition, Result, Results, check_all
from voiceos_provider.polling.polling_client import PollingClient, ServerClock, run

DAY = datetime(2026, 11, 2, tzinfo=UTC)


@dataclass
class Clock:
    """The time of the API and of its clients."""

    now: datetime = DAY

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> datetime:
        """Let time pass."""
        self.now += timedelta(**span)
        return self.now


@dataclass
class Api:
    """A client of the emulator in process, and the requests it has sent."""

    emulator: Emulator
    client: VoiceOSClient = field(init=False)

    def __post_init__(self) -> None:
        settings = ClientConfig(
            token=self.emulator.token, base_url="http://emulator", page_size=20, retry=Retry(max_attempts=1)
        )
        self.client = VoiceOSClient(settings, transport=self.emulator.transport(), sleep=lambda _: None)

    def polling(self, now: datetime = DAY) -> PollingClient:
        """Return the client of a new poll at an instant."""
        return PollingClient(self.client, ServerClock(lambda: now))

    def check(self, condition: Condition, now: datetime, *, confirm: bool = False) -> Result:
        """Return the result of a poll for one condition."""
        states = {condition: "unconfirmed"} if confirm else {}
        result = self.check_all([condition], now=now, states=states)[condition]
        if isinstance(result, VoiceOSError):
            raise result
        return result

    def check_all(
        self, conditions: Collection[Condition], *, now: datetime, states: Mapping[Any, str] | None = None
    ) -> Results:
        """Return the results of a poll."""
        return run(check_all(self.polling(now), conditions, states or {}))

    def sent(self) -> list[tuple[str | None, str | None]]:
        """Return status and limit of each request since the last call, or the path of one that is no listing."""
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
    """Return a clock at noon of a Monday."""
    return Clock(DAY + timedelta(hours=12))


@pytest.fixture
def world() -> World:
    """Return a world without conversations."""
    return World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1))


@pytest.fixture
def serve(world: World, clock: Clock) -> Callable[..., Api]:
    """Return a function that serves the API with the behavior of some server."""

    def serve(**reading: Any) -> Api:
        return Api(Emulator(world, clock=clock, **reading))

    return serve


@pytest.fixture
def api(serve: Callable[..., Api]) -> Api:
    """Return the API with the documented behavior."""
    return serve()
