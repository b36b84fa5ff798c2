"""Which stretch of creation time is meant?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from voiceos_provider.exceptions import VoiceOSValueError

TICK = timedelta(microseconds=1)
"""The finest step of time that the API can be asked for."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)

_NO_INTERVAL = (
    "this DAG run has no data interval (a manual or asset-triggered run); "
    "pass interval_start and interval_end yourself"
)


@dataclass(frozen=True, slots=True)
class Interval:
    """`[start, end)` in UTC: the start belongs to it, the end does not."""

    start: datetime
    end: datetime

    @classmethod
    def parse(cls, start: object, end: object) -> Interval:
        """Read two instants as Airflow renders them: ISO 8601 text or `datetime`, with an offset.

        :raises VoiceOSValueError: if one is missing, naive or unreadable, or the interval is empty or reversed
        """
        interval = cls(_instant("interval_start", start), _instant("interval_end", end))
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
        """Refuse an interval that has not ended.

        :param tolerance: how far the clock that says so may be behind
        :raises VoiceOSValueError: if conversations may still be created in it
        """
        if self.end - now > tolerance:
            raise VoiceOSValueError(
                f"interval_end {isoformat(self.end)} is in the future (now {isoformat(now)}): conversations "
                "would still be created in it and an export would miss them. Run after the interval has ended."
            )

    @property
    def created_after(self) -> datetime:
        """The bound to send. One tick early, for the API documents "after" and not whether the instant counts.

        A conversation on the edge is then listed in two intervals at worst, and never in none.
        """
        return max(self.start, _EARLIEST + TICK) - TICK

    @property
    def created_before(self) -> datetime:
        """The bound to send: right if it is exclusive; if not, an edge is listed twice, never lost."""
        return self.end

    @property
    def label(self) -> str:
        """The interval as a part of a file's name: `20261101T000000Z_20261102T000000Z`."""
        return f"{_compact(self.start)}_{_compact(self.end)}"

    def without(self, others: Iterable[Interval]) -> list[Interval]:
        """What is left of it when others are taken away, in order."""
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


def isoformat(instant: datetime) -> str:
    """RFC 3339 in UTC with a `Z`, the only spelling that needs no percent-encoding in a query."""
    utc = instant.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds" if utc.microsecond else "seconds") + "Z"


def as_span(name: str, value: object) -> timedelta:
    """A span of time, as `timedelta` or in seconds.

    :raises VoiceOSValueError: if it is neither, or negative
    """
    try:
        span = value if isinstance(value, timedelta) else timedelta(seconds=value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        span = timedelta(-1)
    if span < timedelta(0):
        raise VoiceOSValueError(f"{name} {value!r} is no span of time; write seconds, or timedelta(hours=1).")
    return span


def _instant(name: str, value: object) -> datetime:
    if value is None or value in ("", "None"):
        raise VoiceOSValueError(f"{name} is empty: {_NO_INTERVAL}.")
    if isinstance(value, datetime):
        instant = value
    else:
        try:
            instant = datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise VoiceOSValueError(
                f"{name} {value!r} is not a date-time; write ISO 8601, such as 2026-11-01T00:00:00Z."
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
