"""Windows of a backfill, and the sum of their receipts."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.backfill import combine_receipts, split_interval
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.interval import CalendarPeriod, Interval, isoformat

LONGEST = {"hour": 1, "day": 25, "week": 7 * 24 + 1, "month": 31 * 24 + 1}
"""Hours of the longest window."""

# Lord Howe changes by half an hour, Apia skipped a day, Havana changes at midnight, Kathmandu is 5:45 ahead.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
]
INSTANTS = st.datetimes(datetime(2005, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
HOURS = st.integers(1, 24 * 100)


def parsed(windows: list[dict[str, str]]) -> list[Interval]:
    """Return windows as intervals."""
    return [Interval.parse(window["interval_start"], window["interval_end"]) for window in windows]


def starts(*arguments: Any, **options: Any) -> list[str]:
    """Return the first instant of each window."""
    return [window["interval_start"] for window in split_interval(*arguments, max_windows=5_000, **options)]


@given(
    INSTANTS, HOURS, st.integers(0, 3_599), st.sampled_from(get_args(CalendarPeriod)), st.sampled_from(ZONES)
)
def test_windows_are_adjacent_and_cover_the_interval_exactly(
    start: datetime, hours: int, seconds: int, every: CalendarPeriod, zone: str
) -> None:
    """No window is empty or longer than its unit."""
    end = start + timedelta(hours=hours, seconds=seconds)
    windows = parsed(split_interval(start, end, every=every, timezone=zone, max_windows=5_000))
    assert windows[0].start == start
    assert windows[-1].end == end
    assert all(earlier.end == later.start for earlier, later in pairwise(windows))
    longest = timedelta(hours=LONGEST[every])
    assert all(timedelta(0) < window.end - window.start <= longest for window in windows)


@given(INSTANTS, HOURS, st.sampled_from(get_args(CalendarPeriod)), st.sampled_from(ZONES))
def test_windows_end_at_a_boundary_of_the_calendar(
    start: datetime, hours: int, every: CalendarPeriod, zone: str
) -> None:
    """Each window lies within one hour, day, week or month of the zone."""
    windows = parsed(
        split_interval(start, start + timedelta(hours=hours), every=every, timezone=zone, max_windows=5_000)
    )
    for window in windows[:-1]:
        before = (window.end - timedelta(microseconds=1)).astimezone(ZoneInfo(zone))
        after = window.end.astimezone(ZoneInfo(zone))
        unit = {
            "hour": lambda local: (local.date(), local.hour, local.utcoffset()),
            "day": lambda local: local.date(),
            "week": lambda local: local.isocalendar()[:2],
            "month": lambda local: (local.year, local.month),
        }[every]
        assert unit(before) != unit(after)
        assert unit(window.start.astimezone(ZoneInfo(zone))) == unit(before)


def test_days_are_those_of_the_time_zone() -> None:
    """The days of a clock change have 23 and 25 hours."""
    spring = parsed(split_interval("2026-03-28", "2026-03-31", timezone="Europe/Berlin", max_windows=9))
    autumn = parsed(split_interval("2026-10-24", "2026-10-27", timezone="Europe/Berlin", max_windows=9))
    assert [(day.end - day.start) / timedelta(hours=1) for day in spring] == [24, 23, 24]
    assert [(day.end - day.start) / timedelta(hours=1) for day in autumn] == [24, 25, 24]
    assert spring[0].start == datetime(2026, 3, 27, 23, tzinfo=UTC)


def test_repeated_hour_has_two_windows() -> None:
    """A day of 25 hours has 25 windows."""
    assert len(starts("2026-10-25", "2026-10-26", every="hour", timezone="Europe/Berlin")) == 25


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    """Only the first and the last window may be shorter."""
    assert starts("2026-10-29", "2026-11-10", every="week") == [
        "2026-10-29T00:00:00Z",
        "2026-11-02T00:00:00Z",
        "2026-11-09T00:00:00Z",
    ]
    assert starts(date(2025, 12, 31), date(2026, 3, 2), every="month") == [
        "2025-12-31T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
        "2026-03-01T00:00:00Z",
    ]


def test_there_are_at_most_as_many_windows_as_airflow_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is read when the function is called."""
    assert len(split_interval("2024-01-01", "2026-10-21")) == 1_024
    with pytest.raises(VoiceOSValueError, match=r"more than 1,024 windows of a day.*Choose longer windows"):
        split_interval("2024-01-01", "2026-10-22")
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    assert len(split_interval("2026-01-01", "2026-01-03")) == 2
    with pytest.raises(VoiceOSValueError, match="more than 2 windows"):
        split_interval("2026-01-01", "2026-01-04")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": "year"}, "every 'year' is not one of hour, day, week, month"),
        ({"timezone": "Mars/Base"}, "timezone 'Mars/Base' is unknown"),
        ({"timezone": ""}, "timezone '' is unknown"),
        ({"interval_end": None}, "Set interval_end"),
        ({"interval_end": "2026-10-01"}, "is after interval_end"),
        ({"interval_end": "2026-12-01T00:00:00"}, "has no time zone"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(VoiceOSValueError, match=message):
        split_interval(**{"interval_start": "2026-11-01", "interval_end": "2026-11-03"} | arguments)


def receipt(window: dict[str, str], listed: int = 10) -> dict[str, Any]:
    """Return the receipt of a window, with what both kinds of destinations add."""
    return {
        **window,
        "status": None,
        "listed": listed,
        "exported": listed - 1,
        "pending": 1,
        "pending_ids": ["an id"],
        "lock_wait_seconds": 0.5,
        "arguments": {"max_bad_records": 3},
        "files": [{"table": "conversations", "path": "a", "rows": listed - 1, "bytes": 100, "sha256": "f"}],
        "tables": {"conversations": {"inserted": listed - 1, "updated": 0}},
    }


DAYS = split_interval("2026-11-01", "2026-11-11", max_windows=10)


def test_receipts_add_up() -> None:
    """Their order does not matter; rows of tables and files are added up as well."""
    receipts = [receipt(window, listed) for listed, window in enumerate(DAYS, 10)]
    random.Random(1).shuffle(receipts)
    assert combine_receipts(receipts, windows=DAYS) == {
        "interval_start": "2026-11-01T00:00:00Z",
        "interval_end": "2026-11-11T00:00:00Z",
        "receipts": 10,
        "listed": 145,
        "exported": 135,
        "pending": 10,
        "lock_wait_seconds": 5.0,
        "tables": {"conversations": {"inserted": 135, "updated": 0}},
        "files": {"conversations": {"files": 10, "rows": 135, "bytes": 1_000}},
    }


@given(st.sets(st.integers(0, 9), min_size=1), st.booleans())
def test_a_missing_window_is_a_gap(missing: set[int], is_expected_given: bool) -> None:  # noqa: FBT001
    """Without the expected windows, a missing first or last one is not noticed."""
    receipts = [receipt(window) for number, window in enumerate(DAYS) if number not in missing]
    inner = set(range(min({*range(10)} - missing, default=0), max({*range(10)} - missing, default=0)))
    if is_expected_given or not receipts or missing & inner:
        with pytest.raises(VoiceOSExportError, match=r"No receipt covers|no receipts"):
            combine_receipts(receipts, windows=DAYS if is_expected_given else None)
    else:
        assert combine_receipts(receipts)["receipts"] == len(receipts)


@given(st.integers(0, 9), st.integers(1, 47))
def test_overlap_is_an_error(day: int, hours: int) -> None:
    """A window may contain others."""
    start = datetime.combine(date(2026, 11, 1 + day), time(), UTC)
    end = min(start + timedelta(hours=hours), datetime(2026, 11, 11, tzinfo=UTC))
    again = {"interval_start": isoformat(start), "interval_end": isoformat(end)}
    with pytest.raises(VoiceOSExportError, match="More than one receipt covers"):
        combine_receipts([*map(receipt, DAYS), receipt(again)], windows=DAYS)


def test_problems_are_named_by_their_interval() -> None:
    """All of them, in one error."""
    with pytest.raises(VoiceOSExportError) as caught:
        combine_receipts([receipt(DAYS[0]), receipt(DAYS[0]), receipt(DAYS[2])], windows=DAYS[:2])
    assert str(caught.value) == (
        "No receipt covers [2026-11-02T00:00:00Z, 2026-11-03T00:00:00Z). "
        "More than one receipt covers [2026-11-01T00:00:00Z, 2026-11-02T00:00:00Z). "
        "Receipts cover more than the windows [2026-11-03T00:00:00Z, 2026-11-04T00:00:00Z)."
    )


def test_dags_import_it_without_pandas_pyarrow_or_airflow() -> None:
    """Parsing a DAG stays fast."""
    code = "import sys, voiceos_provider.backfill; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "voiceos_provider.backfill" in loaded
    assert not loaded & {"pandas", "pyarrow", "numpy", "airflow", "pydantic", "httpx"}
