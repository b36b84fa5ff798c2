"""Clock and requests for tests of the emulator that move time themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from voiceos_provider.emulator import Emulator, World

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)


class Clock:
    """A clock that only a test moves."""

    now = NOON

    def __call__(self) -> datetime:
        return self.now


def world_of_ten() -> World:
    """Return ten conversations, one a minute, the last one at noon."""
    created = [NOON - timedelta(minutes=minute) for minute in range(10)]
    return World(created=created, start=NOON - timedelta(hours=1))


def get(emulator: Emulator, path: str = "/conversations", **headers: str) -> httpx.Response:
    """Return the response to one request with the right token."""
    http = httpx.Client(transport=emulator.transport(), base_url="http://emulator")
    return http.get(path, headers={"Authorization": f"Bearer {emulator.token}", **headers})


def listed(emulator: Emulator) -> list[str]:
    """Return the ids of one page."""
    return sorted(item["id"] for item in get(emulator).json()["items"])
