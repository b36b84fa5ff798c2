"""Lagging replicas and a cache in front of the API: lists that show an earlier state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from voiceos_provider.emulator import Emulator, Fault, World

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
LAG = timedelta(seconds=30)


class Clock:
    """Clock that stands still until a test moves it."""

    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at noon."""
    return Clock()


@pytest.fixture
def world() -> World:
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


def test_a_soft_deletion_hides_a_conversation_from_listings_only(world: World, clock: Clock) -> None:
    """A hard deletion hides it from requests by id, too."""
    clock.now += timedelta(days=1)
    emulator = Emulator(world, clock=clock)
    hard, soft = world.ids(status="ended")[:2]
    shown = get(emulator, f"/conversations/{soft}").json()
    world.delete(hard)
    world.delete(soft, soft=True)
    assert not {hard, soft} & set(listed(emulator))
    assert get(emulator, f"/conversations/{hard}").status_code == 404
    assert get(emulator, f"/conversations/{soft}").json() == shown
    assert world.conversation(soft) == shown
    assert not {hard, soft} & set(world.ids())
    assert world.created_at(soft) == emulator.stored_at(soft)
    with pytest.raises(KeyError):
        world.delete(soft)


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, '{"detail":"Forbidden"}'), (410, '{"detail":"Gone"}'), (500, "Internal Server Error")],
)
def test_a_single_conversation_may_be_refused(world: World, clock: Clock, status: int, body: str) -> None:
    """Only the request for this id is affected."""
    emulator = Emulator(world, clock=clock)
    refused, other = world.ids()[:2]
    emulator.set_conversation_status(refused, status)
    response = get(emulator, f"/conversations/{refused}")
    assert (response.status_code, response.text) == (status, body)
    assert get(emulator, f"/conversations/{other}").status_code == 200
    assert refused in listed(emulator)
    emulator.set_conversation_status(refused, None)
    assert get(emulator, f"/conversations/{refused}").status_code == 200


def by_status(emulator: Emulator) -> dict[str, list[Any]]:
    """Return the items of each status filter."""
    statuses = ("queued", "started", "ended")
    return {status: get(emulator, f"/conversations?status={status}").json()["items"] for status in statuses}


def test_an_undocumented_status_is_listed_without_a_filter_only(world: World, clock: Clock) -> None:
    """No filter for a documented status returns it."""
    clock.now += timedelta(days=1)
    emulator = Emulator(world, clock=clock)
    id = world.ids(status="ended", now=clock.now)[0]
    world.set_status(id, "transferring")
    assert id in listed(emulator)
    assert all(item["id"] != id for items in by_status(emulator).values() for item in items)
    assert id not in world.ids(status="ended")
    assert get(emulator, f"/conversations/{id}").json()["status"] == "transferring"
    world.set_status(id, None)
    assert id in world.ids(status="ended")
    with pytest.raises(ValueError, match="documented status"):
        world.set_status(id, "ended")


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00+00:00", "2026-11-05T10:00:00", "soon"])
def test_started_at_may_be_any_text(world: World, clock: Clock, text: str) -> None:
    """Nothing else of the conversation changes."""
    clock.now += timedelta(days=1)
    emulator = Emulator(world, clock=clock)
    id, other = world.ids(status="ended", now=clock.now)[:2]
    before = get(emulator, f"/conversations/{id}").json(), get(emulator, f"/conversations/{other}").json()
    world.set_started_at(id, text)
    items = {item["id"]: item for item in get(emulator).json()["items"]}
    assert items[id] == before[0] | {"started_at": text}
    assert items[other] == before[1]
    world.set_started_at(id, None)
    assert get(emulator, f"/conversations/{id}").json() == before[0]


def test_overrides_are_versioned_like_the_world(world: World, clock: Clock) -> None:
    """A lagging replica does not show them yet."""
    emulator = Emulator(world, clock=clock, replica_lag=LAG, replica_choice="alternate")
    clock.now += timedelta(hours=1)
    id = world.ids()[0]
    world.set_status(id, "transferring")
    seen = [{item["id"]: item["status"] for item in get(emulator).json()["items"]}[id] for _ in range(2)]
    assert seen == ["transferring", "ended"]
