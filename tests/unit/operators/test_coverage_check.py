"""The operator that checks coverage."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from voiceos_provider.emulator import Emulator
from voiceos_provider.operators.voiceos_coverage import VoiceOSCoverageCheckOperator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

Day = tuple[datetime, datetime]
HOUR = timedelta(hours=1)


@pytest.fixture
def export(api: Emulator, yesterday: Day, tmp_path: Path) -> Callable[..., None]:
    """Return a function that exports ranges of hours of yesterday."""
    start, _ = yesterday

    def run(*ranges: tuple[int, int]) -> None:
        for first, until in ranges:
            VoiceOSToObjectStorageOperator(
                task_id="export",
                path=str(tmp_path),
                interval_start=start + first * HOUR,
                interval_end=start + until * HOUR,
            ).execute({})

    return run


def check(**options: Any) -> dict[str, Any]:
    """Run the operator."""
    return VoiceOSCoverageCheckOperator(task_id="check", **options).execute({})


def test_complete_target_passes(export: Callable[..., None], tmp_path: Path) -> None:
    """The result is small, without single days."""
    export((0, 6), (6, 24))
    found = check(path=str(tmp_path))
    assert (found["exports"], found["gaps"], "days" in found) == (2, [], False)


@pytest.mark.parametrize(
    ("ranges", "option", "message"),
    [
        ([(0, 6), (8, 24)], "on_gap", r"1 gaps: \[.*T06:00:00Z, .*T08:00:00Z\)"),
        ([(0, 8), (6, 24)], "on_overlap", r"1 overlaps: \[.*T06:00:00Z, .*T08:00:00Z\)"),
        ([(0, 24)], "on_stale", r"Stale: the last interval ended at"),
    ],
)
def test_finding_fails_or_warns_as_configured(
    export: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    ranges: list[tuple[int, int]],
    option: str,
    message: str,
) -> None:
    """The failure is not retried."""
    export(*ranges)
    others = {"on_gap": "ignore", "on_overlap": "ignore", "on_stale": "ignore"}
    options: dict[str, Any] = {"path": str(tmp_path), "max_age": 0 if option == "on_stale" else None}
    with pytest.raises(AirflowFailException, match=message):
        check(**options, **others | {option: "fail"})
    with caplog.at_level(logging.WARNING):
        check(**options, **others | {option: "warn"})
    assert option.removeprefix("on_")[:3] in caplog.text.lower()
    caplog.clear()
    check(**options, **others)
    # On Airflow 2, the base class warns of an `execute` without a task instance.
    ours = [record for record in caplog.records if record.module == "voiceos_coverage"]
    assert not [record for record in ours if record.levelno >= logging.WARNING]


def test_range_can_be_required(export: Callable[..., None], yesterday: Day, tmp_path: Path) -> None:
    """One of its ends may be omitted."""
    export((0, 24))
    start, end = yesterday
    check(path=str(tmp_path), interval_start=start, interval_end="None")
    with pytest.raises(AirflowFailException, match="1 gaps"):
        check(path=str(tmp_path), interval_start=start - HOUR)
    with pytest.raises(AirflowFailException, match="1 gaps"):
        check(path=str(tmp_path), interval_end=end + HOUR, on_stale="ignore")


def test_tables_can_be_checked(
    api: Emulator, connect: Callable[..., str], yesterday: Day, tmp_path: Path
) -> None:
    """The check uses their connection and prefix."""
    start, end = yesterday
    connect("calls_db", "sqlite", host=str(tmp_path / "calls.db"))
    loaded = VoiceOSToSqlOperator(
        task_id="load", sql_conn_id="calls_db", table_prefix="v_", interval_start=start, interval_end=end
    ).execute({})
    found = check(sql_conn_id="calls_db", table_prefix="v_")
    assert (found["rows"], found["target"]) == (loaded["exported"], loaded["target"])


def test_exceeded_limits_name_day_and_reason(
    export: Callable[..., None], yesterday: Day, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs and durations come from the receipt of the export."""
    export((0, 24))
    start, _ = yesterday
    limits = {"max_cost_per_minute": 0.0001, "max_rejected": 0, "max_drift": 0}
    with pytest.raises(
        AirflowFailException, match=rf"1 limits exceeded: {start.date()}: \$0\.\d+ per minute"
    ):
        check(path=str(tmp_path), limits=limits, last_exports=1)
    with caplog.at_level(logging.WARNING):
        found = check(path=str(tmp_path), limits=limits, on_exceeded="warn")
    (exceeded,) = found["exceeded"]
    assert exceeded["day"] == str(start.date())
    # Long log lines may be wrapped.
    assert exceeded["reason"] in " ".join(caplog.text.split())
    assert check(path=str(tmp_path), limits={"max_cost_per_minute": 10})["exceeded"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Set either path or sql_conn_id"),
        ({"path": "/data", "sql_conn_id": "calls_db"}, "Set either path or sql_conn_id"),
        ({"path": "/data", "on_gap": "explode"}, "on_gap 'explode' is not one of fail, warn, ignore"),
        ({"path": "/data", "limits": {"max_gaps": 1}}, "limits: 'max_gaps' is not one of"),
        ({"path": "/data", "last_exports": 0}, "last_exports 0 is less than 1"),
        ({"path": "/nowhere/at/all"}, "No export found in /nowhere/at/all"),
        ({"path": "relative"}, "is relative"),
        ({"path": "/data", "table_prefix": "v_"}, "table_prefix does not apply to files"),
        ({"sql_conn_id": "db", "storage_conn_id": "v"}, "storage_conn_id does not apply to a database"),
    ],
)
def test_wrong_arguments_are_rejected(options: dict[str, Any], message: str) -> None:
    """The task is not retried."""
    with pytest.raises(AirflowFailException, match=message):
        check(**options)
