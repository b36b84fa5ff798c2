"""`voiceos coverage`: which intervals are exported, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.emulator import Emulator
from voiceos_provider.interval import isoformat
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

Day = tuple[datetime, datetime]
HOUR = timedelta(hours=1)


@pytest.fixture
def export(voiceos: Any, served: Emulator, yesterday: Day, tmp_path: Path) -> Callable[[int, int], Any]:
    """Return a function that exports some hours of yesterday to the directory of the test."""
    start, _ = yesterday

    def run(first: int, until: int) -> Any:
        bounds = [isoformat(start + hour * HOUR) for hour in (first, until)]
        arguments = ["export", tmp_path, "--interval-start", bounds[0], "--interval-end", bounds[1]]
        return voiceos(*arguments, "--json").json

    return run


def test_complete_exports_have_no_gap(voiceos: Any, export: Any, yesterday: Day, tmp_path: Path) -> None:
    """The numbers are those of the receipts."""
    receipts = [export(0, 6), export(6, 24)]
    ran = voiceos("coverage", tmp_path, "--json")
    assert ran.code == 0
    assert (ran.json["gaps"], ran.json["overlaps"], ran.json["exports"]) == ([], [], 2)
    for name, key in (("rows", "exported"), ("requests", "requests")):
        assert ran.json[name] == sum(receipt[key] for receipt in receipts) > 0
    assert ran.json["cost"] == pytest.approx(sum(receipt["cost"] for receipt in receipts))
    assert ran.json["bytes"] == sum(file["bytes"] for receipt in receipts for file in receipt["files"])
    assert "conversations" in voiceos("coverage", tmp_path).out


def test_a_gap_is_shown_and_is_exit_code_1(voiceos: Any, export: Any, yesterday: Day, tmp_path: Path) -> None:
    """Between two exports, or at an end of the required range; an overlap is no failure."""
    start, end = yesterday
    gap = {"start": isoformat(start + 6 * HOUR), "end": isoformat(start + 8 * HOUR)}
    export(0, 6)
    export(8, 24)
    ran = voiceos("coverage", tmp_path, "--json")
    assert (ran.code, ran.json["gaps"]) == (1, [gap])
    shown = voiceos("coverage", tmp_path)
    assert shown.code == 1
    assert f"[{gap['start']}, {gap['end']})" in shown.out
    export(5, 9)
    ran = voiceos("coverage", tmp_path, "--json")
    assert (ran.code, ran.json["gaps"], len(ran.json["overlaps"])) == (0, [], 2)
    assert voiceos("coverage", tmp_path, "--interval-start", isoformat(start - HOUR)).code == 1
    assert voiceos("coverage", tmp_path, "--interval-end", isoformat(end + HOUR)).code == 1
    assert voiceos("coverage", tmp_path, "--interval-start", isoformat(start)).code == 0


def test_a_target_may_be_stale(voiceos: Any, export: Any, tmp_path: Path) -> None:
    """After a number of hours."""
    export(0, 24)
    assert voiceos("coverage", tmp_path, "--max-age", 0, "--json").json["stale"]
    assert not voiceos("coverage", tmp_path, "--max-age", 49, "--json").json["stale"]


def test_tables_have_a_coverage_too(
    voiceos: Any, api: Emulator, connect: Callable[..., str], yesterday: Day, tmp_path: Path
) -> None:
    """By the intervals of their rows."""
    start, _ = yesterday
    file = tmp_path / "calls.db"
    connect("calls_db", "sqlite", host=str(file))
    assert voiceos("coverage", "--sql-conn-id", "calls_db").code == 5
    assert not file.exists()
    file.touch()
    assert voiceos("coverage", "--sql-conn-id", "calls_db").code == 2
    loaded = 0
    for hour in (0, 12):
        bounds = start + hour * HOUR, start + (hour + 6) * HOUR
        loaded += VoiceOSToSqlOperator(
            task_id="load", sql_conn_id="calls_db", interval_start=bounds[0], interval_end=bounds[1]
        ).execute({})["exported"]
    ran = voiceos("coverage", "--sql-conn-id", "calls_db", "--json")
    gap = {"start": isoformat(start + 6 * HOUR), "end": isoformat(start + 12 * HOUR)}
    assert (ran.code, ran.json["gaps"], ran.json["rows"]) == (1, [gap], loaded)
    assert ran.json["cost"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "either a PATH or --sql-conn-id"),
        (["/data", "--sql-conn-id", "calls_db"], 2, "either a PATH or --sql-conn-id"),
        (["/nowhere/at/all"], 5, "No export found in /nowhere/at/all"),
        (["--sql-conn-id", "unknown"], 2, "No Airflow connection 'unknown'"),
        (["/data", "--schema", "calls"], 2, "--schema does not apply to files"),
        (
            ["--sql-conn-id", "db", "--storage-conn-id", "v"],
            2,
            "--storage-conn-id does not apply to a database",
        ),
    ],
)
def test_wrong_targets_are_named(voiceos: Any, arguments: list[str], code: int, message: str) -> None:
    """In one line."""
    ran = voiceos("coverage", *arguments)
    assert (ran.code, message in ran.err) == (code, True)


def test_a_file_that_is_not_a_manifest_is_named(voiceos: Any, export: Any, tmp_path: Path) -> None:
    """It is not taken for a gap."""
    manifest = Path(export(0, 24)["manifest"])
    manifest.write_text("[]")
    ran = voiceos("coverage", tmp_path)
    assert ran.code == 5
    assert f"{manifest} is not a manifest" in ran.err
