"""A server that takes so many requests a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from voiceos_provider.emulator import Emulator, World


class Time:
    """A clock that stands still until it is moved."""

    now = 1_000.0


@pytest.fixture
def time() -> Time:
    """It stands still."""
    return Time()


@pytest.fixture
def limited(world: World, time: Time) -> Callable[[float], Emulator]:
    """An API with a limit."""
    return lambda rate: Emulator(world, requests_per_second=rate, monotonic=lambda: time.now)


def statuses(send: Any, count: int, path: str = "/conversations?limit=1") -> list[int]:
    """Of so many requests."""
    return [send(path).status_code for _ in range(count)]


def test_more_than_so_many_are_refused(limited: Any, time: Time, connect: Any) -> None:
    """Those of one second at once, then as time goes by; what is refused does not count."""
    send = connect(limited(5))
    assert statuses(send, 8) == [200] * 5 + [429] * 3
    time.now += 0.5
    assert statuses(send, 4) == [200] * 2 + [429] * 2
    time.now += 60
    assert statuses(send, 6) == [200] * 5 + [429]


def test_a_refusal_says_how_long_to_wait(limited: Any, connect: Any) -> None:
    """In whole seconds, and never none; nothing else is wrong with it."""
    for rate, wait in ((5, "1"), (0.25, "4")):
        send = connect(limited(rate))
        statuses(send, max(1, int(rate)))
        refusal = send("/conversations")
        assert (refusal.status_code, refusal.headers["retry-after"]) == (429, wait)
        assert refusal.json() == {"detail": "Too Many Requests"}
        assert {"date", "x-request-id"} <= set(refusal.headers)


def test_every_endpoint_counts_but_the_health_check(limited: Any, world: World, connect: Any) -> None:
    """Whoever wants to know whether it is there is told."""
    send = connect(limited(1))
    assert statuses(send, 1) == [200]
    assert statuses(send, 1, f"/conversations/{world.ids()[0]}") == [429]
    assert statuses(send, 3, "/") == [200] * 3


def test_refusals_are_recorded_and_are_no_list_requests(limited: Any, time: Time, connect: Any) -> None:
    """The world moves when a listing is answered, and not when it is refused."""
    emulator = limited(1)
    told: list[int] = []
    emulator.before_list = told.append
    send = connect(emulator)
    statuses(send, 3)
    time.now += 1
    statuses(send, 1)
    assert told == [1, 2]
    assert [request.status for request in emulator.requests] == [200, 429, 429, 200]


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_limit_is_positive(world: World, rate: float) -> None:
    """Nothing could ever be asked otherwise."""
    with pytest.raises(ValueError, match="must be positive"):
        Emulator(world, requests_per_second=rate)
