"""Intervals of creation time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from voiceos_provider.exceptions import VoiceOSValueError

TICK = timedelta(microseconds=1)
"""The finest step of time that a request can name."""

VISIBILITY_DELAY = timedelta(minutes=5)
"""How long after its creation a conversation may be missing from listings; the API does not say (unknown)."""

CalendarPeriod = Literal["hour", "day", "week", "month"]
"""Length of a part of the calendar; days, weeks and months are those of a time zone."""


@dataclass(frozen=True, slots=True)
class Interval:
    """`[start, end)` in UTC: the start belongs to it, the end does not."""

    start: datetime
    end: datetime

    @classmethod
    def parse(cls, start: object, end: object = None) -> Interval:
        """Read two bounds: ISO 8601 text or `datetime` with an offset, or a date, which is its midnight in UTC.

        :param start: the first instant; a date without an end is that whole day in UTC
        :param end: the exclusive end
        :raises VoiceOSValueError: if one is missing, naive or unreadable, or the interval is empty or reversed
        """
        if is_missing(end) and (day := _date(start)) is not None and day < date.max:
            end = day + timedelta(days=1)
        interval = cls(_instant("interval_start", start), _instant("interval_end", end))
        if interval.start == interval.end and is_date(end):
            raise VoiceOSValueError(
                f"interval_start and interval_end are both {end}: an empty interval, since the end is exclusive. "
                "Leave interval_end out to export that day."
            )
        if interval.start == interval.end:
            raise VoiceOSValueError(
                f"interval_start and interval_end are both {isoformat(interval.start)}: an empty interval. "
                "Airflow 3 gives a plain cron schedule such as '@daily' no data interval; "
                "use schedule=CronDataIntervalTimetable('@daily', timezone='UTC'). "
                "A DAG without a schedule has none either; pass interval_start and interval_end yourself."
            )
        if interval.start > interval.end:
            raise VoiceOSValueError(
                f"interval_start {isoformat(interval.start)} is after interval_end {isoformat(interval.end)}; "
                "swap them."
            )
        return interval

    def require_past(self, now: datetime, *, tolerance: timedelta = timedelta(0)) -> None:
        """Raise if the interval has not ended.

        :param tolerance: how far the clock that `now` is read from may be behind
        :raises VoiceOSValueError: if conversations may still be created in it
        """
        if self.end - now > tolerance:
            raise VoiceOSValueError(
                f"interval_end {isoformat(self.end)} is in the future (now {isoformat(now)}): conversations "
                "would still be created in it and an export would miss them. Run after the interval has ended."
            )

    @property
    def label(self) -> str:
        """The interval as a part of a file's name: `20261101T000000Z_20261102T000000Z`."""
        return f"{_compact(self.start)}_{_compact(self.end)}"

    def without(self, others: Iterable[Interval]) -> list[Interval]:
        """Return what remains of the interval without others, in order."""
        left, at = [], self.start
        for other in sorted(others, key=lambda other: other.start):
            if other.start > at:
                left.append(Interval(at, min(other.start, self.end)))
            at = max(at, other.end)
            if at >= self.end:
                return left
        return [*left, Interval(at, self.end)]

    def __str__(self) -> str:
        return f"[{isoformat(self.start)}, {isoformat(self.end)})"


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Return disjoint intervals that cover the same instants, in order."""
    found: list[Interval] = []
    for interval in sorted(intervals, key=lambda interval: interval.start):
        if found and interval.start <= found[-1].end:
            found[-1] = Interval(found[-1].start, max(found[-1].end, interval.end))
        else:
            found.append(interval)
    return found


def overlaps(intervals: Iterable[Interval]) -> list[Interval]:
    """Return what is in at least two of the intervals, in order."""
    found: list[Interval] = []
    end: datetime | None = None
    for interval in sorted(intervals, key=lambda interval: interval.start):
        if end is not None and interval.start < end:
            found.append(Interval(interval.start, min(end, interval.end)))
        end = interval.end if end is None else max(end, interval.end)
    return joined(found)


def isoformat(instant: datetime) -> str:
    """Return RFC 3339 in UTC with a `Z`, the only form that needs no percent-encoding in a query."""
    utc = instant.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds" if utc.microsecond else "seconds") + "Z"


def as_duration(name: str, value: object) -> timedelta:
    """Return a duration that is given as `timedelta` or in seconds.

    :param name: the parameter, for the message
    :raises VoiceOSValueError: if it is neither, or negative
    """
    try:
        if isinstance(value, bool):  # a number in Python, and a mistake here
            raise TypeError
        duration = value if isinstance(value, timedelta) else timedelta(seconds=value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        duration = timedelta(-1)
    if duration < timedelta(0):
        raise VoiceOSValueError(f"{name} {value!r} is not a duration; write seconds, or timedelta(hours=1).")
    return duration


def is_missing(bound: object) -> bool:
    """Return whether a bound is not set: None, or what a template makes of None."""
    return bound is None or (isinstance(bound, str) and bound.strip() in ("", "None"))


def is_date(bound: object) -> bool:
    """Return whether a bound is a date without a time."""
    return _date(bound) is not None


def _date(bound: object) -> date | None:
    if isinstance(bound, date) and not isinstance(bound, datetime):
        return bound
    try:
        return date.fromisoformat(bound.strip()) if isinstance(bound, str) else None
    except ValueError:
        return None


def _instant(name: str, value: object) -> datetime:
    if is_missing(value):
        raise VoiceOSValueError(f"Set {name}; it is empty. Write ISO 8601, such as 2026-11-01T00:00:00Z.")
    if (day := _date(value)) is not None:
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    if isinstance(value, datetime):
        instant = value
    else:
        try:
            instant = datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise VoiceOSValueError(
                f"{name} {value!r} is not a date-time. Write ISO 8601, such as 2026-11-01T00:00:00Z, or 2026-11-01."
            ) from None
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise VoiceOSValueError(
            f"{name} {value!s} has no time zone; add an offset, such as 2026-11-01T00:00:00Z."
        )
    try:
        # Airflow hands over pendulum's datetimes, whose arithmetic drops a zone that is not pendulum's own.
        return datetime.fromisoformat(instant.isoformat()).astimezone(UTC)
    except OverflowError:
        raise VoiceOSValueError(f"{name} {value!s} is outside the years 1 to 9999 in UTC.") from None


def _compact(instant: datetime) -> str:
    return isoformat(instant).replace("-", "").replace(":", "")
