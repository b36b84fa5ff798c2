"""An API on a port whose conversations a test changes, in the hours around now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.triggerers import HAS_SHARED_STREAMS
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedTrigger

collect_ignore = [] if HAS_SHARED_STREAMS else ["test_sharing.py", "test_event_trigger.py"]

INTERVAL = 0.1
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


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


@pytest.fixture
def trigger(now: datetime) -> Callable[..., VoiceOSConversationsEndedTrigger]:
    """Return a function that makes a trigger for the hour that ended ten minutes ago."""

    def make(**arguments: Any) -> VoiceOSConversationsEndedTrigger:
        if "conversation_ids" not in arguments:
            arguments = {
                "interval_start": (now - 70 * MINUTE).isoformat(),
                "interval_end": (now - 10 * MINUTE).isoformat(),
            } | arguments
        defaults = {
            "voiceos_conn_id": "voiceos_default",
            "poke_interval": INTERVAL,
            "waiting_since": now.isoformat(),
            "deadline": (now + HOUR).isoformat(),
        }
        return VoiceOSConversationsEndedTrigger(**(defaults | arguments))

    return make
