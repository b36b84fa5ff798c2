"""Retry decisions and waits."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.client import Retry
from voiceos_provider.client.responses import Response
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSRateLimitError,
    VoiceOSServerError,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BROKEN = VoiceOSServerError("GET /conversations: 500.", 500)


def headers(value: str, date: datetime | None = NOON) -> dict[str, str]:
    """Return a response's headers."""
    return {"retry-after": value} | ({"date": format_datetime(date, usegmt=True)} if date else {})


def retry_after(headers: dict[str, str]) -> float | None:
    """Return the seconds that a response with these headers requests to wait."""
    return Response(429, headers).retry_after


def delay(retry: Retry, error: Exception, **state: float) -> float | None:
    """Return the default wait after a first failure."""
    known = {"failures": 1, "attempts": 1, "elapsed": 0.0} | state
    return retry.delay(error, rng=random.Random(7), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(("attempts", "ceiling"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (5_000, 30)])
def test_wait_is_random_below_a_doubling_ceiling(attempts: int, ceiling: float) -> None:
    """Full jitter: the exponential ceiling stops at 30 seconds."""
    rng = random.Random(1)
    waits = [
        Retry().delay(BROKEN, failures=1, attempts=attempts, elapsed=0, rng=rng) or 0.0 for _ in range(500)
    ]
    assert all(0 <= wait <= ceiling for wait in waits)
    assert min(waits) < ceiling * 0.05
    assert max(waits) > ceiling * 0.95


def test_failures_end_at_the_attempt_limit() -> None:
    """The tenth failure is the last."""
    assert delay(Retry(), BROKEN, failures=9, attempts=9) is not None
    assert delay(Retry(), BROKEN, failures=10, attempts=10) is None


def test_no_wait_extends_beyond_the_deadline() -> None:
    """It would end after the deadline, so it is not begun."""
    limited = VoiceOSRateLimitError("429", 429, None, 100.0)
    assert delay(Retry(deadline=200), limited, elapsed=99) is not None
    assert delay(Retry(deadline=200), limited, elapsed=101) is None


def test_permanent_failure_is_not_waited_for() -> None:
    """A wrong token stays wrong."""
    assert delay(Retry(), VoiceOSAuthError("401", 401)) is None


def test_retry_after_is_the_minimum_wait() -> None:
    """Jitter is added, so that workers do not continue at the same time."""
    waits = {
        Retry().delay(
            VoiceOSRateLimitError("429", 429, None, 20.0),
            failures=0,
            attempts=1,
            elapsed=0,
            rng=random.Random(seed),
        )
        for seed in range(20)
    }
    assert all(wait is not None and 20 <= wait <= 21 for wait in waits)
    assert len(waits) == 20


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("999999", 999_999.0), ("9" * 400, float("inf"))],
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    """Any length is accepted; the deadline limits it."""
    assert retry_after(headers(value)) == seconds


def test_excessive_wait_is_rejected_at_once() -> None:
    """It is eleven days or infinite."""
    for seconds in (999_999.0, float("inf")):
        assert delay(Retry(), VoiceOSRateLimitError("429", 429, None, seconds)) is None


def test_retry_after_as_a_date_uses_the_clock_of_the_server() -> None:
    """Both dates come from the server, so an error of the local clock does not matter."""
    for clock_error in (timedelta(0), timedelta(days=4_000), timedelta(days=-4_000)):
        date = NOON + clock_error
        later = format_datetime(date + timedelta(seconds=90), usegmt=True)
        assert retry_after(headers(later, date)) == 90.0


def test_date_in_the_past_is_no_wait() -> None:
    """The retry may start at once."""
    past = format_datetime(NOON - timedelta(hours=1), usegmt=True)
    assert retry_after(headers(past)) == 0.0


def test_date_without_the_clock_of_the_server_uses_the_local_clock() -> None:
    """The response has no `Date`."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 <= (retry_after(headers(soon, None)) or 0) <= 60


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "-5",
        "1.5",
        "１２",
        "soon",
        "2026-11-22T12:00:00Z",
        "Mon, 99 Jan 2024 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +9999",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999",
    ],
)
def test_invalid_retry_after_is_ignored(junk: str) -> None:
    """The backoff decides."""
    assert retry_after(headers(junk)) is None


@given(st.text(), st.text())
def test_any_header_is_a_wait_or_none(value: str, date: str) -> None:
    """No text raises an error."""
    seconds = retry_after({"retry-after": value, "date": date})
    assert seconds is None or seconds >= 0
