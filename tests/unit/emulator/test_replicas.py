"""Lagging replicas and a cache in front of the API: responses that show an earlier state."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.emulated import NOON, Clock, get, listed, world_of_ten
from voiceos_provider.emulator import Emulator, Fault, World

LAG = timedelta(seconds=30)


@pytest.fixture
def clock() -> Clock:
    """Return a clock at noon."""
    return Clock()


@pytest.fixture
def world() -> World:
    """Return ten conversations, one a minute, the last one at noon."""
    return world_of_ten()


def test_every_second_request_may_be_responseed_by_a_lagging_replica(world: World, clock: Clock) -> None:
    """Fresh and lagging responses alternate."""
    emulator = Emulator(world, clock=clock, replica_lag=LAG, replica_choice="alternate")
    fresh, lagging = sorted(world.ids()), sorted(world.ids()[:-1])
    assert [listed(emulator) for _ in range(4)] == [fresh, lagging, fresh, lagging]
    clock.now += LAG
    assert [listed(emulator) for _ in range(2)] == [fresh, fresh]


def test_a_replica_learns_of_deletions_and_insertions_late(world: World, clock: Clock) -> None:
    """A change becomes visible exactly one lag after it happened."""
    emulator = Emulator(world, clock=clock, replica_lag=LAG, replica_choice="always")
    clock.now += timedelta(minutes=1)
    before = sorted(world.ids())
    world.delete(world.ids()[0])
    world.insert(created_at=NOON - timedelta(minutes=30))
    assert listed(emulator) == before
    clock.now += LAG - timedelta(seconds=1)
    world.delete(world.ids()[0])
    assert listed(emulator) == before
    clock.now += timedelta(seconds=1)
    between = listed(emulator)
    assert len(between) == 10
    assert set(between) > set(world.ids())
    clock.now += LAG
    assert listed(emulator) == sorted(world.ids())


def test_a_replica_shows_earlier_states(world: World, clock: Clock) -> None:
    """States in a listing are as old as the replica; a single conversation is current."""
    emulator = Emulator(world, clock=clock, replica_lag=LAG, replica_choice="always")
    for seconds in range(0, 300, 20):
        clock.now = NOON + timedelta(seconds=seconds)
        for item in get(emulator).json()["items"]:
            assert item == world.conversation(item["id"], now=clock.now - LAG)
            assert get(emulator, f"/conversations/{item['id']}").json() == world.conversation(
                item["id"], now=clock.now
            )


def test_the_choice_of_a_replica_is_random_and_seeded(world: World, clock: Clock) -> None:
    """The same seed gives the same choices."""

    def counts(seed: int) -> list[int]:
        emulator = Emulator(world, clock=clock, replica_lag=LAG, seed=seed)
        return [len(listed(emulator)) for _ in range(60)]

    assert counts(1) == counts(1) != counts(2)
    assert set(counts(1)) == {9, 10}
    assert 15 < counts(1).count(9) < 45


def test_a_replica_keeps_no_more_history_than_it_shows(world: World, clock: Clock) -> None:
    """Memory does not grow with the number of changes."""
    emulator = Emulator(world, clock=clock, replica_lag=LAG, replica_choice="always")
    for _ in range(200):
        clock.now += timedelta(seconds=10)
        world.insert(created_at=NOON - timedelta(minutes=30))
    assert len(emulator._handle.replicas._versions) < 8
    assert len(listed(emulator)) == 100


def test_a_cached_page_is_repeated_until_it_expires(world: World, clock: Clock) -> None:
    """A hit does not reach the API, and another URL is another entry."""
    emulator = Emulator(world, clock=clock, cache_ttl=timedelta(seconds=60))
    handled: list[int] = []
    emulator.before_list = handled.append
    first = get(emulator)
    world.delete(world.ids()[0])
    clock.now += timedelta(seconds=59)
    hit = get(emulator)
    assert hit.content == first.content
    assert (hit.headers["Age"], hit.headers["Date"]) == ("59", first.headers["Date"])
    assert hit.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert len(get(emulator, "/conversations?limit=50").json()["items"]) == 9
    clock.now += timedelta(seconds=1)
    miss = get(emulator)
    assert len(miss.json()["items"]) == 9
    assert "Age" not in miss.headers
    assert handled == [1, 2, 3]


@pytest.mark.parametrize(
    ("directive", "is_cached"), [("no-cache", True), ("max-age=0, No-Store", False), ("max-age=5", None)]
)
def test_a_client_may_bypass_the_cache(
    world: World, clock: Clock, *, directive: str, is_cached: bool | None
) -> None:
    """`no-cache` refreshes the entry, `no-store` leaves it as it was."""
    emulator = Emulator(world, clock=clock, cache_ttl=timedelta(seconds=60))
    old = get(emulator).content
    world.delete(world.ids()[0])
    new = get(emulator, **{"Cache-Control": directive}).content
    assert (new != old) is (is_cached is not None)
    assert (get(emulator).content == new) is (is_cached is not False)


def test_errors_and_broken_responses_are_not_cached(world: World, clock: Clock) -> None:
    """Only a complete response with status 200 is cached, per token."""
    emulator = Emulator(world, clock=clock, cache_ttl=timedelta(seconds=60))
    emulator.faults.add(Fault.server_error(503), at=[1])
    emulator.faults.add(Fault.slow(0.001), at=[2])
    responses = [get(emulator) for _ in range(4)]
    assert [response.status_code for response in responses] == [503, 200, 200, 200]
    assert ["Age" in response.headers for response in responses] == [False, False, False, True]
    assert get(emulator, Authorization="Bearer wrong").status_code == 401


def test_overrides_are_versioned_like_the_world(world: World, clock: Clock) -> None:
    """A lagging replica does not show them yet."""
    emulator = Emulator(world, clock=clock, replica_lag=LAG, replica_choice="alternate")
    clock.now += timedelta(hours=1)
    id = world.ids()[0]
    world.set_status(id, "transferring")
    seen = [{item["id"]: item["status"] for item in get(emulator).json()["items"]}[id] for _ in range(2)]
    assert seen == ["transferring", "ended"]
