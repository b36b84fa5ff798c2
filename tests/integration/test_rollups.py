"""Hourly partitions and their daily roll-up in an Airflow of real processes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.real_airflow import RealAirflow
from voiceos_provider.emulator import Emulator, World

ROOT = Path(__file__).parents[2]
HOUR = timedelta(hours=1)
MAPPED = '''
"""The hours of a day as mapped tasks, on an asset of their own, and the DAGs that follow it."""
from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, DayWindow, PartitionedAssetTimetable, RollupMapper, StartOfDayMapper
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

start = datetime(2026, 1, 1, tzinfo=UTC)
hours = Asset("{path}")
whole_day = RollupMapper(upstream_mapper=StartOfDayMapper(), window=DayWindow())

with DAG("mapped", schedule=None, start_date=start):
    VoiceOSToObjectStorageOperator.partial(
        task_id="export", path="{path}", outlets=[hours], emit_partition_key=True
    ).expand_kwargs({windows})

with DAG(
    "mapped_rollup",
    schedule=PartitionedAssetTimetable(assets=hours, default_partition_mapper=whole_day),
    start_date=start,
):
    VoiceOSToObjectStorageOperator(task_id="export_day", path="{path}_day", emit_asset=False)

with DAG("not_by_partitions", schedule=[hours], start_date=start):
    VoiceOSToObjectStorageOperator(task_id="export_again", path="{path}_again")
'''


@pytest.mark.slow
def test_rollup_runs_once_all_24_hours_of_a_day_exist(
    yesterday: tuple[datetime, datetime], tmp_path: Path
) -> None:
    """The counts in the events of backfilled and mapped hours add up to the API's conversations."""
    start, end = yesterday
    world = World(seed=11, conversations=600, start=start - 6 * HOUR, end=end + timedelta(days=1))
    truth = len(world.ids(created_after=start, created_before=end))
    emulator = Emulator(world)
    with emulator.serve() as url, RealAirflow(tmp_path, {"host": url, "password": emulator.token}) as airflow:
        for name in ("voiceos_hourly_partitions", "voiceos_daily_rollup"):
            text = (ROOT / "example_dags" / f"{name}.py").read_text()
            (airflow.dags / f"{name}.py").write_text(text.replace("/tmp/", f"{tmp_path}/"))
        bounds = [(start + n * HOUR).isoformat() for n in range(25)]
        windows = [
            {"interval_start": bounds[n], "interval_end": bounds[n + 1], "visibility_delay": 0}
            for n in range(24)
        ]
        path = f"file://{tmp_path}/mapped"
        (airflow.dags / "mapped.py").write_text(MAPPED.format(path=path, windows=windows))
        airflow.until(lambda: airflow.query("SELECT count(*) FROM serialized_dag") == [(5,)])

        day = f"{start:%Y-%m-%d}"
        bounds_of_keys = ["--from-date", bounds[0], "--to-date", bounds[23]]
        airflow.run("backfill", "create", "--dag-id", "voiceos_hourly_partitions", *bounds_of_keys)
        airflow.run("dags", "trigger", "mapped")

        def finished(dag_id: str) -> bool:
            rows = airflow.query("SELECT state FROM dag_run WHERE dag_id = ?", dag_id)
            return rows == [("success",)]

        airflow.until(lambda: finished("voiceos_daily_rollup") and finished("mapped_rollup"), timeout=900)
        events = airflow.query(
            "SELECT r.dag_id, e.partition_key, e.extra FROM dagrun_asset_event c "
            "JOIN dag_run r ON r.id = c.dag_run_id JOIN asset_event e ON e.id = c.event_id"
        )
        runs = dict(airflow.query("SELECT dag_id, partition_key FROM dag_run WHERE dag_id LIKE '%rollup'"))
        results = dict(
            airflow.query(
                "SELECT task_id, value FROM xcom WHERE key = 'return_value' AND dag_id LIKE '%rollup'"
            )
        )
        assert airflow.query("SELECT run_id FROM dag_run WHERE dag_id = 'not_by_partitions'") == []

    assert truth > 200
    assert runs == {"voiceos_daily_rollup": day, "mapped_rollup": day}
    for dag_id in runs:
        of_dag = {key: extra["exported"] for dag, key, extra in events if dag == dag_id}
        assert sorted(of_dag) == [f"{day}T{hour:02}:00:00" for hour in range(24)]
        assert sum(of_dag.values()) == truth
    assert len(events) == 2 * 24
    assert results["add_up"] == {"day": day, "hours": 24, "exported": truth}
    assert results["export_day"]["exported"] == truth
