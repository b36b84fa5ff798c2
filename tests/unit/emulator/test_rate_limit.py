"""Rate limit of the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from voiceos_provider.emulator import Emulator, World


class Time:
    """Clock that stands still until a test moves it."""

    now = 1_000.0


@pytest.fixture
def time() -> Time:
    """Return a clock that stands still."""
    return Time()


@pytest.fixture
def limited(world: World, time: Time) -> Callable[[float], Emulator]:
    """Return a function that creates an emulator with a rate limit."""
    return lambda rate: Emulator(world, requests_per_second=rate, monotonic=lambda: time.now)


def statuses(send: Any, count: int, path: str = "/conversations?limit=1") -> list[int]:
    """Return the statuses of this many requests."""
    return [send(path).status_code for _ in range(count)]


def test_requests_beyond_the_rate_are_refused(limited: Any, time: Time, connect: Any) -> None:
    """One second's requests are accepted at once, then at the rate; refused requests do not count."""
    send = connect(limited(5))
    assert statuses(send, 8) == [200] * 5 + [429] * 3
    time.now += 0.5
    assert statuses(send, 4) == [200] * 2 + [429] * 2
    time.now += 60
    assert statuses(send, 6) == [200] * 5 + [429]


def test_a_refusal_has_retry_after(limited: Any, connect: Any) -> None:
    """`Retry-After` is at least one second."""
    for rate, wait in ((5, "1"), (0.25, "4")):
        send = connect(limited(rate))
        statuses(send, max(1, int(rate)))
        refusal = send("/conversations")
        assert (refusal.status_code, refusal.headers["retry-after"]) == (429, wait)
        assert refusal.json() == {"detail": "Too Many Requests"}
        assert {"date", "x-request-id"} <= set(refusal.headers)


def test_every_endpoint_except_the_health_check_counts(limited: Any, world: World, connect: Any) -> None:
    """Health checks are never refused."""
    send = connect(limited(1))
    assert statuses(send, 1) == [200]
    assert statuses(send, 1, f"/conversations/{world.ids()[0]}") == [429]
    assert statuses(send, 3, "/") == [200] * 3


def test_refusals_are_recorded_but_are_not_list_requests(limited: Any, time: Time, connect: Any) -> None:
    """`before_list` is not called for a refused request."""
    emulator = limited(1)
    numbers: list[int] = []
    emulator.before_list = numbers.append
    send = connect(emulator)
    statuses(send, 3)
    time.now += 1
    statuses(send, 1)
    assert numbers == [1, 2]
    assert [request.status for request in emulator.requests] == [200, 429, 429, 200]


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_must_be_positive(world: World, rate: float) -> None:
    """Other rates are refused with an error."""
    with pytest.raises(ValueError, match="must be positive"):
        Emulator(world, requests_per_second=rate)
