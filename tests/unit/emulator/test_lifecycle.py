"""Lifecycles of conversations."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceos_provider.emulator import World
from voiceos_provider.emulator.timestamps import NEVER, SECOND

_RANKS = {"queued": 0, "started": 1, "ended": 2}


@pytest.fixture(scope="module")
def some_ids(large_world: World) -> list[str]:
    """Return the ids of a tenth of the world."""
    return large_world.ids()[::10]


@settings(max_examples=300)
@given(data=st.data())
def test_a_lifecycle_never_goes_backwards(
    data: st.DataObject, large_world: World, some_ids: list[str]
) -> None:
    """Status, messages, times and costs that were shown once are also shown later."""
    id = data.draw(st.sampled_from(some_ids))
    seconds = st.floats(0, 3_000)
    created = large_world.created_at(id)
    earlier, later = sorted((data.draw(seconds), data.draw(seconds)))
    before = large_world.conversation(id, now=created + timedelta(seconds=earlier))
    after = large_world.conversation(id, now=created + timedelta(seconds=later))
    assert before is not None
    assert after is not None
    assert _RANKS[before["status"]] <= _RANKS[after["status"]]
    assert after["messages"][: len(before["messages"])] == before["messages"]
    for key in ("started_at", "ended_at", "ended_reason", "cost_breakdown"):
        assert before[key] in (None, after[key])
    for key in ("uri", "type", "account_id", "agent_config", "agent_id", "phone_call", "id"):
        assert before[key] == after[key]


@settings(max_examples=200)
@given(data=st.data())
def test_present_values_match_the_status(
    data: st.DataObject, large_world: World, some_ids: list[str]
) -> None:
    """Queued: no times. Started: a start. Ended: an end and a reason, and costs some time later."""
    id = data.draw(st.sampled_from(some_ids))
    now = large_world.created_at(id) + timedelta(seconds=data.draw(st.floats(0, 600)))
    conversation = large_world.conversation(id, now=now)
    assert conversation is not None
    begun, over = (conversation["status"] in statuses for statuses in (("started", "ended"), ("ended",)))
    assert (conversation["started_at"] is not None) == begun
    assert (conversation["ended_at"] is not None) == over
    assert (conversation["ended_reason"] is not None) == over
    assert bool(conversation["messages"]) == begun
    assert over or conversation["cost_breakdown"] is None
    if begun:
        started_at = datetime.fromisoformat(conversation["started_at"])
        assert large_world.created_at(id) <= started_at <= now


def test_only_outbound_calls_queue(large_world: World) -> None:
    """Inbound and web calls are started when they are created."""
    for id in large_world.ids()[:300]:
        conversation = large_world.conversation(id, now=large_world.created_at(id))
        assert conversation is not None
        expected = "queued" if conversation["type"] == "outbound_phone_call" else "started"
        assert conversation["status"] == expected


def test_a_few_conversations_are_stuck(large_world: World) -> None:
    """About three in a thousand never end, and some of them never start."""
    queued, started = (large_world.ids(status=status) for status in ("queued", "started"))
    assert 0.002 < len(queued + started) / len(large_world) < 0.004
    assert queued
    assert started
    for id in started:
        conversation = large_world.conversation(id)
        assert conversation is not None
        assert conversation["messages"]


def test_durations_are_about_two_minutes_and_end_at_the_limit(large_world: World) -> None:
    """Durations are long-tailed and end at the configured maximum, if there is one."""
    population = large_world.population
    ended = population.take(np.flatnonzero(population.ended != NEVER))
    seconds = (ended.ended - ended.started) / SECOND
    assert 90 < np.median(seconds) < 150
    assert seconds.min() > 1
    assert 0.005 < np.mean((seconds >= 600) & (seconds < 601)) < 0.05
    limits: dict[int | None, float] = {}
    for id in large_world.ids(status="ended")[:1_500]:
        conversation = large_world.conversation(id)
        assert conversation is not None
        started_at, ended_at = (
            datetime.fromisoformat(conversation[key]) for key in ("started_at", "ended_at")
        )
        limit = conversation["agent_config"]["max_duration_seconds"]
        limits[limit] = max(limits.get(limit, 0.0), (ended_at - started_at).total_seconds())
    assert set(limits) == {240, 600, None}
    assert limits[240] <= 241
    assert limits[600] <= 601
    assert limits[None] > 601


def test_costs_are_known_seconds_to_minutes_after_the_end(large_world: World) -> None:
    """Costs are never known at the end itself."""
    population = large_world.population
    ended = population.take(np.flatnonzero(population.ended != NEVER))
    late = (ended.priced - ended.ended) / SECOND
    assert late.min() >= 2
    assert late.max() <= 600
    assert 5 < np.median(late) < 60
