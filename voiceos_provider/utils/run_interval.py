"""The interval of creation time that a task of a DAG run exports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, get_args
from zoneinfo import ZoneInfo

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import CalendarPeriod, Interval, as_duration, is_date, is_missing

_MAP_INDEX_TEMPLATE = (
    "{% if task.interval_start and task.interval_end %}{{ task.interval_start }} to {{ task.interval_end }}"
    "{% else %}{{ task.interval_start or ti.map_index }}{% endif %}"
)
"""Label of a mapped task in Airflow's UI; an empty label would hide the map index."""

_ADVICE = "Set interval_start, for example '2026-11-20' for that UTC day, or interval_start and interval_end."


class IntervalLabelMixin:
    """Mixin of operators with an interval: Airflow shows the intervals of mapped tasks instead of map indices."""

    if not TYPE_CHECKING:  # type checkers know the arguments of the operator's own `partial`

        @classmethod
        def partial(cls, **kwargs: Any) -> Any:
            """Return the operator to be mapped; its `map_index_template` is the interval unless all tasks share one."""
            if "interval_start" not in kwargs:
                kwargs.setdefault("map_index_template", _MAP_INDEX_TEMPLATE)
            return super().partial(**kwargs)


def resolve_interval(
    interval_start: object,
    interval_end: object,
    context: Mapping[str, Any],
    *,
    lookback: timedelta | float = timedelta(0),
    partition_period: CalendarPeriod | None = None,
) -> Interval:
    """Return the interval of a task: as set, else the run's data interval, else the run's partition.

    :param interval_start: as set on the operator and rendered; None, an empty text and ``None`` as text mean not set.
        A date without `interval_end` is that UTC day
    :param interval_end: its exclusive end; the end of the run's own interval if not set
    :param context: the task's context, of any supported Airflow
    :param lookback: how much earlier than the run's own interval to begin; ignored if `interval_start` is set
    :param partition_period: length of the run's partition; by default until the next tick of the DAG's cron, or one day
        if the key is a date
    :raises VoiceOSValueError: if the run has neither data interval nor partition, or a bound is wrong
    """
    if partition_period not in (None, *get_args(CalendarPeriod)):
        raise VoiceOSValueError(
            f"partition_period {partition_period!r} is not one of {', '.join(get_args(CalendarPeriod))}."
        )
    if not is_missing(interval_start) and (is_date(interval_start) or not is_missing(interval_end)):
        return Interval.parse(interval_start, interval_end)
    start, end = _interval_of_run(context, partition_period)
    if is_missing(interval_start):
        interval_start = _earlier(start, as_duration("lookback", lookback)) if start != end else start
    return Interval.parse(interval_start, end if is_missing(interval_end) else interval_end)


def _interval_of_run(
    context: Mapping[str, Any], partition_period: CalendarPeriod | None
) -> tuple[datetime, datetime]:
    # Airflow 3 leaves the keys out, or sets them to None, for a run without a logical date.
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    partition = context.get("partition_key") or getattr(context.get("dag_run"), "partition_key", None)
    # A run that was triggered with a key and a logical date has an empty data interval.
    if start is not None and end is not None and (start != end or not partition):
        return start, end
    if not partition:
        raise VoiceOSValueError(
            f"{_ADVICE} This DAG run has no data interval: Airflow 3 gives none to a run that was triggered "
            "by an asset, or manually without a logical date."
        )
    try:
        return _interval_of_partition(str(partition), context, partition_period)
    except (ValueError, OverflowError):
        raise VoiceOSValueError(
            f"{_ADVICE} The key {partition!r} of this run's partition does not say when the partition begins and ends; "
            "partition_period sets its length if the key is a date-time."
        ) from None


def _interval_of_partition(
    key: str, context: Mapping[str, Any], period: CalendarPeriod | None
) -> tuple[datetime, datetime]:
    timetable: Any = getattr(context.get("dag"), "timetable", None)
    expression, zone = getattr(timetable, "expression", None), _zone_of(timetable)
    # Airflow 3.3 states the start. Airflow 3.2 has only the key, which its cron timetable writes in UTC.
    given = context.get("partition_date")
    start = given or _parse_key(key, getattr(timetable, "key_format", None), UTC if expression else zone)
    start = datetime.fromisoformat(start.isoformat())  # pendulum's arithmetic depends on its own time zones
    if expression and period is None:
        tick, end = _ticks_around(str(expression), timetable.timezone, start)
        if not given and tick != start:  # a key without the time of day
            raise ValueError(key)
        return start, end
    if period is None:
        if not is_date(key) or start.astimezone(zone).replace(tzinfo=None) != datetime.fromisoformat(key):
            raise ValueError(key)
        period = "day"
    return start, _end_of_period(start, period, zone)


def _zone_of(timetable: Any) -> tzinfo:
    """Return the time zone of a timetable's partitions: its own, or that of the mapper of its assets' partitions."""
    mapper = getattr(timetable, "default_partition_mapper", None)
    mapper = getattr(mapper, "upstream_mapper", mapper)
    zone = getattr(timetable, "timezone", None) or getattr(mapper, "_timezone", None)
    return zone if isinstance(zone, tzinfo) else ZoneInfo(zone) if zone else UTC


def _parse_key(key: str, key_format: str | None, zone: tzinfo) -> datetime:
    start = datetime.strptime(key, key_format) if key_format else datetime.fromisoformat(key)  # noqa: DTZ007
    return start if start.tzinfo else datetime.fromisoformat(start.isoformat()).replace(tzinfo=zone)


def _end_of_period(start: datetime, period: CalendarPeriod, zone: tzinfo) -> datetime:
    if period == "hour":
        return start + timedelta(hours=1)
    local = start.astimezone(zone).replace(tzinfo=None)
    if period == "month":
        local = local.replace(year=local.year + local.month // 12, month=local.month % 12 + 1)
    else:
        local += timedelta(days=7 if period == "week" else 1)
    return datetime.combine(local.date(), local.time(), tzinfo=zone)


def _earlier(start: datetime, lookback: timedelta) -> datetime:
    try:
        return start - lookback
    except OverflowError:
        raise VoiceOSValueError(f"lookback {lookback} reaches back beyond the year 1.") from None


def _ticks_around(expression: str, timezone: Any, at: datetime) -> tuple[datetime, datetime]:
    """Return the last tick of a cron schedule up to an instant, and the next, as Airflow counts them on DST days."""
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable

    tick = pendulum.instance(at)
    following = CronDataIntervalTimetable(expression, timezone=timezone).next_dagrun_info(
        last_automated_data_interval=DataInterval(tick.subtract(seconds=1), tick),
        restriction=TimeRestriction(None, None, catchup=True),
    )
    if following is None or following.data_interval is None:
        raise ValueError(f"{expression} has no tick after {at}")
    return following.data_interval.start, following.data_interval.end
