"""An API on a port whose conversations a test changes, in the hours around now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from voiceos_provider.emulator import Emulator, World


@pytest.fixture
def now() -> datetime:
    """Return the time when the test began."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def world(now: datetime) -> World:
    """Return a world without conversations."""
    return World(seed=5, conversations=0, start=now - timedelta(days=1), end=now + timedelta(hours=1))


@pytest.fixture
def api(emulator: Emulator, connect: Callable[..., str]) -> Iterator[Emulator]:
    """Yield the API on a port; its connection allows one attempt per request."""
    with emulator.serve() as url:
        connect(host=url, password=emulator.token, extra={"max_attempts": 1})
        yield emulator
