"""Runs of every kind in an Airflow of real processes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.real_airflow import RealAirflow
from voiceos_provider.emulator import Emulator, World

ROOT = Path(__file__).parents[2]
NIGHTLY = "voiceos_nightly_export"
FOLLOWING = '''
"""Runs when the nightly export has published its folder: no operator of that DAG declares the asset."""
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

EVENT = "(triggering_asset_events.values() | first | first).extra"

with DAG(
    "following",
    schedule=Asset("file://{exports}"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={{"retries": 3, "emit_asset": False}},
):
    VoiceOSToObjectStorageOperator(
        task_id="of_the_event",
        path="file://{exports}_again",
        interval_start="{{{{ " + EVENT + ".interval_start }}}}",
        interval_end="{{{{ " + EVENT + ".interval_end }}}}",
    )
    VoiceOSToObjectStorageOperator(task_id="of_the_run", path="file://{exports}_never")
'''


@pytest.mark.slow
def test_each_kind_of_run_exports_its_interval(
    world: World, yesterday: tuple[datetime, datetime], tmp_path: Path
) -> None:
    """Runs are scheduled, backfilled, triggered in the command line and web page, or started by an asset event."""
    emulator = Emulator(world)
    exports = tmp_path / "exports"
    day, before = yesterday[0].date().isoformat(), (yesterday[0] - timedelta(days=1)).date().isoformat()
    with emulator.serve() as url, RealAirflow(tmp_path, {"host": url, "password": emulator.token}) as airflow:
        nightly = (ROOT / "example_dags" / f"{NIGHTLY}.py").read_text()
        (airflow.dags / "nightly.py").write_text(
            nightly.replace("/tmp/voiceos", str(exports)).replace("max_active_runs=1", "max_active_runs=9")
        )
        (airflow.dags / "following.py").write_text(FOLLOWING.format(exports=exports))

        def tasks(run_id: str, dag_id: str = NIGHTLY) -> list[Any]:
            columns = "SELECT task_id, state, try_number FROM task_instance"
            return airflow.query(
                f"{columns} WHERE dag_id = ? AND run_id LIKE ? ORDER BY task_id", dag_id, run_id
            )

        done = [("export_conversations", "success", 1)]
        airflow.until(lambda: tasks("scheduled__%") == done)
        airflow.until(lambda: airflow.query("SELECT 1 FROM serialized_dag WHERE dag_id = 'following'"))

        airflow.run("dags", "trigger", NIGHTLY, "--run-id", "cli-day", "--conf", json.dumps({"day": before}))
        airflow.run("dags", "trigger", NIGHTLY, "--run-id", "cli-nothing")
        runs = f"/api/v2/dags/{NIGHTLY}/dagRuns"
        airflow.post(runs, {"logical_date": None, "dag_run_id": "rest-day", "conf": {"day": before}})
        airflow.post(runs, {"logical_date": datetime.now(UTC).isoformat(), "dag_run_id": "rest-logical-date"})
        airflow.run("backfill", "create", "--dag-id", NIGHTLY, "--from-date", before, "--to-date", before)
        for run_id in ("cli-day", "rest-day", "rest-logical-date", "backfill__%"):
            airflow.until(lambda run_id=run_id: tasks(run_id) == done)
        airflow.until(lambda: tasks("cli-nothing") == [("export_conversations", "failed", 1)])
        (log,) = tmp_path.glob("logs/dag_id=*/run_id=cli-nothing/task_id=*/*.log")
        assert "VoiceOSValueError: Set interval_start, for example" in log.read_text()
        assert "XCom not found" not in log.read_text()
        assert airflow.query("SELECT key FROM xcom WHERE run_id = 'cli-nothing' OR key LIKE '_link%'") == []

        followed = {("of_the_event", "success", 1), ("of_the_run", "failed", 1)}
        airflow.until(lambda: set(tasks("%", "following")) == followed)
        events = airflow.query(
            "SELECT a.uri, e.source_run_id, e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id"
        )

    assert {uri for uri, *_ in events} == {f"file://{exports}"}
    extras = {run_id: extra for _, run_id, extra in events}
    starts = {run_id: extra["interval_start"] for run_id, extra in extras.items()}
    assert starts.pop("cli-day") == starts.pop("rest-day") == f"{before}T00:00:00Z"
    assert starts.pop("rest-logical-date") == f"{day}T00:00:00Z"
    assert sorted(starts.values()) == [f"{before}T00:00:00Z", f"{day}T00:00:00Z"]
    expected = len(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert extras["rest-logical-date"]["exported"] == expected > 200
    assert all(
        not {"pending_ids", "unfinished_ids", "resolved_ids"} & set(extra) for extra in extras.values()
    )
    assert list(tmp_path.glob("exports_again/conversations/*.parquet"))
    assert not (tmp_path / "exports_never").exists()
