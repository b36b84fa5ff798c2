"""Windows for mapped tasks that export a long range, and the sum of their receipts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from itertools import islice
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.interval import CalendarPeriod, Interval, is_date, isoformat, overlaps

_SHOWN = 5


def split_interval(
    interval_start: str | date,
    interval_end: str | date,
    *,
    every: CalendarPeriod = "day",
    timezone: str = "UTC",
    max_windows: int | None = None,
) -> list[dict[str, str]]:
    """Return adjacent windows that cover an interval exactly, as arguments of `expand_kwargs`.

    Windows begin and end at hours, days, weeks or months of the time zone, so that overlapping backfills have the same
    windows. Only the first and the last one may be shorter. On the days of a clock change, a day has 23 or 25 hours.

    :param interval_start: first instant, ISO 8601 with an offset; a date is its midnight in `timezone`
    :param interval_end: exclusive end
    :param every: length of a window: ``hour``, ``day``, ``week`` (from Monday) or ``month``
    :param timezone: IANA name of the time zone of the calendar
    :param max_windows: largest number of windows; None for Airflow's ``[core] max_map_length``
    :return: ``interval_start`` and ``interval_end`` of each window, in UTC
    :raises VoiceOSValueError: if an argument is wrong, or there would be more windows

    >>> split_interval("2026-10-15", "2026-11-02", every="month", max_windows=10)
    [{'interval_start': '2026-10-15T00:00:00Z', 'interval_end': '2026-11-01T00:00:00Z'},
     {'interval_start': '2026-11-01T00:00:00Z', 'interval_end': '2026-11-02T00:00:00Z'}]
    """
    if every not in get_args(CalendarPeriod):
        raise VoiceOSValueError(f"every {every!r} is not one of {', '.join(get_args(CalendarPeriod))}.")
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise VoiceOSValueError(
            f"timezone {timezone!r} is unknown; write one such as Europe/Berlin."
        ) from None
    interval = Interval.parse(_in_zone(interval_start, zone), _in_zone(interval_end, zone))
    limit = _max_map_length() if max_windows is None else max_windows
    windows = list(islice(_windows(interval, every, zone), limit + 1))
    if len(windows) > limit:
        raise VoiceOSValueError(
            f"{interval} has more than {limit:,} windows of a {every}, the largest number of mapped tasks. "
            "Choose longer windows or a shorter interval, or raise [core] max_map_length."
        )
    return [
        {"interval_start": isoformat(window.start), "interval_end": isoformat(window.end)}
        for window in windows
    ]


def combine_receipts(
    receipts: Iterable[Mapping[str, Any]], *, windows: Iterable[Mapping[str, str]] | None = None
) -> dict[str, Any]:
    """Return the sum of receipts, after checking that their intervals neither overlap nor leave a gap.

    :param receipts: what the exporting tasks returned, in any order
    :param windows: what `split_interval` returned; a missing first or last window is noticed only with it
    :return: ``interval_start``, ``interval_end``, ``receipts`` (their number), each counter as a sum, ``tables``
        with the changed rows of each database table, and ``files`` with number, rows and bytes of each table's files
    :raises VoiceOSExportError: if there is a gap or an overlap, or there are no receipts
    """
    receipts = [receipt for receipt in receipts if receipt]
    intervals = sorted(map(_interval_of, receipts), key=lambda interval: (interval.start, interval.end))
    expected = sorted(map(_interval_of, windows), key=lambda window: window.start) if windows else intervals
    if not expected:
        raise VoiceOSExportError("There are no receipts to combine; has any window been exported?")
    whole = Interval(expected[0].start, max(window.end for window in expected))
    gaps = whole.without(intervals)
    outside = [other for interval in intervals for other in interval.without([whole])]
    problems = {
        "No receipt covers": gaps,
        "More than one receipt covers": overlaps(intervals),
        "Receipts cover more than the windows": outside,
    }
    if any(problems.values()):
        raise VoiceOSExportError(
            " ".join(f"{what} {_list(found)}." for what, found in problems.items() if found)
        )
    total: dict[str, Any] = {
        "interval_start": isoformat(whole.start),
        "interval_end": isoformat(whole.end),
        "receipts": len(receipts),
    }
    tables: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for receipt in receipts:
        _add_numbers(total, receipt)
        for name, rows in (receipt.get("tables") or {}).items():
            _add_numbers(tables.setdefault(name, {}), rows)
        for file in receipt.get("files") or ():
            _add_numbers(files.setdefault(file["table"], {}), {"files": 1} | dict(file))
    return total | {"tables": tables, "files": files}


def _windows(interval: Interval, every: CalendarPeriod, zone: tzinfo) -> Iterator[Interval]:
    start = interval.start
    while start < interval.end:
        end = min(_next_boundary(start, every, zone), interval.end)
        yield Interval(start, end)
        start = end


def _next_boundary(instant: datetime, every: CalendarPeriod, zone: tzinfo) -> datetime:
    """Return the first begin of an hour, day, week or month after an instant, in UTC."""
    local = instant.astimezone(zone)
    if every == "hour":
        begun = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return instant + timedelta(hours=1) - begun
    day, boundary = local.date(), instant
    while boundary <= instant:  # a zone that changes sides of the date line skips a day
        day = _next_day(day, every)
        boundary = datetime.combine(day, time(), zone).astimezone(instant.tzinfo)
    return boundary


def _next_day(day: date, every: CalendarPeriod) -> date:
    """Return the first day of the next day, week or month."""
    if every == "month":
        return (day.replace(day=1) + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=7 - day.weekday() if every == "week" else 1)


def _in_zone(bound: object, zone: tzinfo) -> object:
    if not is_date(bound):
        return bound
    return datetime.combine(date.fromisoformat(str(bound).strip()), time(), zone)


def _max_map_length() -> int:
    from airflow.providers.common.compat.sdk import conf

    return int(conf.getint("core", "max_map_length", fallback=1024))


def _interval_of(receipt: Mapping[str, Any]) -> Interval:
    return Interval.parse(receipt["interval_start"], receipt["interval_end"])


def _add_numbers(total: dict[str, Any], numbers: Mapping[str, Any]) -> None:
    for name, value in numbers.items():
        if isinstance(value, int | float):
            total[name] = total.get(name, 0) + value


def _list(intervals: list[Interval]) -> str:
    shown = ", ".join(map(str, intervals[:_SHOWN]))
    return shown if len(intervals) <= _SHOWN else f"{shown} and {len(intervals) - _SHOWN:,} more"
