"""An interval is read once nothing new can show up in it, by the server's clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSValueError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import Interval
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.pipeline.interval_export import VISIBILITY_DELAY, export_interval, wait_until_settled


@pytest.fixture
def now() -> datetime:
    """The time of this test."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def ended(now: datetime) -> Interval:
    """An hour that ended two minutes ago, by this machine's clock."""
    end = now - timedelta(minutes=2)
    return Interval(end - timedelta(hours=1), end)


@pytest.fixture
def hook_of(connect: Callable[..., str], now: datetime) -> Iterator[Callable[[timedelta], VoiceOSHook]]:
    """A hook for a server whose clock is ahead of ours."""
    hooks: list[tuple[VoiceOSHook, object]] = []

    def make(ahead: timedelta) -> VoiceOSHook:
        emulator = Emulator(World(seed=7, conversations=20), clock=lambda: now + ahead)
        serving = emulator.serve()
        connect(host=serving.__enter__(), password=emulator.token)
        hook = VoiceOSHook()
        hook.emulator = emulator  # type: ignore[attr-defined]
        hooks.append((hook, serving))
        return hook

    yield make
    for hook, serving in hooks:
        hook.close()
        serving.__exit__(None, None, None)  # type: ignore[attr-defined]


def waited(
    hook: VoiceOSHook, interval: Interval, visibility_delay: timedelta = VISIBILITY_DELAY
) -> list[float]:
    """The seconds it wants to wait."""
    naps: list[float] = []
    wait_until_settled(hook.get_conn(), interval, visibility_delay, sleep=naps.append)
    return naps


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(0), [180.0]),
        (timedelta(minutes=2), [60.0]),
        (timedelta(minutes=3), []),
        (timedelta(minutes=-10), [780.0]),
    ],
)
def test_it_waits_for_the_rest_by_the_servers_clock(
    hook_of: Callable[[timedelta], VoiceOSHook], ended: Interval, ahead: timedelta, expected: list[float]
) -> None:
    """Five minutes after the end, whatever the clock here says."""
    assert waited(hook_of(ahead), ended) == expected


@pytest.mark.parametrize("behind", [timedelta(seconds=1), timedelta(minutes=20)])
@pytest.mark.parametrize("read_strategy", ["windows", "pages"])
def test_a_clock_here_that_is_behind_fails_no_export(
    hook_of: Callable[[timedelta], VoiceOSHook], now: datetime, behind: timedelta, read_strategy: str
) -> None:
    """A run that begins when its interval has ended waits until that has settled, by the server's clock."""
    hook = hook_of(behind)
    interval, naps = Interval(now - timedelta(hours=1), now + behind), list[float]()
    target = MemoryDestination(columns=["id"])
    export_interval(
        hook.get_conn(),
        target,
        interval=interval,
        tables=["conversations"],
        read_strategy=read_strategy,
        sleep=naps.append,
    )
    assert naps == [VISIBILITY_DELAY.total_seconds()]
    assert target.table is not None


@pytest.mark.parametrize("visibility_delay", [timedelta(0), VISIBILITY_DELAY])
def test_an_interval_that_has_ended_by_neither_clock_is_refused(
    hook_of: Callable[[timedelta], VoiceOSHook], now: datetime, visibility_delay: timedelta
) -> None:
    """It was asked for too early; but half a minute is waited for."""
    hook, start = hook_of(timedelta(minutes=2)), now - timedelta(hours=1)
    with pytest.raises(VoiceOSValueError, match="is in the future"):
        waited(hook, Interval(start, now + timedelta(minutes=3)), visibility_delay)
    assert waited(hook, Interval(start, now + timedelta(seconds=140)), visibility_delay) == [
        20 + visibility_delay.total_seconds()
    ]


def test_another_time_to_settle_can_be_chosen(
    hook_of: Callable[[timedelta], VoiceOSHook], ended: Interval
) -> None:
    """None at all, or an hour."""
    hook = hook_of(timedelta(0))
    assert waited(hook, ended, timedelta(0)) == []
    assert waited(hook, ended, timedelta(hours=1)) == [3480.0]


def test_one_small_question_is_asked(hook_of: Callable[[timedelta], VoiceOSHook], ended: Interval) -> None:
    """Whose answer is empty, if the server heeds its bounds."""
    hook = hook_of(timedelta(minutes=3))
    waited(hook, ended)
    emulator: Emulator = hook.emulator  # type: ignore[attr-defined]
    (request,) = emulator.requests
    assert request.query == {"created_before": "2000-01-01T00:00:00.000000Z", "index": "1", "limit": "1"}
    emulator.faults.add(Fault.ignore_window("created_before"))
    with pytest.raises(VoiceOSContractError, match="ignores created_before"):
        waited(hook, ended)


@pytest.mark.parametrize("ahead", [timedelta(minutes=4), timedelta(minutes=-4)])
def test_clocks_that_differ_are_told(
    hook_of: Callable[[timedelta], VoiceOSHook],
    ended: Interval,
    caplog: pytest.LogCaptureFixture,
    ahead: timedelta,
) -> None:
    """With how much, and which one counts."""
    with caplog.at_level(logging.WARNING):
        waited(hook_of(ahead), ended)
    (message,) = [record.getMessage() for record in caplog.records if "clocks" in record.getMessage()]
    assert "differ by 0:0" in message
    assert "the server's counts" in message


def test_clocks_that_agree_are_not_worth_a_word(
    hook_of: Callable[[timedelta], VoiceOSHook], ended: Interval, caplog: pytest.LogCaptureFixture
) -> None:
    """A few seconds are nothing; but a wait is told."""
    with caplog.at_level(logging.INFO):
        waited(hook_of(timedelta(seconds=5)), ended)
    messages = [record.getMessage() for record in caplog.records]
    assert not [message for message in messages if "clocks" in message]
    assert [message for message in messages if "waiting 175 s" in message and "visibility_delay" in message]
