"""Triggers that share their polls, as one triggerer of Airflow 3.3 runs them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.lifecycles import add, end
from tests.support.triggerers import run_in_one_triggerer
from voiceos_provider.emulator import Emulator, World

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def test_a_hundred_triggers_cost_as_much_as_one(
    api: Emulator, world: World, now: datetime, trigger: Any
) -> None:
    """They share polls, and each fires its own event."""
    call = add(world, created=now - HOUR)
    api.before_list = lambda nth: end(world, call, now) if nth == 4 else None
    payloads = asyncio.run(
        run_in_one_triggerer(trigger(waiting_since=(now + n * MINUTE).isoformat()) for n in range(100))
    )
    assert {payload["status"] for payload in payloads} == {"ended"}
    assert len({payload["waiting_since"] for payload in payloads}) == 100
    assert len(api.requests) <= 8


def test_one_trigger_of_a_group_may_fail_or_time_out(
    api: Emulator, world: World, now: datetime, trigger: Any
) -> None:
    """The others continue to wait."""
    call = add(world, created=now - HOUR)
    api.before_list = lambda nth: end(world, call, now) if nth == 30 else None
    soon = (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat()
    payloads = asyncio.run(
        run_in_one_triggerer(
            [
                trigger(),
                trigger(conversation_ids=["missing"]),
                trigger(deadline=soon),
                trigger(conversation_ids=[call]),
                trigger(interval_end=(now - 65 * MINUTE).isoformat()),
            ]
        )
    )
    assert [payload["status"] for payload in payloads] == ["ended", "failed", "timeout", "ended", "ended"]


def test_shared_conversations_are_requested_once_per_poll(
    api: Emulator, world: World, now: datetime, trigger: Any
) -> None:
    """Many triggers wait for them."""
    ids = [add(world, created=now - HOUR, started=now, ended=now) for _ in range(3)]
    asyncio.run(run_in_one_triggerer(trigger(conversation_ids=ids) for _ in range(20)))
    assert len(api.requests) == 3
