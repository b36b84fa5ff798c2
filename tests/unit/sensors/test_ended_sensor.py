"""The sensor as Airflow runs it: in a worker, rescheduled, or deferred."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from tests.support.lifecycles import add, end
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.sensors.voiceos import VoiceOSConversationsEndedSensor
from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedTrigger

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def sensor(now: datetime) -> Any:
    """Return a sensor with short waits for the hour that ended ten minutes ago."""

    def make(**options: Any) -> VoiceOSConversationsEndedSensor:
        defaults = {
            "task_id": "wait",
            "interval_start": now - 70 * MINUTE,
            "interval_end": now - 10 * MINUTE,
            "poke_interval": 0.02,
            "timeout": 60,
        }
        return VoiceOSConversationsEndedSensor(**(defaults | options))

    return make


def deferred(operator: Any) -> TaskDeferred:
    """Return how the sensor defers."""
    with pytest.raises(TaskDeferred) as caught:
        operator.execute({})
    return caught.value


def test_sensor_waits_until_all_have_ended_and_reports_counts(
    api: Emulator, world: World, now: datetime, sensor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Each poke is logged and costs at most two requests; the last one reads the listing."""
    calls = [add(world, created=now - HOUR), add(world, created=now - HOUR, started=now - HOUR)]
    stuck = add(world, created=now - 65 * MINUTE)

    def one_ends(nth: int) -> None:
        if nth in (3, 6):
            end(world, calls.pop(), now)

    api.before_list = one_ends
    with caplog.at_level(logging.INFO):
        result = sensor(max_age=62 * MINUTE).execute({})
    waited = result.pop("waited_seconds")
    assert waited > 0
    assert result == {
        "interval_start": (now - 70 * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "interval_end": (now - 10 * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "conversation_ids": None,
        "counts": {"queued": 1, "started": 0, "ended": None},
        "abandoned": [stuck],
    }
    assert "Not ended yet: conversation" in caplog.text
    assert f"conversation {stuck} is queued" in caplog.text
    pokes = [request.query for request in api.requests if "status" in request.query]
    by_limit = [query["limit"] for query in pokes]
    assert set(by_limit[: by_limit.index("100")]) == {"1"}  # before the open calls are named


def test_call_in_an_undocumented_state_is_waited_for(
    api: Emulator, world: World, now: datetime, sensor: Any
) -> None:
    """No request for a documented state returns it."""
    call = add(world, created=now - HOUR, started=now - HOUR)
    world.set_status(call, "paused")
    with pytest.raises(AirflowSensorTimeout):
        sensor(timeout=0.3).execute({})
    world.set_status(call, None)
    end(world, call, now)
    assert sensor().execute({})["abandoned"] == []


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_second_check_follows_in_the_same_poke(api: Emulator, sensor: Any, mode: str) -> None:
    """A rescheduled sensor keeps no state."""
    found = sensor(mode=mode, poke_interval=0.3).poke({})
    assert found.is_done
    assert found.xcom_value["waited_seconds"] >= 0.3
    assert [request.query.get("status") for request in api.requests[:3]] == ["queued", "started", None]


def test_fast_local_clock_does_not_shorten_the_visibility_delay(
    emulator: Emulator, connect: Any, now: datetime, sensor: Any
) -> None:
    """The second check is not due yet by the server's clock."""
    slow = Emulator(World(seed=5, conversations=0, start=now - 24 * HOUR, end=now), clock_skew=-4 * MINUTE)
    with slow.serve() as url:
        connect(host=url, password=slow.token)
        poke = sensor(interval_end=now - 6 * MINUTE).poke
        assert not poke({}).is_done
        assert not poke({}).is_done
        assert sensor(interval_end=now - 10 * MINUTE).poke({}).is_done


def test_conversations_are_waited_for_by_their_ids(
    api: Emulator, world: World, now: datetime, sensor: Any
) -> None:
    """Nothing else is requested, and all of them are counted."""
    ids = [add(world, created=now - HOUR, started=now - HOUR, ended=now - MINUTE) for _ in range(3)]
    add(world, created=now - HOUR)
    result = sensor(conversation_ids=[*ids, ids[0]]).execute({})
    assert result["conversation_ids"] == ids
    assert result["counts"] == {"queued": 0, "started": 0, "ended": 3}
    assert result["interval_start"] is None
    assert len(api.requests) == 3
    assert sensor(conversation_ids=[]).execute({})["counts"]["ended"] == 0


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("fault", [Fault.unauthorized(401), Fault.unauthorized(403)], ids=["401", "403"])
def test_wrong_token_fails_at_once(api: Emulator, sensor: Any, fault: Fault, deferrable: bool) -> None:  # noqa: FBT001
    """There is no retry or deferral, and the message names the field."""
    api.faults.add(fault)
    for soft_fail in (False, True):
        with pytest.raises(AirflowFailException, match=r"(?i)password field"):
            sensor(deferrable=deferrable, soft_fail=soft_fail).execute({})
    with pytest.raises(AirflowSkipException):
        sensor(deferrable=deferrable, never_fail=True).execute({})
    assert len(api.requests) == 3


def test_outage_is_waited_out_and_logged(
    api: Emulator, sensor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The sensor then succeeds."""
    api.faults.add(Fault.server_error(), at=[1, 2])
    api.faults.add(Fault.reset(), at=[4])
    assert sensor().execute({})["abandoned"] == []
    assert caplog.text.count("VoiceOS did not respond; the sensor waits.") == 3


def test_outage_longer_than_the_timeout_is_a_timeout(api: Emulator, sensor: Any) -> None:
    """`soft_fail` skips the task."""
    api.faults.add(Fault.server_error())
    with pytest.raises(AirflowSensorTimeout):
        sensor(timeout=0.1).execute({})
    with pytest.raises(AirflowSkipException):
        sensor(timeout=0.1, soft_fail=True).execute({})


def test_retry_after_is_respected(api: Emulator, world: World, sensor: Any, now: datetime) -> None:
    """It is longer than the poke interval."""
    api.faults.add(Fault.rate_limit("2"), at=[1])
    assert sensor().execute({})["waited_seconds"] >= 2
    assert [request.status for request in api.requests] == [429, 200, 200, 200]


@pytest.mark.parametrize("deferrable", [True, False])
def test_interval_that_is_not_readable_costs_no_request(
    api: Emulator,
    sensor: Any,
    deferrable: bool,  # noqa: FBT001
) -> None:
    """It has not ended, or the visibility delay has not passed."""
    four_minutes_ago = datetime.now(UTC) - 4 * MINUTE
    operator = sensor(interval_end=four_minutes_ago, deferrable=deferrable, timeout=0.1)
    with pytest.raises(TaskDeferred if deferrable else AirflowSensorTimeout):
        operator.execute({})
    assert api.requests == []


def test_sensor_defers_for_the_second_check(api: Emulator, sensor: Any) -> None:
    """A backfill without recent conversations needs no triggerer."""
    assert deferred(sensor(deferrable=True)).trigger.unconfirmed
    assert sensor(deferrable=True, max_age=1).execute({})["abandoned"] == []


def test_trigger_is_plain_and_holds_no_secret(
    api: Emulator, world: World, now: datetime, sensor: Any
) -> None:
    """It has a fixed deadline and all parameters that another process needs."""
    add(world, created=now - HOUR)
    deferral = deferred(sensor(deferrable=True, exponential_backoff=True, max_wait=300, min_conversations=2))
    path, arguments = deferral.trigger.serialize()
    assert path == "voiceos_provider.triggers.voiceos.VoiceOSConversationsEndedTrigger"
    since = datetime.fromisoformat(arguments.pop("waiting_since"))
    assert datetime.fromisoformat(arguments.pop("deadline")) - since == MINUTE
    assert arguments == {
        "voiceos_conn_id": "voiceos_default",
        "interval_start": (now - 70 * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "interval_end": (now - 10 * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "conversation_ids": None,
        "max_age": 3 * 3600.0,
        "visibility_delay": 300.0,
        "min_conversations": 2,
        "unconfirmed": False,
        "poke_interval": 0.1,
    }
    assert deferral.method_name == "execute_complete"
    assert MINUTE < deferral.timeout <= 2 * MINUTE


def test_ended_ids_are_not_deferred(api: Emulator, world: World, now: datetime, sensor: Any) -> None:
    """They are never requested again."""
    ended = add(world, created=now - HOUR, started=now - HOUR, ended=now - MINUTE)
    open_ = add(world, created=now - HOUR)
    deferral = deferred(sensor(deferrable=True, conversation_ids=[ended, open_]))
    assert deferral.trigger.conversation_ids == [open_]


def test_sensor_defers_if_the_api_does_not_respond(api: Emulator, sensor: Any) -> None:
    """The triggerer waits for the end of the outage."""
    api.faults.add(Fault.server_error())
    assert isinstance(deferred(sensor(deferrable=True)).trigger, VoiceOSConversationsEndedTrigger)


def test_resumed_sensor_names_abandoned_conversations(
    api: Emulator, world: World, now: datetime, sensor: Any
) -> None:
    """The worker reads them, so the event stays small."""
    stuck = add(world, created=now - 65 * MINUTE)
    event = {
        "status": "ended",
        "waiting_since": (now - 5 * MINUTE).isoformat(),
        "abandoned": [],
    }
    result = sensor(max_age=HOUR).execute_complete({}, event)
    assert result["abandoned"] == [stuck]
    assert result["waited_seconds"] > 299
    by_id = sensor(conversation_ids=[stuck, "other"]).execute_complete(
        {}, event | {"abandoned": [[stuck, "queued"]]}
    )
    assert by_id["abandoned"] == [stuck]
    assert by_id["counts"] == {"queued": 1, "started": 0, "ended": 1}


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        (
            {"status": "timeout", "message": "Still: x"},
            AirflowSensorTimeout,
            "Not ended within 60 s. Still: x",
        ),
        ({"status": "failed", "message": "401"}, AirflowFailException, "401"),
        ({"status": "error", "message": "unexpected"}, AirflowException, "unexpected"),
        (None, AirflowException, "no event of VoiceOSConversationsEndedTrigger"),
        ({"status": "done"}, AirflowException, "same version"),
        ({"status": "ended"}, AirflowException, "same version"),
    ],
)
def test_event_is_checked(sensor: Any, event: Any, error: type, message: str) -> None:
    """Only the end of all conversations succeeds."""
    with pytest.raises(error, match=message):
        sensor().execute_complete({}, event)
    skips = error is AirflowSensorTimeout
    with pytest.raises(AirflowSkipException if skips else error, match=None if skips else message):
        sensor(soft_fail=True).resume_execution("execute_complete", {"event": event}, {})


def test_date_is_that_day_in_utc(api: Emulator, sensor: Any) -> None:
    """The end is omitted."""
    result = sensor(interval_start="2026-11-20", interval_end=None).execute({})
    assert (result["interval_start"], result["interval_end"]) == (
        "2026-11-20T00:00:00Z",
        "2026-11-21T00:00:00Z",
    )


def test_deferrable_has_the_default_of_airflow(sensor: Any) -> None:
    """`[operators] default_deferrable` is off here."""
    import inspect

    from airflow.providers.common.compat.sdk import conf

    default = inspect.signature(VoiceOSConversationsEndedSensor.__init__).parameters["deferrable"].default
    assert default == conf.getboolean("operators", "default_deferrable", fallback=False)
    assert sensor().deferrable == default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval_start": "{{ nope }}"}, "interval_start '{{ nope }}' is not a date-time"),
        ({"interval_start": None}, "Set interval_start"),
        ({"interval_start": "2026-11-01T00:00"}, "has no time zone"),
        ({"conversation_ids": "['a', 'b']"}, "rendered to text"),
        ({"conversation_ids": [1]}, r"conversation_ids \[1\] is no list of ids"),
        ({"conversation_ids": [".."], "visibility_delay": 0}, r"there is no conversation '\.\.'"),
        (
            {"conversation_ids": ["missing"], "visibility_delay": 0},
            "Check conversation_ids: there is no conversation 'missing'",
        ),
        ({"max_age": "1h"}, "max_age '1h' is not a duration"),
        ({"visibility_delay": -1}, "visibility_delay -1 is not a duration"),
        ({"min_conversations": -1}, "min_conversations -1 is negative"),
        ({"voiceos_conn_id": "voiceos_bad"}, "no API token"),
    ],
)
def test_bad_input_fails_at_once_and_is_named(
    api: Emulator, connect: Any, sensor: Any, options: dict[str, Any], message: str
) -> None:
    """It is not retried, and `soft_fail` does not skip it."""
    connect("voiceos_bad", host="https://api.voiceos.io")
    for more in ({}, {"soft_fail": True}, {"soft_fail": True, "deferrable": True}):
        with pytest.raises(AirflowFailException, match=message):
            sensor(**options, **more).execute({})


def test_rescheduled_sensor_counts_from_its_first_poke(api: Emulator, now: datetime, sensor: Any) -> None:
    """Airflow 3 stores the time, and on Airflow 2 it is the start of the task."""

    class Instance:
        start_date = now - HOUR

    class LaterInstance(Instance):
        start_date = now

        def get_first_reschedule_date(self, context: Any) -> datetime | None:
            return now - HOUR

    for instance in (Instance(), LaterInstance()):
        found = sensor(mode="reschedule").poke({"ti": instance})
        assert found.xcom_value["waited_seconds"] >= 3600
