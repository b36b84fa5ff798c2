"""Probe requests before the reading of an interval."""

import itertools
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest

from tests.unit.extract.test_reader import DAY, LONG_AFTER, NOON, connected, created, emulate
from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSConnectionError,
    VoiceOSContractError,
    VoiceOSRateLimitError,
    VoiceOSValueError,
)
from voiceos_provider.extract.server_checks import check_bounds, check_index, check_readable
from voiceos_provider.interval import Interval

HOUR = timedelta(hours=1)
MINUTES = timedelta(minutes=5)
Precision = Literal["microseconds", "milliseconds", "seconds"]


def check(emulator: Emulator, interval: Interval = DAY) -> datetime | None:
    """Check the bounds of a server."""
    with connected(emulator) as client:
        return check_bounds(client, interval)


def test_row_of_1970_does_not_look_like_ignored_bounds() -> None:
    """No data can satisfy the bounds of the probe request."""
    emulator = created([datetime.fromtimestamp(0, DAY.start.tzinfo), NOON])
    assert check(emulator) == LONG_AFTER
    assert [request.query["limit"] for request in emulator.requests] == ["1"]


@pytest.mark.parametrize("bound", ["created_after", "created_before", None])
def test_ignored_bound_is_detected_by_impossible_bounds(bound: Any) -> None:
    """The error comes before any read."""
    emulator = emulate()
    emulator.faults.add(Fault.ignore_window(bound))
    with pytest.raises(VoiceOSContractError, match=r"ignores created_after or created_before: it lists"):
        check(emulator)


def test_server_that_rejects_reversed_bounds_is_probed_with_an_empty_day() -> None:
    """A server that validates the order of the bounds reads both."""
    emulator = emulate()
    emulator.faults.add(Fault.body(b'{"detail": "reversed"}', status=422), at=[1])
    assert check(emulator) == LONG_AFTER
    assert len(emulator.requests) == 2


@pytest.mark.parametrize("conversations", [1, 2, 400])
def test_server_that_counts_pages_from_zero_is_detected(conversations: int) -> None:
    """One conversation is enough."""
    emulator = created([NOON + number * HOUR / 100 for number in range(conversations)], first_index=0)
    with connected(emulator) as client, pytest.raises(VoiceOSContractError, match="counts pages from 0"):
        check_index(client, DAY)


@pytest.mark.parametrize("fault", [Fault.server_error(500), Fault.server_error(503), Fault.reset()])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_transient_failure_does_not_hide_a_server_that_counts_from_zero(fault: Fault, at: int) -> None:
    """Each of the four responses may be lost."""
    emulator = created([NOON, NOON + HOUR], first_index=0)
    emulator.faults.add(fault, at=[at])
    with connected(emulator) as client, pytest.raises(VoiceOSContractError, match="counts pages from 0"):
        check_index(client, DAY)


@pytest.mark.parametrize("fault", [Fault.rate_limit(), Fault.reset(), Fault.unauthorized(401)])
def test_failure_unrelated_to_page_0_is_raised(fault: Fault) -> None:
    """Rate limits, rejected tokens and lost connections affect every page."""
    emulator = emulate()
    emulator.faults.add(fault)
    retry = Retry(max_attempts=2, base_delay=0.0, deadline=1.0)
    config = ClientConfig(token=emulator.token, base_url="http://emulator", retry=retry)
    clock = itertools.count(0.0, 0.1)
    with (
        VoiceOSClient(
            config,
            transport=emulator.transport(),
            sleep=lambda _: None,
            monotonic=lambda: next(clock),
        ) as client,
        pytest.raises((VoiceOSRateLimitError, VoiceOSConnectionError, VoiceOSAuthError)),
    ):
        check_index(client, DAY)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"order": "shuffled"},
        {"order": "updated_desc", "replica_lag": timedelta(days=30), "replica_choice": "alternate"},
    ],
)
def test_server_that_counts_pages_from_one_passes(model: dict[str, Any]) -> None:
    """Page 0 may equal page 1, the order may change with each request, and replicas may alternate."""
    for fault in (None, Fault.clamp_index(), Fault.server_error(500)):
        emulator = emulate(**model)
        if fault:
            emulator.faults.add(fault)
        with connected(emulator) as client:
            check_index(client, DAY)


@pytest.mark.parametrize(
    "skew", [timedelta(seconds=-90), timedelta(0), timedelta(seconds=90), timedelta(minutes=4)]
)
def test_visibility_delay_uses_the_slower_clock(skew: timedelta) -> None:
    """A fast clock of the server shortens nothing."""
    now = DAY.end + timedelta(seconds=100)
    emulator = Emulator(emulate().world, clock=lambda: now, clock_skew=skew)
    with connected(emulator) as client:
        seconds = check_readable(client, DAY, MINUTES, now=now)
    assert seconds == (MINUTES - timedelta(seconds=100) - min(skew, timedelta(0))).total_seconds()


def test_interval_that_has_not_ended_is_rejected() -> None:
    """Conversations may still be created in it."""
    now = DAY.end - HOUR
    emulator = Emulator(emulate().world, clock=lambda: now)
    with connected(emulator) as client, pytest.raises(VoiceOSValueError, match="in the future"):
        check_readable(client, DAY, MINUTES, now=now)


def test_last_day_of_the_calendar_is_rejected_without_a_request() -> None:
    """The probe request would have no bound."""
    last = datetime.max.replace(tzinfo=DAY.start.tzinfo)
    emulator = emulate()
    with connected(emulator) as client, pytest.raises(VoiceOSValueError, match="in the future"):
        check_readable(client, Interval(last - timedelta(seconds=1), last), MINUTES, now=LONG_AFTER)
    assert not emulator.requests


def test_clocks_that_differ_by_hours_are_an_error() -> None:
    """Waiting would take hours."""
    emulator = Emulator(emulate().world, clock=lambda: LONG_AFTER)
    with connected(emulator) as client, pytest.raises(VoiceOSContractError, match="Clocks disagree"):
        check_readable(client, DAY, MINUTES, now=DAY.end - 3 * HOUR)
