"""Coverage of a target, computed from the receipts of its exports."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.load.coverage import (
    Coverage,
    Day,
    Export,
    Limits,
    compute_coverage,
    days_of,
    exceeded_limits,
)

START = datetime(2026, 9, 7, tzinfo=UTC)  # a Monday
NOW = START + timedelta(days=60)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def receipt(start: datetime, end: datetime, exported: int = 100, **others: Any) -> dict[str, Any]:
    """Return the keys of a receipt that coverage reads."""
    return {
        "target": "s3://bucket/voiceos",
        "interval_start": isoformat(start),
        "interval_end": isoformat(end),
        "exported_at": isoformat(end + HOUR),
        "exported": exported,
        **others,
    }


def daily(*exported: int, **others: Any) -> list[dict[str, Any]]:
    """Return the receipts of consecutive days; a negative number omits the day."""
    return [
        receipt(START + number * DAY, START + (number + 1) * DAY, rows, **others)
        for number, rows in enumerate(exported)
        if rows >= 0
    ]


def covered(receipts: list[dict[str, Any]], **options: Any) -> Coverage:
    """Return the coverage of the only target."""
    (coverage,) = compute_coverage(map(Export.from_receipt, receipts), **{"now": NOW, **options})
    return coverage


def test_consecutive_days_have_no_gap_and_no_overlap() -> None:
    """Their numbers are added up."""
    found = covered(daily(100, 200, 300, pending=1, rejected=2, requests=3, cost=0.25))
    assert (found.gaps, found.overlaps, found.exports, found.rows) == ((), (), 3, 600)
    assert (found.pending, found.rejected, found.requests) == (3, 6, 9)
    assert found.cost == 0.75
    assert [(day.rows, day.cost, day.estimated) for day in found.days] == [
        (100, 0.25, False),
        (200, 0.25, False),
        (300, 0.25, False),
    ]


def test_missing_day_is_a_gap() -> None:
    """The calendar shows it without rows."""
    found = covered(daily(100, -1, 300))
    assert found.gaps == (Interval(START + DAY, START + 2 * DAY),)
    assert found.days[1] == Day(day=date(2026, 9, 8), gap=True)
    assert [day.gap for day in found.days] == [False, True, False]


def test_required_range_adds_gaps_at_its_ends() -> None:
    """Exports outside the range stay."""
    found = covered(daily(100, 200), required=Interval(START - DAY, START + DAY))
    assert found.gaps == (Interval(START - DAY, START),)
    found = covered(daily(100, 200), required=Interval(START + DAY, START + 3 * DAY))
    assert found.gaps == (Interval(START + 2 * DAY, START + 3 * DAY),)


def test_overlapping_intervals_do_not_inflate_a_day() -> None:
    """The rows of a day in several intervals are an estimate."""
    found = covered([*daily(100, 100, 100), receipt(START, START + 3 * DAY, 300)])
    assert found.overlaps == (Interval(START, START + 3 * DAY),)
    assert [(day.rows, day.overlap, day.estimated) for day in found.days] == [(100, True, True)] * 3


def test_latest_of_two_exports_of_an_interval_counts() -> None:
    """They are no overlap, and the order of the receipts does not matter."""
    again = receipt(START, START + DAY, 150, exported_at=isoformat(NOW))
    for receipts in ([*daily(100, 200), again], [again, *daily(100, 200)]):
        found = covered(receipts)
        assert (found.rows, found.overlaps, found.last_exported_at) == (350, (), NOW)


def test_asset_event_dates_the_end_of_an_export() -> None:
    """A receipt holds only its start."""
    export = Export.from_receipt(
        receipt(START, START + DAY), published_at=START + DAY + HOUR + timedelta(minutes=2)
    )
    assert export.seconds == 120


def test_targets_are_separate() -> None:
    """An export to one target fills no gap of another."""
    found = compute_coverage(
        map(Export.from_receipt, [*daily(1, -1, 1), *daily(1, 1, 1, target="postgres://db/calls")]), now=NOW
    )
    assert [(each.target, len(each.gaps)) for each in found] == [
        ("postgres://db/calls", 0),
        ("s3://bucket/voiceos", 1),
    ]


def test_target_is_stale_after_twice_the_length_of_its_last_interval() -> None:
    """`max_age` sets another limit."""
    end = START + 2 * DAY
    for age, stale in ((48 * HOUR, False), (49 * HOUR, True)):
        assert covered(daily(1, 1), now=end + age).stale is stale
    assert covered(daily(1, 1), now=end + 3 * HOUR, max_age=2 * HOUR).stale


def test_day_far_below_its_weekday_is_anomalous() -> None:
    """Three earlier weeks are needed, and weekends are compared with weekends."""
    weeks = [100] * 5 + [30] * 2
    found = covered(daily(*weeks * 3, 49, *[100] * 4, 30, 14))
    assert [(day.day, day.usual) for day in found.anomalies] == [
        (date(2026, 9, 28), 100),
        (date(2026, 10, 4), 30),
    ]
    assert not covered(daily(*weeks * 3, 50, *[100] * 4, 30, 15)).anomalies
    assert not covered(daily(*weeks * 2, 0)).anomalies
    assert not covered(daily(*[19] * 21, 0)).anomalies


def test_day_with_a_gap_is_not_anomalous() -> None:
    """Its rows are incomplete."""
    hours = [receipt(START + 21 * DAY + n * HOUR, START + 21 * DAY + (n + 1) * HOUR, 1) for n in range(20)]
    assert not covered([*daily(*[100] * 21), *hours]).anomalies
    assert covered([*daily(*[100] * 21), receipt(START + 21 * DAY, START + 22 * DAY, 20)]).anomalies


def test_drift_has_its_first_sighting() -> None:
    """The earliest interval counts, in whatever order intervals were exported."""
    receipts = [
        receipt(START + n * DAY, START + (n + 1) * DAY, undocumented_fields={"mood": 2}) for n in (3, 2)
    ]
    receipts.append(receipt(START, START + DAY, undocumented_values={"status": ["paused"]}))
    receipts.append(receipt(START + DAY, START + 2 * DAY, invalid_values={"total_cost": 5}))
    found = [(each.kind, each.name, each.count, each.first_seen) for each in covered(receipts).drift]
    assert found == [
        ("value", "status = paused", 1, START),
        ("type", "total_cost", 5, START + DAY),
        ("field", "mood", 4, START + 2 * DAY),
    ]


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2026-09-06T22:00:00Z", "2026-09-07T22:00:00Z", ["2026-09-07"]),  # a day in Berlin
        ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", ["2026-10-25"]),  # one of 25 hours
        ("2026-09-07T07:00:00Z", "2026-09-08T07:00:00Z", ["2026-09-07"]),  # a day in Los Angeles
        ("2026-09-07T23:00:00Z", "2026-09-08T00:00:00Z", ["2026-09-07"]),
        ("2026-09-07T00:00:00Z", "2026-09-09T00:00:00Z", ["2026-09-07", "2026-09-08"]),
        ("2026-09-06T22:00:00Z", "2026-09-09T22:00:00Z", ["2026-09-07", "2026-09-08", "2026-09-09"]),
        ("2026-09-07T12:00:00Z", "2026-09-09T12:00:00Z", ["2026-09-07", "2026-09-08"]),
    ],
)
def test_interval_belongs_to_the_days_of_its_zone(start: str, end: str, days: list[str]) -> None:
    """The zone is inferred from the bounds."""
    assert [day.isoformat() for day in days_of(Interval.parse(start, end))] == days


def test_json_text_in_a_receipt_is_read() -> None:
    """Asset events of Airflow 2 hold it."""
    plain = receipt(START, START + DAY, files=[{"bytes": 10}], undocumented_fields={"mood": 2})
    text = {
        name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in plain.items()
    }
    assert Export.from_receipt(text) == Export.from_receipt(plain)
    assert Export.from_receipt(text).bytes == 10


@pytest.mark.parametrize("broken", [{}, receipt(START, START + DAY) | {"exported": "many"}, {"target": 1}])
def test_invalid_receipt_is_rejected(broken: dict[str, Any]) -> None:
    """The error is one of the provider."""
    with pytest.raises(VoiceOSValueError, match="not a receipt"):
        Export.from_receipt(broken)


hours = st.integers(0, 24 * 20)
spans = st.lists(st.tuples(hours, st.integers(1, 80), st.integers(0, 500)), min_size=1, max_size=25)


def receipts_of(found: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Return receipts of intervals in whole hours."""
    return [receipt(START + at * HOUR, START + (at + length) * HOUR, rows) for at, length, rows in found]


@given(spans)
def test_each_hour_is_covered_or_in_a_gap(found: list[tuple[int, int, int]]) -> None:
    """Compare with counted hours; an hour in two intervals is in an overlap."""
    intervals = {(at, at + length) for at, length, _ in found}
    counts = Counter(hour for start, end in intervals for hour in range(start, end))
    whole = range(min(counts), max(counts) + 1)

    def as_hours(ranges: tuple[Interval, ...]) -> list[int]:
        return [
            hour
            for each in ranges
            for hour in range(int((each.start - START) / HOUR), int((each.end - START) / HOUR))
        ]

    coverage = covered(receipts_of(found))
    assert as_hours(coverage.gaps) == [hour for hour in whole if not counts[hour]]
    assert as_hours(coverage.overlaps) == [hour for hour in whole if counts[hour] > 1]


@given(spans, st.randoms(use_true_random=False))
def test_order_of_receipts_does_not_matter(found: list[tuple[int, int, int]], rng: random.Random) -> None:
    """Receipts of one interval differ in their time of export."""
    receipts = [
        each | {"exported_at": isoformat(NOW + number * HOUR)}
        for number, each in enumerate(receipts_of(found))
    ]
    shuffled = rng.sample(receipts, len(receipts))
    assert covered(receipts) == covered(shuffled)


@given(st.lists(st.tuples(st.integers(1, 80), st.integers(0, 500)), min_size=1, max_size=25))
def test_rows_of_days_add_up_without_overlaps(lengths: list[tuple[int, int]]) -> None:
    """The range may be split in any way."""
    at, found = 0, []
    for length, rows in lengths:
        found.append((at, length, rows))
        at += length
    coverage = covered(receipts_of(found))
    if not any(day.estimated for day in coverage.days):
        assert sum(day.rows for day in coverage.days) == coverage.rows
    assert not any(day.gap or day.overlap for day in coverage.days)
    following = [day.day for day in coverage.days]
    assert following == [following[0] + n * DAY for n in range(len(following))]


def exceeded(receipts: list[dict[str, Any]], *, last: int | None = None, **limits: float) -> list[str]:
    """Return the days that exceed limits with their reasons, as text."""
    exports = map(Export.from_receipt, receipts)
    return [f"{day}: {reason}" for day, reason in exceeded_limits(exports, Limits.parse(limits), last=last)]


SHARES = {"min_share_of_median": 0.5, "max_share_of_median": 2}
WEEKS = [100] * 21


def test_day_far_from_the_median_of_its_weekday_exceeds_a_limit() -> None:
    """Both directions count, and a day on the limit does not exceed it."""
    for usual in (50, 100, 200):
        assert exceeded(daily(*WEEKS, usual), **SHARES) == []
    low = "2026-09-28: 49 conversations, less than 0.5 times the usual 100"
    assert exceeded(daily(*WEEKS, 49), **SHARES) == [low]
    high = "2026-09-28: 201 conversations, more than 2 times the usual 100"
    assert exceeded(daily(*WEEKS, 201), **SHARES) == [high]
    assert exceeded(daily(*WEEKS, 0)) == []


def test_median_needs_three_complete_days_of_the_weekday() -> None:
    """A partly exported day is neither checked nor part of a median."""
    assert exceeded(daily(*WEEKS[:14], 1), **SHARES) == []
    hours = [receipt(START + 21 * DAY + n * HOUR, START + 21 * DAY + (n + 1) * HOUR, 1) for n in range(24)]
    assert exceeded(daily(*WEEKS) + hours[:22], **SHARES) == []
    assert len(exceeded(daily(*WEEKS) + hours, **SHARES)) == 1
    hours_before = [receipt(START + n * HOUR, START + (n + 1) * HOUR, 5) for n in range(22)]
    assert exceeded(hours_before + daily(-1, *WEEKS[1:], 1), **SHARES) == []


def test_only_days_of_the_latest_exports_are_checked() -> None:
    """Earlier days serve for comparison."""
    receipts = daily(*WEEKS, 10, *WEEKS[:5], 20)
    days = [each[:10] for each in exceeded(receipts, **SHARES)]
    assert days == ["2026-09-28", "2026-10-04"]
    assert [each[:10] for each in exceeded(receipts, last=1, **SHARES)] == ["2026-10-04"]
    assert exceeded(daily(*WEEKS, 10, 100), last=1, **SHARES) == []


@pytest.mark.parametrize(
    ("limit", "within", "beyond", "reason"),
    [
        ({"max_pending_share": 0.2}, {"pending": 25}, {"pending": 26}, "26 of 126 conversations pending"),
        ({"max_rejected": 1}, {"rejected": 1}, {"rejected": 2}, "2 conversations rejected, more than 1"),
        (
            {"max_drift": 1},
            {"undocumented_fields": {"mood": 9}},
            {"undocumented_fields": {"mood": 1}, "undocumented_values": {"status": ["lost"]}},
            "2 cases of schema drift, more than 1: field mood, value status = lost",
        ),
        (
            {"max_cost_per_minute": 0.25},
            {"cost": 2.5, "duration_seconds": 600},
            {"cost": 2.6, "duration_seconds": 600},
            r"\$0.2600 per minute of conversation, more than \$0.25",
        ),
    ],
)
def test_day_beyond_a_limit_is_named_with_the_reason(
    limit: dict[str, float], within: dict[str, Any], beyond: dict[str, Any], reason: str
) -> None:
    """A day on the limit is not reported, and neither is a receipt without the number."""
    assert exceeded([*daily(100), receipt(START + DAY, START + 2 * DAY, **within)], **limit) == []
    (found,) = exceeded([*daily(100, **within), receipt(START + DAY, START + 2 * DAY, **beyond)], **limit)
    assert re.match(f"2026-09-08: {reason}", found)


def test_exports_of_a_day_are_checked_together() -> None:
    """Hours have too few conversations for shares of their own."""
    hours = [receipt(START + n * HOUR, START + (n + 1) * HOUR, 9, pending=n == 3) for n in range(24)]
    assert exceeded(hours, max_pending_share=0.05) == []
    assert exceeded(hours[3:4], max_pending_share=0.05) == [
        "2026-09-07: 1 of 10 conversations pending, more than a share of 0.05"
    ]


def test_unknown_and_negative_limits_are_rejected() -> None:
    """The message names the limit."""
    with pytest.raises(VoiceOSValueError, match="'max_gaps' is not one of min_share_of_median, "):
        Limits.parse({"max_gaps": 1})
    for wrong in (-1, "5", True, None, float("nan")):
        with pytest.raises(VoiceOSValueError, match=r"max_rejected .* is not a number of at least 0"):
            Limits.parse({"max_rejected": wrong})
