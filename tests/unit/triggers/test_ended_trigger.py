"""The trigger as a triggerer runs it: alone before Airflow 3.3, and sharing its polls from then on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from tests.support.lifecycles import add, end
from tests.support.triggerers import HAS_SHARED_STREAMS, run_in_one_triggerer
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSRateLimitError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import MET, IntervalCondition
from voiceos_provider.triggers import poll_stream
from voiceos_provider.triggers.poll_stream import Poll, SharedPoll, polls, shared
from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedTrigger

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
INTERVAL = 0.1


async def alone(trigger: VoiceOSConversationsEndedTrigger) -> Any:
    """Return the only event of a trigger that does not share its polls."""
    (event,) = [event async for event in trigger.run()]
    return event.payload


async def sharing(trigger: VoiceOSConversationsEndedTrigger) -> Any:
    """Return the only event of a trigger that shares its polls, but is the only one."""
    (payload,) = await run_in_one_triggerer([trigger])
    return payload


@pytest.fixture(params=[alone, sharing] if HAS_SHARED_STREAMS else [alone])
def run(request: pytest.FixtureRequest) -> Callable[[VoiceOSConversationsEndedTrigger], Any]:
    """Run a trigger to its event, either way."""
    return lambda trigger: asyncio.run(request.param(trigger))


def test_trigger_fires_when_all_have_ended(
    api: Emulator, world: World, now: datetime, trigger: Any, run: Any
) -> None:
    """It fires once with all that the worker needs, and then polls no more."""
    call = add(world, created=now - HOUR, started=now - HOUR)
    api.before_list = lambda nth: end(world, call, now) if nth == 5 else None
    payload = run(trigger(max_age=24 * 3600.0))
    assert payload == {"status": "ended", "waiting_since": now.isoformat(), "abandoned": []}
    assert [request.query.get("status") for request in api.requests][-4:] == ["started", None, None, None]
    assert not any(shared_poll.waiting for shared_poll in shared.values())


def test_trigger_fires_only_after_a_second_poll(
    api: Emulator, world: World, now: datetime, trigger: Any, run: Any
) -> None:
    """If the sensor has polled, the first poll of the trigger is the second one."""
    assert run(trigger())["status"] == "ended"
    assert [request.query.get("status") for request in api.requests] == ["queued", "started", None]
    api.requests.clear()
    assert run(trigger(unconfirmed=True))["status"] == "ended"
    assert [request.query.get("status") for request in api.requests] == [None]
    call = add(world, created=now - HOUR, started=now - HOUR)
    world.set_status(call, "paused")
    payload = run(
        trigger(unconfirmed=True, deadline=(datetime.now(UTC) + timedelta(seconds=0.9)).isoformat())
    )
    assert payload["status"] == "timeout"


def test_trigger_fires_for_ids(api: Emulator, world: World, now: datetime, trigger: Any, run: Any) -> None:
    """The event names abandoned ones."""
    ended = add(world, created=now - HOUR, started=now - HOUR, ended=now - MINUTE)
    stuck = add(world, created=now - HOUR, started=now - HOUR)
    assert run(trigger(conversation_ids=[ended, stuck], max_age=1800.0))["abandoned"] == [[stuck, "started"]]


def test_trigger_reports_open_conversations_at_its_deadline(
    api: Emulator, world: World, now: datetime, trigger: Any, run: Any
) -> None:
    """Restarts do not move the deadline."""
    call = add(world, created=now - HOUR)
    payload = run(trigger(deadline=(datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()))
    assert payload == {"status": "timeout", "message": f"Last poll: conversation {call} is queued."}
    assert run(trigger(deadline=now.isoformat()))["message"] == "Last poll: not checked yet."


def test_rejected_token_ends_the_wait(api: Emulator, trigger: Any, run: Any) -> None:
    """The message says where to look, and hides the token."""
    api.faults.add(Fault.unauthorized())
    payload = run(trigger())
    assert payload["status"] == "failed"
    assert payload["message"].startswith("VoiceOSAuthError: GET /conversations: 401")
    assert api.token not in json.dumps(payload)


def test_token_replaced_during_the_wait_is_used(
    api: Emulator, world: World, now: datetime, trigger: Any, run: Any, connect: Any, monkeypatch: Any
) -> None:
    """The triggerer need not be restarted."""
    call = add(world, created=now - HOUR)
    host = json.loads(os.environ["AIRFLOW_CONN_VOICEOS_DEFAULT"])["host"]

    def rotate(nth: int) -> None:
        if nth == 2:
            object.__setattr__(api._handle, "token", "the-new-token")
            connect(host=host, password="the-new-token", extra={"max_attempts": 1})
            end(world, call, now)

    api.before_list = rotate
    assert run(trigger())["status"] == "ended"
    assert [request.status for request in api.requests] == [200, 401, 200, 200, 200, 200, 200]


def test_outage_is_waited_out_and_logged(
    api: Emulator, trigger: Any, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged when it begins and when it ends."""
    api.faults.add(Fault.server_error(), at=[1, 2, 3])
    with caplog.at_level(logging.INFO):
        assert run(trigger())["status"] == "ended"
    warned = [r for r in caplog.records if r.name == "voiceos_provider.triggers.voiceos"]
    assert [record.levelname for record in warned] == ["WARNING", "INFO"]
    assert "500" in warned[0].getMessage()


@pytest.mark.parametrize(("failures", "status"), [(4, "ended"), (99, "error")])
def test_unexpected_error_is_tolerated_a_few_times(
    api: Emulator, trigger: Any, run: Any, monkeypatch: Any, caplog: Any, failures: int, status: str
) -> None:
    """It neither fails every task at once nor logs a traceback in each poll."""
    real, polled = poll_stream.check_all, []

    def check_all(*args: Any, **options: Any) -> Any:
        polled.append(1)
        if len(polled) <= failures:
            raise RuntimeError("a mistake")
        return real(*args, **options)

    monkeypatch.setattr(poll_stream, "check_all", check_all)
    payload = run(trigger())
    assert payload["status"] == status
    assert status == "ended" or "a mistake" in payload["message"]
    assert caplog.text.count("Traceback") == 1


_MISSING = [] if airflow_version.startswith("2.") else ["removed"]  # Airflow 2 looks in its database


@pytest.mark.parametrize(
    "change",
    [*_MISSING, "no token", "other type", "bad extra", "bad proxies"],
)
def test_wrong_connection_ends_the_wait_with_one_message(
    api: Emulator, trigger: Any, run: Any, connect: Any, monkeypatch: Any, caplog: Any, change: str
) -> None:
    """There is no traceback in each poll until the timeout."""
    settings = json.loads(os.environ["AIRFLOW_CONN_VOICEOS_DEFAULT"])
    if change == "removed":
        monkeypatch.delenv("AIRFLOW_CONN_VOICEOS_DEFAULT")
    elif change == "bad proxies":
        monkeypatch.setenv("ALL_PROXY", "gopher://proxy:70")
    else:
        broken = {"no token": {"password": ""}, "other type": {"conn_type": "mysql"}}
        changed = broken.get(change, {"extra": {"page_size": "many"}})
        monkeypatch.setenv("AIRFLOW_CONN_VOICEOS_DEFAULT", json.dumps(settings | changed))
    payload = run(trigger())
    assert payload["status"] == "failed"
    assert payload["message"].startswith("VoiceOSValueError: ")
    assert "Traceback" not in caplog.text
    assert api.requests == []


def test_trigger_survives_serialization(trigger: Any) -> None:
    """It is stored twice, without secrets or classes of the package."""
    from airflow.models.trigger import Trigger

    for made in (
        trigger(max_age=60.0, unconfirmed=True),
        trigger(conversation_ids=["a"], min_conversations=1),
    ):
        path, arguments = made.serialize()
        encrypt = getattr(Trigger, "encrypt_kwargs", None) or Trigger._encrypt_kwargs  # Airflow 2
        stored = Trigger._decrypt_kwargs(encrypt(arguments))
        again = VoiceOSConversationsEndedTrigger(**stored)
        assert again.serialize() == (path, arguments)
        assert json.loads(json.dumps(arguments)) == arguments


def test_shared_stream_key_has_connection_and_interval(trigger: Any) -> None:
    """It omits the window, which waiting triggers pass to each poll."""
    key = trigger().shared_stream_key()
    assert trigger(interval_start="2026-01-01T00:00:00Z", max_age=1.0).shared_stream_key() == key
    assert trigger(poke_interval=61.0).shared_stream_key() != key
    assert trigger(voiceos_conn_id="other").shared_stream_key() != key


def test_next_poll_waits_as_long_as_the_api_requests(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    """A 429 may request more than the poll interval."""
    condition = IntervalCondition(Interval(now - HOUR, now - MINUTE), None, timedelta(0))
    error: VoiceOSAPIError = VoiceOSRateLimitError("429", 429, None, 90.0)
    outcomes: Any = iter([{condition: error}, {condition: MET}, {condition: MET}])

    async def poll(self: SharedPoll, *_: Any) -> Poll:
        return next(outcomes)

    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def main() -> None:
        stream = polls(SharedPoll(), "voiceos_default", 10.0, sleep=sleep)
        for _ in range(3):
            await anext(stream)
        await stream.aclose()

    monkeypatch.setattr(SharedPoll, "poll", poll)
    asyncio.run(main())
    assert waits == [10.0, 90.0, 10.0]
