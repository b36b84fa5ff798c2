"""The interval of creation time that a task of a DAG run exports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval, as_duration, is_date, is_missing

_ADVICE = "Set interval_start, for example '2026-11-20' for that UTC day, or interval_start and interval_end."


def resolve_interval(
    interval_start: object,
    interval_end: object,
    context: Mapping[str, Any],
    *,
    lookback: timedelta | float = timedelta(0),
) -> Interval:
    """Return the interval of a task: as set, else the run's data interval, else the run's partition.

    :param interval_start: as set on the operator and rendered; None, an empty text and ``None`` as text mean not set.
        A date without `interval_end` is that UTC day
    :param interval_end: its exclusive end; the end of the run's own interval if not set
    :param context: the task's context, of any supported Airflow
    :param lookback: how much earlier than the run's own interval to begin; ignored if `interval_start` is set
    :raises VoiceOSValueError: if the run has neither data interval nor partition, or a bound is wrong
    """
    if not is_missing(interval_start) and (is_date(interval_start) or not is_missing(interval_end)):
        return Interval.parse(interval_start, interval_end)
    start, end = _interval_of_run(context)
    if is_missing(interval_start):
        interval_start = _earlier(start, as_duration("lookback", lookback)) if start != end else start
    return Interval.parse(interval_start, end if is_missing(interval_end) else interval_end)


def _interval_of_run(context: Mapping[str, Any]) -> tuple[datetime, datetime]:
    # Airflow 3 leaves the keys out, or sets them to None, for a run without a logical date.
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is not None and end is not None:
        return start, end
    partition = context.get("partition_key") or getattr(context.get("dag_run"), "partition_key", None)
    if partition is None:
        raise VoiceOSValueError(
            f"{_ADVICE} This DAG run has no data interval: Airflow 3 gives none to a run that was triggered "
            "by an asset, or manually without a logical date."
        )
    return _interval_of_partition(str(partition), context)


def _interval_of_partition(partition: str, context: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Return the partition that begins at a key; it ends at the next tick of its cron, or is a day."""
    timetable: Any = getattr(context.get("dag"), "timetable", None)
    expression, timezone = getattr(timetable, "expression", None), getattr(timetable, "timezone", None)
    zone = timezone if isinstance(timezone, tzinfo) else ZoneInfo(timezone) if timezone else UTC
    start = context.get("partition_date")  # Airflow 3.3; before, there is only the key
    try:
        if start is None:
            start = _parse_key(partition, getattr(timetable, "key_format", None), zone)
        if expression:
            return start, _next_tick(str(expression), timezone, start)
        day = date.fromisoformat(partition)
        return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    except (ValueError, OverflowError):
        raise VoiceOSValueError(
            f"{_ADVICE} The key {partition!r} of this run's partition does not say when the partition begins and ends."
        ) from None


def _parse_key(partition: str, key_format: str | None, zone: Any) -> datetime:
    if key_format is not None:
        partition = datetime.strptime(partition, key_format).isoformat()  # noqa: DTZ007  may be naive
    start = datetime.fromisoformat(partition)
    return start if start.tzinfo else start.replace(tzinfo=zone)


def _earlier(start: datetime, lookback: timedelta) -> datetime:
    try:
        return start - lookback
    except OverflowError:
        raise VoiceOSValueError(f"lookback {lookback} reaches back beyond the year 1.") from None


def _midnight(day: date, zone: Any) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _next_tick(expression: str, timezone: Any, start: datetime) -> datetime:
    """Return the first tick of a cron schedule after one of its ticks, as Airflow counts them on DST days."""
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable

    tick = pendulum.instance(start)
    following = CronDataIntervalTimetable(expression, timezone=timezone).next_dagrun_info(
        last_automated_data_interval=DataInterval(tick.subtract(seconds=1), tick),
        restriction=TimeRestriction(None, None, catchup=True),
    )
    if following is None or following.data_interval is None:
        raise ValueError(f"{expression} has no tick after {start}")
    return following.data_interval.end
