"""Intervals of creation time."""

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import TICK, Interval, isoformat

NOVEMBER_1 = datetime(2026, 11, 1, tzinfo=UTC)
NOVEMBER_2 = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "rendered",
    [
        "2026-11-01T00:00:00Z",
        "2026-11-01T00:00:00+00:00",
        "2026-11-01 00:00:00+00:00",
        "2026-11-01T01:00:00+01:00",
        " 2026-11-01T00:00:00Z\n",
        "20261101T000000Z",
        NOVEMBER_1,
        NOVEMBER_1.astimezone(ZoneInfo("America/Sao_Paulo")),
    ],
)
def test_an_instant_may_be_written_as_airflow_renders_it(rendered: object) -> None:
    """ISO 8601 text with any offset, and `datetime`s of any zone, mean the same instant in UTC."""
    interval = Interval.parse(rendered, NOVEMBER_2)
    assert interval == Interval(NOVEMBER_1, NOVEMBER_2)
    assert interval.start.tzinfo is UTC


@pytest.mark.parametrize("missing", [None, "", "None", " "])
def test_a_missing_bound_is_named(missing: object) -> None:
    """The message begins with the parameter to set."""
    with pytest.raises(VoiceOSValueError, match=r"^Set interval_start; it is empty\. Write ISO 8601"):
        Interval.parse(missing, NOVEMBER_2)
    with pytest.raises(VoiceOSValueError, match=r"^Set interval_end; it is empty"):
        Interval.parse("2026-11-01T00:00:00Z", missing)


@pytest.mark.parametrize("day", ["2026-11-01", " 2026-11-01\n", "20261101", date(2026, 11, 1)])
@pytest.mark.parametrize("missing", [None, "", "None"])
def test_a_date_alone_is_that_day_in_utc(day: object, missing: object) -> None:
    """A date with an end is its midnight, and so is a date that is the end."""
    assert Interval.parse(day, missing) == Interval(NOVEMBER_1, NOVEMBER_2)
    assert Interval.parse(day) == Interval(NOVEMBER_1, NOVEMBER_2)
    assert Interval.parse(day, "2026-11-02") == Interval(NOVEMBER_1, NOVEMBER_2)
    assert Interval.parse(day, "2026-11-01T12:00:00Z").end == NOVEMBER_1 + timedelta(hours=12)


def test_two_equal_dates_say_that_the_end_is_exclusive() -> None:
    """The schedule is not the cause then."""
    with pytest.raises(
        VoiceOSValueError, match=r"both 2026-11-01: .* Leave interval_end out to export that day"
    ):
        Interval.parse("2026-11-01", "2026-11-01")


def test_the_last_day_of_the_calendar_needs_an_end() -> None:
    """There is no raw OverflowError."""
    with pytest.raises(VoiceOSValueError, match=r"^Set interval_end"):
        Interval.parse("9999-12-31")


def test_an_empty_interval_names_the_timetable_that_has_one() -> None:
    """Airflow 3 gives '@daily' an interval of no length; the message names the timetable to use instead."""
    with pytest.raises(VoiceOSValueError, match=r"both 2026-11-01T00:00:00Z.*CronDataIntervalTimetable"):
        Interval.parse(NOVEMBER_1, "2026-11-01T01:00:00+01:00")


def test_a_reversed_interval_is_refused() -> None:
    """Start after end is a mistake, not an empty export."""
    with pytest.raises(
        VoiceOSValueError, match=r"start 2026-11-02T00:00:00Z is after .*end 2026-11-01.*swap"
    ):
        Interval.parse(NOVEMBER_2, NOVEMBER_1)


@pytest.mark.parametrize("naive", ["2026-11-01T00:00:00", datetime(2026, 11, 1)])  # noqa: DTZ001
def test_an_instant_without_an_offset_is_refused(naive: object) -> None:
    """Nothing says in which zone a naive instant is, so it is not guessed."""
    with pytest.raises(
        VoiceOSValueError, match=r"^interval_end 2026-11-01.* has no time zone; add an offset"
    ):
        Interval.parse(NOVEMBER_1, naive)


@pytest.mark.parametrize("junk", ["yesterday", "{{ ds }}", "2026-13-01T00:00:00Z", "2026-13-01", 7, object])
def test_invalid_text_is_rejected_with_an_example(junk: object) -> None:
    """The message repeats the value, and shows a valid one."""
    with pytest.raises(
        VoiceOSValueError, match=r"^interval_start .* is not a date-time\. .*2026-11-01T00:00:00Z"
    ):
        Interval.parse(junk, NOVEMBER_2)


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_an_instant_outside_the_years_of_utc_is_refused(edge: str) -> None:
    """An offset may move an instant out of the years 1 to 9999."""
    with pytest.raises(VoiceOSValueError, match="outside the years 1 to 9999"):
        Interval.parse(edge, NOVEMBER_2)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.datetimes()))
def test_any_value_is_parsed_or_refused_by_name(value: object) -> None:
    """No input raises another error."""
    refusal = "interval_start"
    try:
        assert Interval.parse(value, NOVEMBER_2).end == NOVEMBER_2
    except VoiceOSValueError as error:
        refusal = str(error)
    assert refusal.removeprefix("Set ").startswith("interval_start")


def test_interval_may_start_in_the_year_1() -> None:
    """It may end in the year 9999."""
    interval = Interval.parse("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")
    assert interval.start == datetime.min.replace(tzinfo=UTC)
    assert interval.label == "00010101T000000Z_99991231T235959.999999Z"


def test_the_label_is_a_part_of_a_file_name() -> None:
    """No colons, slashes or plus signs; sorting labels sorts intervals."""
    assert Interval(NOVEMBER_1, NOVEMBER_2).label == "20261101T000000Z_20261102T000000Z"
    assert str(Interval(NOVEMBER_1, NOVEMBER_2)) == "[2026-11-01T00:00:00Z, 2026-11-02T00:00:00Z)"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Europe/Berlin", (2026, 6, 1), 24),
        ("America/Sao_Paulo", (2018, 11, 4), 23),
        ("America/Sao_Paulo", (2018, 2, 17), 25),
    ],
)
def test_a_local_day_may_have_23_or_25_hours(zone: str, day: tuple[int, int, int], hours: int) -> None:
    """Days on which clocks change are read with the offset of each end."""
    start = datetime(*day, tzinfo=ZoneInfo(zone))
    # Wall-clock arithmetic, as a timetable does it; São Paulo's day began at one o'clock when its clocks changed.
    interval = Interval.parse(start, (start + timedelta(days=1)).isoformat())
    assert interval.end - interval.start == timedelta(hours=hours)


def test_consecutive_local_days_leave_no_gap() -> None:
    """Where one day ends the next begins, also while clocks change."""
    zone = ZoneInfo("Europe/Berlin")
    midnights = [datetime(2026, 10, 24, tzinfo=zone) + timedelta(days=n) for n in range(4)]
    days = [Interval.parse(a, b) for a, b in pairwise(midnights)]
    assert [day.end for day in days[:-1]] == [day.start for day in days[1:]]


def test_an_interval_that_has_not_ended_is_refused() -> None:
    """An interval that ends now is accepted; an export of a later one would miss rows."""
    interval = Interval(NOVEMBER_1, NOVEMBER_2)
    interval.require_past(NOVEMBER_2)
    with pytest.raises(VoiceOSValueError, match=r"interval_end .* is in the future .*would miss them"):
        interval.require_past(NOVEMBER_2 - TICK)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])))
def test_isoformat_is_parsed_as_the_same_instant(instant: datetime) -> None:
    """It is RFC 3339 in UTC, ends in Z, and has a fraction only if there is one."""
    try:
        expected = instant.astimezone(UTC)
    except OverflowError:
        return
    written = isoformat(instant)
    assert written.endswith("Z")
    assert "+" not in written
    assert datetime.fromisoformat(written) == expected
    assert ("." in written) == bool(instant.microsecond)
