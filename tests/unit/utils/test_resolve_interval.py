"""The interval of a task, from its parameters and its run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest

try:
    import airflow.sdk as airflow_sdk
except ImportError:
    airflow_sdk = None  # type: ignore[assignment]

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval
from voiceos_provider.utils.run_interval import resolve_interval

NOVEMBER_1 = datetime(2026, 11, 1, tzinfo=UTC)
NOVEMBER_2 = datetime(2026, 11, 2, tzinfo=UTC)
DAY = Interval(NOVEMBER_1, NOVEMBER_2)
RUN = {
    "data_interval_start": datetime(2026, 11, 3, tzinfo=UTC),
    "data_interval_end": datetime(2026, 11, 4, tzinfo=UTC),
}
MISSING = [None, "", "None"]

# Airflow before 3.2 has no partitions, and its cron schedules skip one of the two hours.
HOUR_THAT_COMES_TWICE = [("0 * * * *", "America/New_York", "2026-11-01T01:00:00", "2026-11-01T05:00:00Z", 1)]
if not hasattr(airflow_sdk, "CronPartitionTimetable"):
    HOUR_THAT_COMES_TWICE.clear()


@pytest.mark.parametrize("context", [RUN, {}])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-11-01", None),
        ("2026-11-01", "2026-11-02"),
        (NOVEMBER_1, NOVEMBER_2),
        (str(NOVEMBER_1), "2026-11-02"),
    ],
)
def test_parameters_take_precedence(context: dict[str, Any], start: object, end: object) -> None:
    """The run's interval and `lookback` do not matter then."""
    assert resolve_interval(start, end, context) == DAY
    assert resolve_interval(start, end, context, lookback=timedelta(days=3)) == DAY


@pytest.mark.parametrize("missing", MISSING)
def test_data_interval_is_the_default(missing: object) -> None:
    """An empty optional Param renders to an empty text or `None`."""
    assert resolve_interval(missing, missing, RUN) == Interval(*RUN.values())


def test_one_bound_may_be_set() -> None:
    """The other is that of the run."""
    assert resolve_interval("2026-11-01T00:00:00Z", None, RUN) == Interval(
        NOVEMBER_1, RUN["data_interval_end"]
    )
    end = datetime(2026, 11, 3, 12, tzinfo=UTC)
    assert resolve_interval(None, end, RUN) == Interval(RUN["data_interval_start"], end)


def test_lookback_starts_before_the_interval_of_the_run() -> None:
    """It is in seconds or a timedelta, and not negative."""
    assert resolve_interval(None, None, RUN, lookback=timedelta(days=2)).start == NOVEMBER_1
    assert resolve_interval(None, None, RUN, lookback=172_800).start == NOVEMBER_1
    with pytest.raises(VoiceOSValueError, match="lookback"):
        resolve_interval(None, None, RUN, lookback=-1)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"data_interval_start": None, "data_interval_end": None},
        {"dag_run": SimpleNamespace(partition_key=None)},
    ],
)
@pytest.mark.parametrize(
    ("start", "end"), [*zip(MISSING, MISSING, strict=True), ("2026-11-01T00:00:00Z", None)]
)
def test_run_without_an_interval_names_the_parameter_to_set(
    context: dict[str, Any], start: object, end: object
) -> None:
    """The remedy comes first, and the error is not retryable."""
    with pytest.raises(
        VoiceOSValueError, match=r"^Set interval_start, for example '2026-11-20'.* no data interval"
    ) as e:
        resolve_interval(start, end, context)
    assert not e.value.retryable


def test_lookback_beyond_the_first_year_is_rejected() -> None:
    """The calendar starts with the year 1."""
    with pytest.raises(VoiceOSValueError, match="beyond the year 1"):
        resolve_interval(None, None, RUN, lookback=timedelta(days=999_999))


def test_lookback_does_not_hide_an_empty_interval() -> None:
    """A plain cron of Airflow 3 has one, and `lookback` alone would miss later conversations."""
    plain = dict.fromkeys(RUN, NOVEMBER_2)
    with pytest.raises(VoiceOSValueError, match="CronDataIntervalTimetable"):
        resolve_interval(None, None, plain, lookback=timedelta(days=1))


def partition_run(
    cron: str | None,
    timezone: Any,
    key: str,
    start: datetime | None = None,
    key_format: str = "%Y-%m-%dT%H:%M:%S",
    mapper: Any = None,
) -> dict[str, Any]:
    """Return the context of a run with a partition: of a cron, or of the assets that a mapper groups."""
    timetable = SimpleNamespace(expression=cron, timezone=timezone, key_format=key_format)
    if cron is None:
        timetable = SimpleNamespace(asset_condition=None, default_partition_mapper=mapper)
    run = SimpleNamespace(partition_key=key)
    of_3_3 = {"partition_key": key, "partition_date": start} if start else {}
    return {"dag_run": run, "dag": SimpleNamespace(timetable=timetable), **of_3_3}


@pytest.mark.parametrize(
    ("cron", "zone", "key", "start", "hours"),
    [
        ("0 * * * *", "UTC", "2026-11-01T05:00:00", "2026-11-01T05:00:00Z", 1),
        ("0 0 * * *", "UTC", "2026-11-01T00:00:00", "2026-11-01T00:00:00Z", 24),
        ("0 0 1 * *", "UTC", "2026-11-01T00:00:00", "2026-11-01T00:00:00Z", 30 * 24),
        ("0 0 * * *", "America/New_York", "2026-10-31T00:00:00", "2026-10-31T04:00:00Z", 24),
        ("0 0 * * *", "America/New_York", "2026-11-01T00:00:00", "2026-11-01T04:00:00Z", 25),
        ("0 0 * * *", "America/New_York", "2026-03-08T00:00:00", "2026-03-08T05:00:00Z", 23),
        ("0 */6 * * *", "America/New_York", "2026-11-01T00:00:00", "2026-11-01T04:00:00Z", 7),
        *HOUR_THAT_COMES_TWICE,
    ],
)
@pytest.mark.parametrize("of_3_3", [True, False])
def test_partition_ends_at_the_next_tick(
    cron: str, zone: str, key: str, start: str, hours: int, *, of_3_3: bool
) -> None:
    """Airflow 3.3 gives its start, and Airflow 3.2 a key in UTC. DST changes its length."""
    begins = datetime.fromisoformat(start)
    context = partition_run(cron, zone, key, begins)
    if not of_3_3:
        context = partition_run(cron, zone, f"{begins:%Y-%m-%dT%H:%M:%S}")
    assert resolve_interval(None, None, context) == Interval(begins, begins + timedelta(hours=hours))


@pytest.mark.parametrize(
    "timezone", [pendulum.timezone("America/New_York"), pendulum.FixedTimezone(-14_400), "America/New_York"]
)
@pytest.mark.parametrize("period", [None, "day"])
def test_partition_is_in_the_time_zone_of_its_timetable(timezone: Any, period: Any) -> None:
    """Airflow uses zones of pendulum; one with a fixed offset has no name."""
    begins = datetime.fromisoformat("2026-10-31T04:00:00Z")
    context = partition_run("0 0 * * *", timezone, "2026-10-31T00:00:00", begins)
    expected = Interval(begins, begins + timedelta(days=1))
    assert resolve_interval(None, None, context, partition_period=period) == expected


def test_partition_with_a_date_is_that_day() -> None:
    """A DAG scheduled by partitions of an asset has no cron."""
    assert resolve_interval(None, None, partition_run(None, "UTC", "2026-11-01")) == DAY


@pytest.mark.parametrize("rolled_up", [True, False])
@pytest.mark.parametrize("of_3_3", [True, False])
def test_day_is_in_the_time_zone_of_the_mapper(*, rolled_up: bool, of_3_3: bool) -> None:
    """The mapper of a roll-up is nested; a day of a clock change has 25 hours."""
    begins = datetime.fromisoformat("2026-11-01T04:00:00Z")
    mapper = SimpleNamespace(_timezone=pendulum.timezone("America/New_York"))
    if rolled_up:
        mapper = SimpleNamespace(upstream_mapper=mapper)
    context = partition_run(None, None, "2026-11-01", begins if of_3_3 else None, mapper=mapper)
    assert resolve_interval(None, None, context) == Interval(begins, begins + timedelta(hours=25))


@pytest.mark.parametrize(
    ("period", "key", "end"),
    [
        ("hour", "2026-11-01T05:00:00", "2026-11-01T06:00:00Z"),
        ("day", "2026-11-01T05:00:00", "2026-11-02T05:00:00Z"),
        ("week", "2026-10-26T00:00:00", "2026-11-02T00:00:00Z"),
        ("month", "2026-02-01", "2026-03-01T00:00:00Z"),
        ("month", "2026-12-01T00:00:00", "2027-01-01T00:00:00Z"),
    ],
)
def test_length_of_a_partition_can_be_set(period: Any, key: str, end: str) -> None:
    """Some keys do not determine it."""
    begins = datetime.fromisoformat(key).replace(tzinfo=UTC)
    expected = Interval(begins, datetime.fromisoformat(end))
    context = partition_run(None, None, key)
    assert resolve_interval(None, None, context, partition_period=period) == expected
    named = partition_run(None, None, f"{begins:%G-W%V}", begins)
    assert resolve_interval(None, None, named, partition_period=period) == expected


def test_unknown_length_is_rejected() -> None:
    """This holds even if the run does not need it."""
    with pytest.raises(
        VoiceOSValueError, match="partition_period 'year' is not one of hour, day, week, month"
    ):
        resolve_interval("2026-11-01", None, {}, partition_period="year")  # type: ignore[arg-type]


def test_empty_data_interval_does_not_hide_the_partition() -> None:
    """A run triggered with a key and a logical date has one."""
    context = partition_run("0 0 * * *", "UTC", "2026-11-01T00:00:00", NOVEMBER_1)
    empty = dict.fromkeys(RUN, datetime(2026, 11, 9, tzinfo=UTC))
    assert resolve_interval(None, None, context | empty) == DAY


@pytest.mark.parametrize(
    "context",
    [
        partition_run(None, None, "europe"),
        partition_run(None, None, "2026-11-01T05:00:00"),
        partition_run(None, None, "9999-12-31"),
        # The start of a day in an unknown time zone.
        partition_run(None, None, "2026-11-01", datetime(2026, 11, 1, 4, tzinfo=UTC)),
        # A key of Airflow 3.2 without its time of day, which is 04:00 in UTC.
        partition_run("0 0 * * *", "America/New_York", "2026-11-01", key_format="%Y-%m-%d"),
    ],
)
def test_partition_without_bounds_is_rejected(context: dict[str, Any]) -> None:
    """No length is guessed."""
    with pytest.raises(VoiceOSValueError, match=r"^Set interval_start.*of this run's partition does not say"):
        resolve_interval(None, None, context)
