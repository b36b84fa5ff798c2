"""When to try again, and after how long."""

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
    """Return the seconds that a response with these headers asks to wait."""
    return Response(429, headers).retry_after


def delay(retry: Retry, error: Exception, **state: float) -> float | None:
    """Return the wait after a first failure, by default."""
    known = {"failures": 1, "attempts": 1, "elapsed": 0.0} | state
    return retry.delay(error, rng=random.Random(7), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(("attempts", "ceiling"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (5_000, 30)])
def test_the_ceiling_doubles_and_the_wait_is_anywhere_below_it(attempts: int, ceiling: float) -> None:
    """Full jitter: from nothing up to an exponential ceiling that stops at 30 seconds."""
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


def test_nothing_begins_after_the_deadline() -> None:
    """A wait that would end after the deadline is not begun."""
    limited = VoiceOSRateLimitError("429", 429, None, 100.0)
    assert delay(Retry(deadline=200), limited, elapsed=99) is not None
    assert delay(Retry(deadline=200), limited, elapsed=101) is None


def test_what_cannot_pass_is_not_waited_for() -> None:
    """A wrong token stays wrong."""
    assert delay(Retry(), VoiceOSAuthError("401", 401)) is None


def test_the_servers_wait_comes_before_ours() -> None:
    """`Retry-After` is a floor, with our jitter on top, so that all workers do not come back at once."""
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
    """Whole seconds are taken as they are; how much is too much, the deadline decides."""
    assert retry_after(headers(value)) == seconds


def test_an_absurd_wait_is_given_up_at_once() -> None:
    """Eleven days are not waited for, nor is for ever."""
    for seconds in (999_999.0, float("inf")):
        assert delay(Retry(), VoiceOSRateLimitError("429", 429, None, seconds)) is None


def test_retry_after_as_a_date_is_held_against_the_servers_own_clock() -> None:
    """Both dates come from the server, so a clock of ours that is wrong by years does not matter."""
    for ours_is_wrong_by in (timedelta(0), timedelta(days=4_000), timedelta(days=-4_000)):
        date = NOON + ours_is_wrong_by
        later = format_datetime(date + timedelta(seconds=90), usegmt=True)
        assert retry_after(headers(later, date)) == 90.0


def test_a_date_in_the_past_is_now() -> None:
    """A moment that has passed asks for no wait."""
    past = format_datetime(NOON - timedelta(hours=1), usegmt=True)
    assert retry_after(headers(past)) == 0.0


def test_a_date_without_the_servers_clock_is_held_against_ours() -> None:
    """If the response has no `Date`, there is only our own clock."""
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
def test_nonsense_counts_as_absent(junk: str) -> None:
    """Then the backoff decides, as if nothing had been sent."""
    assert retry_after(headers(junk)) is None


@given(st.text(), st.text())
def test_no_header_can_break_it(value: str, date: str) -> None:
    """Whatever a server sends there, the response is a wait or none."""
    seconds = retry_after({"retry-after": value, "date": date})
    assert seconds is None or seconds >= 0
