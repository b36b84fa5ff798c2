"""Waiting without a worker slot until an interval is readable by the local and the server's clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSValueError
from voiceos_provider.extract.server_checks import check_readable
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import Interval
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator

MINUTE = timedelta(minutes=1)
FIVE = 5 * MINUTE


@pytest.fixture
def now() -> datetime:
    """Return the time of this test."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def ended(now: datetime) -> Interval:
    """Return an hour that ended two minutes ago."""
    end = now - 2 * MINUTE
    return Interval(end - 60 * MINUTE, end)


@pytest.fixture
def serve(connect: Callable[..., str], now: datetime) -> Iterator[Callable[..., Emulator]]:
    """Return a function that serves an API whose clock is ahead of this machine's."""
    with ExitStack() as stack:

        def make(ahead: timedelta = timedelta(0)) -> Emulator:
            long_ago = datetime(2026, 1, 1, tzinfo=UTC)
            world = World(seed=7, conversations=20, start=long_ago, end=long_ago + timedelta(days=1))
            emulator = Emulator(world, clock_skew=ahead)
            connect(host=stack.enter_context(emulator.serve()), password=emulator.token)
            return emulator

        yield make


def seconds(interval: Interval, visibility_delay: timedelta = FIVE) -> float:
    """Return the seconds until an interval is readable."""
    with VoiceOSHook() as hook:
        return check_readable(hook.get_conn(), interval, visibility_delay)


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(timedelta(0), 180), (4 * MINUTE, 180), (-10 * MINUTE, 780)],
    ids=["same", "server fast or this machine slow", "server slow or this machine fast"],
)
def test_slower_clock_counts(
    serve: Callable[..., Emulator], ended: Interval, ahead: timedelta, expected: float
) -> None:
    """The faster one would shorten the visibility delay."""
    serve(ahead)
    assert seconds(ended) == pytest.approx(expected, abs=20)


def test_interval_that_has_ended_by_neither_clock_is_rejected(
    serve: Callable[..., Emulator], now: datetime
) -> None:
    """The task runs too early."""
    serve(2 * MINUTE)
    with pytest.raises(VoiceOSValueError, match="is in the future"):
        seconds(Interval(now - 60 * MINUTE, now + 5 * MINUTE))


def test_visibility_delay_can_be_set(serve: Callable[..., Emulator], ended: Interval) -> None:
    """It is zero or an hour."""
    serve()
    assert seconds(ended, timedelta(0)) == 0
    assert seconds(ended, 60 * MINUTE) == pytest.approx(3480, abs=20)


def test_server_that_ignores_bounds_is_detected(serve: Callable[..., Emulator], ended: Interval) -> None:
    """One probe lists what it must not list."""
    emulator = serve()
    seconds(ended)
    assert [request.query["limit"] for request in emulator.requests] == ["1"]
    emulator.faults.add(Fault.ignore_window())
    with pytest.raises(VoiceOSContractError, match="ignores created_after or created_before"):
        seconds(ended)


@pytest.mark.parametrize("ahead", [4 * MINUTE, -4 * MINUTE])
def test_clock_difference_is_logged(
    serve: Callable[..., Emulator], ended: Interval, caplog: pytest.LogCaptureFixture, ahead: timedelta
) -> None:
    """A few seconds are not."""
    for difference in (timedelta(seconds=5), ahead):
        serve(difference)
        with caplog.at_level(logging.WARNING):
            seconds(ended)
    (message,) = [record.getMessage() for record in caplog.records if "locks" in record.getMessage()]
    assert "differ by" in message


@pytest.fixture
def operator(ended: Interval) -> Any:
    """Return an operator for that hour."""

    def make(**options: Any) -> VoiceOSListConversationsOperator:
        defaults = {"interval_start": ended.start, "interval_end": ended.end, "task_id": "list"}
        return VoiceOSListConversationsOperator(**(defaults | options))

    return make


def test_fresh_interval_reschedules_the_task_by_default(
    serve: Callable[..., Emulator], ended: Interval, operator: Any
) -> None:
    """It takes no worker slot and needs no triggerer."""
    emulator = serve()
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        operator().execute({})
    assert rescheduled.value.reschedule_date - (ended.end + FIVE) < timedelta(seconds=5)
    assert len(emulator.requests) == 1


def test_deferrable_task_waits_in_the_triggerer(serve: Callable[..., Emulator], operator: Any) -> None:
    """The worker continues after it."""
    serve()
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute({})
    assert deferred.value.method_name == "execute_readable"


@pytest.mark.parametrize("deferrable", [True, False])
def test_readable_interval_is_exported_at_once(
    serve: Callable[..., Emulator],
    operator: Any,
    deferrable: bool,  # noqa: FBT001
) -> None:
    """A wait of seconds happens in the worker."""
    serve()
    assert operator(deferrable=deferrable, visibility_delay=0).execute({}) == []


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    "wrong", [{"status": "begun"}, {"interval_start": "2026-11-20T00:00"}, {"visibility_delay": -1}]
)
def test_arguments_are_checked_before_the_wait(
    serve: Callable[..., Emulator],
    operator: Any,
    wrong: dict[str, Any],
    deferrable: bool,  # noqa: FBT001
) -> None:
    """The task does not fail minutes later."""
    emulator = serve()
    with pytest.raises(AirflowFailException):
        operator(deferrable=deferrable, **wrong).execute({})
    assert emulator.requests == []


def test_scheduler_of_every_airflow_respects_the_date(operator: Any, ended: Interval) -> None:
    """Before 3.1 only for tasks marked like sensors; see `DefersUntilReadable`."""
    from airflow import __version__

    marked = operator().get_serialized_fields() >= {"reschedule"}
    assert marked == __version__.startswith(("2.", "3.0."))
    assert getattr(operator(), "reschedule", False) == marked
