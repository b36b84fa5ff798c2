"""Requests of one poll for many intervals, and results equal to those of separate checks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.lifecycles import add
from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError, VoiceOSServerError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import (
    MET,
    MIN_CHECKS,
    UNCONFIRMED,
    IntervalCondition,
    Result,
    check_all,
    max_checks,
)
from voiceos_provider.polling.polling_client import PollingClient, Row, ServerClock, run

DAY = datetime(2026, 11, 2, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
MINUTE = timedelta(minutes=1)


def minutes(first: int, last: int, max_age: timedelta | None = None, **more: Any) -> IntervalCondition:
    """Return the condition of these minutes of the day."""
    return IntervalCondition(
        Interval(DAY + first * MINUTE, DAY + last * MINUTE), max_age, timedelta(0), **more
    )


SLOTS = [minutes(n, n + 1) for n in range(600)]


def test_a_thousand_ended_windows_cost_two_requests(api: Any, world: World, clock: Any) -> None:
    """No conversation is open between the first start and the last end."""
    windows = [minutes(n % 500, n % 500 + 1 + n // 500) for n in range(1000)]
    found = api.check_all(windows, now=clock.now)
    assert found == dict.fromkeys(windows, UNCONFIRMED)
    assert api.sent() == [("queued", "1"), ("started", "1")]


def test_condition_of_a_thousand_tasks_is_checked_once(api: Any, world: World, clock: Any) -> None:
    """Equal conditions are one value."""
    add(world, created=DAY, started=DAY)
    found = api.check_all([minutes(0, 60) for _ in range(1000)], now=clock.now)
    assert len(found) == 1
    assert api.sent() == [("queued", "1"), ("started", "1")]


def test_open_windows_among_many_are_found_by_halving(api: Any, world: World, clock: Any) -> None:
    """Later they are checked one by one, and all others together."""
    id_ = add(world, created=DAY + 77 * MINUTE)
    first = api.check_all(SLOTS[:128], now=clock.now)
    assert [w for w, f in first.items() if f.state == "open"] == [SLOTS[77]]
    assert first[SLOTS[77]].reason == f"conversation {id_} is queued"
    assert len(api.sent()) < 25
    again = api.check_all(SLOTS[:128], now=clock.now, states=dict.fromkeys([SLOTS[77]], "open"))
    assert again == first
    assert len(api.sent()) < 10


def test_open_conversation_between_two_windows_affects_neither(api: Any, world: World, clock: Any) -> None:
    """Only a check of both together finds it."""
    add(world, created=DAY + 30 * MINUTE)
    windows = [minutes(0, 10), minutes(50, 60)]
    assert api.check_all(windows, now=clock.now) == dict.fromkeys(windows, UNCONFIRMED)


def test_poll_never_exceeds_its_number_of_checks(api: Any, world: World, clock: Any) -> None:
    """Six hundred open windows cost a quarter of separate checks, and each is checked soon."""
    for n in range(600):
        add(world, created=DAY + n * MINUTE)
    open_: dict[IntervalCondition, None] = {}
    for _ in range(12):
        found = api.check_all(SLOTS, now=clock.now, states=dict.fromkeys(open_, "open"))
        for window, finding in found.items():
            assert finding.state == "open"
            open_.pop(window, None)
            open_[window] = None
        assert len(api.sent()) <= 2 * max_checks(600) == 300
    assert len(open_) == 600


def test_open_intervals_that_end_together_are_found_at_once(api: Any, world: World, clock: Any) -> None:
    """Separate checks would take several polls."""
    windows = SLOTS[:200]
    found = api.check_all(windows, now=clock.now, states=dict.fromkeys(windows, "open"))
    assert found == dict.fromkeys(windows, UNCONFIRMED)
    assert len(api.sent()) == 2


def test_least_recently_checked_windows_come_first(api: Any, world: World, clock: Any) -> None:
    """Each has its turn if a poll cannot check all."""
    for n in range(2 * MIN_CHECKS):
        add(world, created=DAY + n * MINUTE)
    windows = SLOTS[: 2 * MIN_CHECKS]
    found = api.check_all(windows, now=clock.now, states=dict.fromkeys(windows[5:] + windows[:5], "open"))
    assert list(found) == windows[5 : 5 + MIN_CHECKS - 1]


def test_future_and_too_old_intervals_cost_no_request(api: Any, world: World, clock: Any) -> None:
    """Their results are known."""
    add(world, created=DAY)
    later, old = minutes(719, 721), minutes(0, 1, max_age=timedelta(hours=3))
    found = api.check_all([later, old], now=clock.now)
    assert (found[later].state, found[old]) == ("open", MET)
    assert api.sent() == []


def test_empty_interval_with_a_minimum_stays_open(api: Any, world: World, clock: Any) -> None:
    """Adjacent intervals are not affected."""
    windows = [minutes(0, 1), minutes(0, 1, min_conversations=1)]
    found = api.check_all(windows, now=clock.now, states=dict.fromkeys(windows, "unconfirmed"))
    assert [found[window].state for window in windows] == ["ended", "open"]


def test_unconfirmed_intervals_are_confirmed_by_listings(api: Any, world: World, clock: Any) -> None:
    """Adjacent ones share a listing; time between them is not read, and an open one is found by halving."""
    for n in (1, 2, 4, 30, 51):
        at = DAY + n * MINUTE
        add(world, created=at, started=at, ended=at)
    add(world, created=DAY + 30 * MINUTE)
    windows = [*SLOTS[:8], *SLOTS[50:52]]
    assert api.check_all(
        windows, now=clock.now, states=dict.fromkeys(windows, "unconfirmed")
    ) == dict.fromkeys(windows, MET)
    assert len(api.sent()) <= 6
    paused = add(world, created=DAY + 3 * MINUTE, started=DAY)
    found = api.check_all(windows, now=clock.now, states=dict.fromkeys(windows, "unconfirmed"))
    assert found == dict.fromkeys(windows, MET) | {
        SLOTS[3]: Result("open", f"conversation {paused} is started")
    }


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.server_error(), VoiceOSServerError), (Fault.unauthorized(), VoiceOSAuthError)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_outage_keeps_earlier_results(api: Any, world: World, clock: Any, fault: Fault, error: type) -> None:
    """Only conditions that were not checked before it get the error."""
    add(world, created=DAY + 3 * MINUTE)
    api.emulator.faults.add(fault, at=[4])
    found = api.check_all(SLOTS[:4], now=clock.now)
    assert [found[window] for window in SLOTS[:2]] == [UNCONFIRMED] * 2
    assert all(isinstance(found[window], error) for window in SLOTS[2:4])
    assert len(api.sent()) <= 6


def test_error_of_one_interval_does_not_affect_others(api: Any, world: World, clock: Any) -> None:
    """The request is rejected, and not the token."""
    api.emulator.faults.add(Fault.body(b"{}", status=400), at=[1, 4])
    found = api.check_all(SLOTS[:2], now=clock.now)
    assert found[SLOTS[0]] == UNCONFIRMED
    assert isinstance(found[SLOTS[1]], VoiceOSError)


LIVES = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.one_of(st.none(), st.integers(0, 900)),
        st.one_of(st.none(), st.integers(0, 900)),
    ),
    max_size=8,
)
WINDOWS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 20), st.sampled_from([None, 11 * 60 + 20, 11 * 60 + 40])),
    min_size=1,
    max_size=10,  # the number that one poll can distinguish: two checks each, less one
)


@given(lifetimes=LIVES, windows=WINDOWS, data=st.data())
@settings(max_examples=80)
def test_poll_finds_what_separate_checks_would_find(lifetimes, windows, data) -> None:
    """Conversations, intervals and results of earlier polls are random."""
    world = World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1))
    for created, started, ended in lifetimes:
        at = DAY + created * MINUTE
        begun = None if started is None else at + started * MINUTE
        add(
            world,
            created=at,
            started=begun,
            ended=None if ended is None or begun is None else begun + ended * MINUTE,
        )
    emulator = Emulator(world, clock=lambda: NOON)
    api = ClientConfig(token=emulator.token, base_url="http://emulator", retry=Retry(max_attempts=1))
    asked = [
        minutes(first, first + length, None if age is None else age * MINUTE)
        for first, length, age in windows
    ]
    before = data.draw(st.lists(st.sampled_from(asked), unique=True))
    with VoiceOSClient(api, transport=emulator.transport()) as client:
        polling = PollingClient(client, ServerClock(lambda: NOON))
        found = run(check_all(polling, asked, dict.fromkeys(before, "open")))
        for window, finding in found.items():
            part = window.young_part(NOON)
            alone: Row | None = run(polling.first_open(part)) if part else None
            assert (finding.state == "open") == (alone is not None)
        # With so few of them, none has to wait for its turn.
        assert set(found) == set(asked)
