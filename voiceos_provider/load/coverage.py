"""Coverage of a target: which intervals are exported, what is missing, and what is unusual.

Computed from receipts alone, as manifests and asset events hold them. `plugins/coverage_page/coverage.js` does the same
arithmetic in the browser; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from statistics import median
from typing import Any, Literal, Self

import msgspec

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval, is_missing, overlaps

ANOMALY_SHARE = 0.5
"""A day is anomalous if it has fewer conversations than this share of the median of the same weekdays before it."""

ANOMALY_WEEKS = 8
"""How many earlier days of the same weekday the median is taken of, at most."""

ANOMALY_MIN_WEEKS = 3
"""How many there must be for a day to be judged."""

ANOMALY_MIN_MEDIAN = 20
"""A smaller median is not judged, because small numbers vary by chance."""

STALE_INTERVALS = 2
"""A target is stale once the time since its last interval exceeds this many lengths of that interval."""

_NAMED = 5
_DAY = timedelta(days=1)
_LONGEST_DAY = timedelta(hours=25)
_SHORTEST_DAY = timedelta(hours=23)
"""A day in a zone with daylight saving time."""

DriftKind = Literal["field", "value", "type"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The export of one interval, as its receipt describes it.

    :param seconds: from the start of the export to its asset event; receipts and manifests do not have it
    :param cost: US dollars, if any conversation has a cost
    :param duration: seconds of the conversations, if the receipt has them
    :param drift: per undocumented field, undocumented value or invalid value, the number of occurrences
    """

    target: str
    interval: Interval
    exported_at: datetime
    rows: int
    pending: int = 0
    carried: int = 0
    abandoned: int = 0
    rejected: int = 0
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cost: float | None = None
    duration: float | None = None
    drift: Mapping[tuple[DriftKind, str], int] = field(default_factory=dict)

    @classmethod
    def from_receipt(cls, receipt: Mapping[str, Any], *, published_at: datetime | None = None) -> Self:
        """Return the export of a receipt; lists and objects may be JSON text, as in asset events of Airflow 2.

        :param published_at: the time of its asset event
        :raises VoiceOSValueError: if it is not a receipt
        """
        try:
            files = _plain(receipt.get("files")) or []
            exported_at = datetime.fromisoformat(receipt["exported_at"]).astimezone(UTC)
            return cls(
                target=str(receipt["target"]),
                interval=Interval.parse(receipt["interval_start"], receipt["interval_end"]),
                exported_at=exported_at,
                rows=int(receipt["exported"]),
                **{name: int(receipt.get(name) or 0) for name in _COUNTS},
                bytes=sum(int(file["bytes"]) for file in files),
                seconds=(published_at - exported_at).total_seconds() if published_at else 0.0,
                cost=None if receipt.get("cost") is None else float(receipt["cost"]),
                duration=None
                if receipt.get("duration_seconds") is None
                else float(receipt["duration_seconds"]),
                drift=_drift(receipt),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise VoiceOSValueError(f"This is not a receipt ({type(error).__name__}: {error}).") from error


_COUNTS = ("pending", "carried", "abandoned", "rejected", "requests")


def _plain(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _drift(receipt: Mapping[str, Any]) -> dict[tuple[DriftKind, str], int]:
    fields: dict[str, int] = _plain(receipt.get("undocumented_fields")) or {}
    types: dict[str, int] = _plain(receipt.get("invalid_values")) or {}
    values: dict[str, list[str]] = _plain(receipt.get("undocumented_values")) or {}
    found: dict[tuple[DriftKind, str], int] = {("field", name): int(count) for name, count in fields.items()}
    found |= {("type", name): int(count) for name, count in types.items()}
    # A receipt does not count these; each interval in which one appears counts as one.
    found |= {("value", f"{name} = {value}"): 1 for name, several in values.items() for value in several}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """An undocumented field, an undocumented value of an enum, or a column with values of another type.

    :param name: path of the field, column and value, or column
    :param count: occurrences; for a value, intervals in which it appears
    :param first_seen: start of the earliest interval in which it appears
    """

    kind: DriftKind
    name: str
    count: int
    first_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day of the calendar, in UTC.

    An interval of at most 25 hours belongs to the day that its middle is in, so that days of any time zone are days
    here. A longer one is spread evenly over the days whose noon is in it.

    :param estimated: the rows are a share of longer intervals, or of intervals that overlap
    :param overlap: a part of the day was exported in two intervals
    :param usual: the median of the same weekdays before, if the day is far below it
    """

    day: date
    rows: float = 0.0
    exports: int = 0
    cost: float | None = None
    estimated: bool = False
    gap: bool = False
    overlap: bool = False
    usual: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Coverage of one target.

    :param interval: from the first covered instant to the last, or the required range if that is larger
    :param exports: intervals exported; of several exports of one interval, the latest counts
    :param gaps: what is missing within the interval
    :param overlaps: what is in two intervals or more
    :param last_exported_at: start of the latest export
    :param covered_until: end of the last interval
    :param stale: the time since `covered_until` is too long
    :param days: every day of the interval
    """

    target: str
    interval: Interval
    exports: int
    rows: int
    gaps: tuple[Interval, ...]
    overlaps: tuple[Interval, ...]
    last_exported_at: datetime
    covered_until: datetime
    stale: bool
    pending: int
    carried: int
    abandoned: int
    rejected: int
    requests: int
    bytes: int
    seconds: float
    cost: float | None
    drift: tuple[Drift, ...]
    days: tuple[Day, ...]

    @property
    def anomalies(self) -> tuple[Day, ...]:
        """The days that are far below the median of their weekday."""
        return tuple(day for day in self.days if day.usual is not None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return document


def compute_coverage(
    exports: Iterable[Export],
    *,
    now: datetime,
    required: Interval | None = None,
    max_age: timedelta | None = None,
) -> list[Coverage]:
    """Return the coverage of each target, in the order of their names.

    :param now: the time against which freshness is measured
    :param required: a range that must be covered, besides what lies between the exports
    :param max_age: a target is stale once its last interval ended longer ago; None for `STALE_INTERVALS`
    """
    targets: dict[str, dict[Interval, Export]] = {}
    for export in sorted(exports, key=lambda export: export.exported_at):
        targets.setdefault(export.target, {})[export.interval] = export
    return [
        _coverage(target, list(found.values()), now=now, required=required, max_age=max_age)
        for target, found in sorted(targets.items())
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for the exports of one day; None is no limit.

    :param min_share_of_median: fewest conversations, relative to the median of up to 8 earlier days of the same
        weekday. Complete days only; there must be 3 of them, with a median of at least 20
    :param max_share_of_median: most conversations, likewise
    :param max_pending_share: pending conversations, relative to pending and exported ones
    :param max_drift: different undocumented fields, undocumented values, and columns with invalid values
    :param max_cost_per_minute: US dollars per minute of conversation
    """

    min_share_of_median: float | None = None
    max_share_of_median: float | None = None
    max_pending_share: float | None = None
    max_rejected: float | None = None
    max_drift: float | None = None
    max_cost_per_minute: float | None = None

    @classmethod
    def parse(cls, limits: Mapping[str, Any]) -> Self:
        """Return limits by their names.

        :raises VoiceOSValueError: if there is no such limit, or one is not a number of at least 0
        """
        known = [each.name for each in fields(cls)]
        for name, limit in limits.items():
            if name not in known:
                raise VoiceOSValueError(f"limits: {name!r} is not one of {', '.join(known)}.")
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
                raise VoiceOSValueError(f"limits: {name} {limit!r} is not a number of at least 0.")
        return cls(**limits)


def exceeded_limits(
    exports: Iterable[Export], limits: Limits, *, last: int | None = None
) -> list[tuple[date, str]]:
    """Return the days on which exports exceed limits, each with the reason, in order.

    An interval counts for the day that its middle is in, or for the first of its days if it is longer than 25 hours.

    :param exports: those of one target; one per interval
    :param last: judge only the days of this many latest intervals; None for all. Earlier ones are compared with
    """
    ordered = sorted(exports, key=lambda export: (export.interval.start, export.interval.end))
    by_day: dict[date, list[Export]] = {}
    for export in ordered:
        by_day.setdefault(days_of(export.interval)[0], []).append(export)
    judged = {days_of(export.interval)[0] for export in (ordered[-last:] if last else ordered)}
    found: list[tuple[date, str]] = []
    volumes: dict[int, list[int]] = {}
    for day, of_day in sorted(by_day.items()):
        earlier = volumes.setdefault(day.weekday(), [])
        rows = sum(export.rows for export in of_day)
        covered = sum((export.interval.end - export.interval.start for export in of_day), timedelta(0))
        is_complete = _SHORTEST_DAY <= covered <= _LONGEST_DAY
        if day in judged:
            usual = _median(earlier[-ANOMALY_WEEKS:]) if is_complete else None
            found += [(day, reason) for reason in _reasons(of_day, rows, usual, limits)]
        if is_complete:
            earlier.append(rows)
    return found


def _reasons(of_day: list[Export], rows: int, usual: float | None, limits: Limits) -> Iterator[str]:
    """Yield why the exports of a day exceed limits.

    :param usual: the median of the same weekdays before, if there is one
    """
    share = rows / usual if usual else None
    low, high = limits.min_share_of_median, limits.max_share_of_median
    if share is not None and low is not None and share < low:
        yield f"{rows:,} conversations, less than {low:g} times the usual {usual:,.0f}"
    if share is not None and high is not None and share > high:
        yield f"{rows:,} conversations, more than {high:g} times the usual {usual:,.0f}"
    pending, rejected = (sum(getattr(export, name) for export in of_day) for name in ("pending", "rejected"))
    most = limits.max_pending_share
    if most is not None and pending > most * (pending + rows):
        yield f"{pending:,} of {pending + rows:,} conversations pending, more than a share of {most:g}"
    if limits.max_rejected is not None and rejected > limits.max_rejected:
        yield f"{rejected:,} conversations rejected, more than {limits.max_rejected:g}"
    drift = sorted({f"{kind} {name}" for export in of_day for kind, name in export.drift})
    if limits.max_drift is not None and len(drift) > limits.max_drift:
        names = ", ".join(drift[:_NAMED]) + (", ..." if len(drift) > _NAMED else "")
        yield f"{len(drift):,} cases of schema drift, more than {limits.max_drift:g}: {names}"
    costs = [(export.cost, export.duration) for export in of_day if export.cost and export.duration]
    minutes = sum(duration for _, duration in costs) / 60
    dearest = limits.max_cost_per_minute
    if costs and dearest is not None and (price := sum(cost for cost, _ in costs) / minutes) > dearest:
        yield f"${price:.4f} per minute of conversation, more than ${dearest:g}"


def required_range(exports: Sequence[Export], start: object, end: object) -> Interval | None:
    """Return the range that must be covered: a bound that is not set is that of the exports; None if neither is set.

    :raises VoiceOSValueError: if a bound is wrong
    """
    if is_missing(start) and is_missing(end):
        return None
    return Interval.parse(
        min(export.interval.start for export in exports) if is_missing(start) else start,
        max(export.interval.end for export in exports) if is_missing(end) else end,
    )


def _coverage(
    target: str, exports: list[Export], *, now: datetime, required: Interval | None, max_age: timedelta | None
) -> Coverage:
    exports = sorted(exports, key=lambda export: (export.interval.start, export.interval.end))
    intervals = [export.interval for export in exports]
    last = max(intervals, key=lambda each: (each.end, each.start))
    whole = Interval(intervals[0].start, last.end)
    if required is not None:
        whole = Interval(min(whole.start, required.start), max(whole.end, required.end))
    if max_age is None:
        max_age = STALE_INTERVALS * (last.end - last.start)
    gaps, overlapping = tuple(whole.without(intervals)), tuple(overlaps(intervals))
    costs = [export.cost for export in exports if export.cost is not None]
    return Coverage(
        target=target,
        interval=whole,
        exports=len(exports),
        rows=sum(export.rows for export in exports),
        gaps=gaps,
        overlaps=overlapping,
        last_exported_at=max(export.exported_at for export in exports),
        covered_until=last.end,
        stale=now - last.end > max_age,
        **{name: sum(getattr(export, name) for export in exports) for name in (*_COUNTS, "bytes")},
        seconds=round(sum(export.seconds for export in exports), 3),
        cost=round(sum(costs), 6) if costs else None,
        drift=_first_seen(exports),
        days=_days(exports, gaps, overlapping),
    )


def _first_seen(exports: list[Export]) -> tuple[Drift, ...]:
    """Return what has drifted; the exports are sorted by their starts."""
    first: dict[tuple[DriftKind, str], datetime] = {}
    counts: dict[tuple[DriftKind, str], int] = {}
    for export in exports:
        for key, count in export.drift.items():
            first.setdefault(key, export.interval.start)
            counts[key] = counts.get(key, 0) + count
    drift = [
        Drift(kind=kind, name=name, count=counts[kind, name], first_seen=at)
        for (kind, name), at in first.items()
    ]
    return tuple(sorted(drift, key=lambda each: (each.first_seen, each.kind, each.name)))


def days_of(interval: Interval) -> list[date]:
    """Return the days in UTC to which an interval belongs: the one of its middle, or those whose noon is in it."""
    length = interval.end - interval.start
    if length <= _LONGEST_DAY:
        return [(interval.start + length / 2).date()]
    noon = datetime.combine(interval.start.date(), time(12), UTC)
    first = noon if noon >= interval.start else noon + _DAY
    return [(first + number * _DAY).date() for number in range(-((first - interval.end) // _DAY))]


def _days(
    exports: list[Export], gaps: tuple[Interval, ...], overlapping: tuple[Interval, ...]
) -> tuple[Day, ...]:
    shares: dict[date, list[tuple[Export, int]]] = {}
    for export in exports:
        belongs_to = days_of(export.interval)
        for day in belongs_to:
            shares.setdefault(day, []).append((export, len(belongs_to)))
    with_gap = {day for gap in gaps for day in days_of(gap)}
    with_overlap = {day for overlap in overlapping for day in days_of(overlap)}
    present = shares.keys() | with_gap | with_overlap
    first = min(present)
    days: list[Day] = []
    volumes: dict[int, list[float]] = {}
    for number in range((max(present) - first).days + 1):
        day = first + timedelta(days=number)
        exported = shares.get(day, [])
        covered = sum(
            ((each.interval.end - each.interval.start) / days_shared for each, days_shared in exported),
            timedelta(0),
        )
        # Where intervals overlap, as with `lookback`, conversations are in several receipts.
        weight = 1.0 if covered <= _LONGEST_DAY else _DAY / covered
        rows = sum(each.rows / days_shared for each, days_shared in exported) * weight
        costs = [each.cost / days_shared for each, days_shared in exported if each.cost is not None]
        estimated = weight < 1 or any(days_shared > 1 for _, days_shared in exported)
        usual = None
        if covered >= _SHORTEST_DAY and not estimated:
            earlier = volumes.setdefault(day.weekday(), [])
            usual = _usual(rows, earlier[-ANOMALY_WEEKS:])
            earlier.append(rows)
        days.append(
            Day(
                day=day,
                rows=round(rows, 3),
                exports=len(exported),
                cost=round(sum(costs) * weight, 6) if costs else None,
                estimated=estimated,
                gap=day in with_gap,
                overlap=day in with_overlap,
                usual=usual,
            )
        )
    return tuple(days)


def _usual(rows: float, earlier: list[float]) -> float | None:
    """Return the median of earlier days if a day is far below it, or None."""
    usual = _median(earlier)
    return usual if usual is not None and rows < ANOMALY_SHARE * usual else None


def _median(earlier: Sequence[float]) -> float | None:
    """Return the median of earlier days, or None if they are too few or too small to judge by."""
    if len(earlier) < ANOMALY_MIN_WEEKS:
        return None
    usual = median(earlier)
    return usual if usual >= ANOMALY_MIN_MEDIAN else None
