"""Single conversations that a test deletes, refuses or gives unusual values."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.emulated import Clock, get, listed, world_of_ten
from voiceos_provider.emulator import Emulator, World


@pytest.fixture
def clock() -> Clock:
    """Return a clock at noon."""
    return Clock()


@pytest.fixture
def world() -> World:
    """Return ten conversations, one a minute, the last one at noon."""
    return world_of_ten()


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
