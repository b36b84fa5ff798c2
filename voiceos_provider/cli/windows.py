"""Which interval of creation time does a command mean?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.interval import Interval


def chosen(day: str | None, start: str | None, end: str | None, *, now: datetime) -> Interval:
    """The interval that was asked for: a day in UTC, or from one instant to another; yesterday by default.

    :raises VoiceOSValueError: if both were asked for, or one bound is missing or unreadable
    """
    from voiceos_provider.interval import Interval

    if start is None and end is None:
        first = _midnight(day, now)
        return Interval(first, first + timedelta(days=1))
    if day is not None:
        raise VoiceOSValueError("--day is an interval already; leave it out, or both of the bounds.")
    if start is None or end is None:
        raise VoiceOSValueError("--interval-start and --interval-end go together; one of them is missing.")
    return Interval.parse(start, end)


def _midnight(day: str | None, now: datetime) -> datetime:
    if day is None:
        return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise VoiceOSValueError(f"--day {day!r} is not a date; write it like 2026-11-20.") from None
