"""Runs with an asset partition in place of a data interval, and exports that emit partition keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partialmethod
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator
from voiceos_provider.sensors.voiceos import VoiceOSConversationsEndedSensor
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

try:
    import airflow.sdk as airflow_sdk
except ImportError:  # Airflow 2
    airflow_sdk = None  # type: ignore[assignment]

Run = Callable[..., Any]

HAS_PARTITIONS = hasattr(airflow_sdk, "CronPartitionTimetable")
HAS_ROLLUPS = hasattr(airflow_sdk, "RollupMapper")

NEW_YORK = "America/New_York"
SCHEDULES = [
    # cron, time zone, run_offset, start of the first run, then the expected bounds of its partitions in UTC
    ("0 * * * *", "UTC", -1, "2026-11-01T01:00Z", ["2026-11-01T00", "2026-11-01T01", "2026-11-01T02"]),
    ("0 * * * *", "UTC", 0, "2026-11-01T01:00Z", ["2026-11-01T01", "2026-11-01T02", "2026-11-01T03"]),
    ("0 0 * * *", "UTC", -1, "2026-11-01T00:00Z", ["2026-10-31T00", "2026-11-01T00", "2026-11-02T00"]),
    # The clock goes back at 06:00 UTC: the day has 25 hours, and the hour from 01:00 is repeated.
    ("0 0 * * *", NEW_YORK, -1, "2026-11-01T04:00Z", ["2026-10-31T04", "2026-11-01T04", "2026-11-02T05"]),
    ("0 * * * *", NEW_YORK, -1, "2026-11-01T06:00Z", ["2026-11-01T05", "2026-11-01T06", "2026-11-01T07"]),
    ("0 */6 * * *", NEW_YORK, 0, "2026-11-01T04:00Z", ["2026-11-01T04", "2026-11-01T11", "2026-11-01T17"]),
    # The clock goes forward at 07:00 UTC: the day has 23 hours, and there is no 02:00.
    ("0 0 * * *", NEW_YORK, -1, "2026-03-08T05:00Z", ["2026-03-07T05", "2026-03-08T05", "2026-03-09T04"]),
    ("0 * * * *", NEW_YORK, -1, "2026-03-08T07:00Z", ["2026-03-08T06", "2026-03-08T07", "2026-03-08T08"]),
    ("0 */6 * * *", NEW_YORK, 0, "2026-03-08T05:00Z", ["2026-03-08T05", "2026-03-08T10", "2026-03-08T16"]),
]


def partitions_of(timetable: Any, earliest: str) -> Iterator[Any]:
    """Return consecutive runs as the scheduler creates them."""
    import pendulum
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction

    info = None
    restriction = TimeRestriction(pendulum.parse(earliest), None, catchup=True)
    while True:
        info = coerce_to_core_timetable(timetable).next_dagrun_info_v2(
            last_dagrun_info=info, restriction=restriction
        )
        yield info


@pytest.fixture
def run_partition(run_in_airflow: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a DAG for a partition; `dag.test` has no parameter for it."""
    from airflow.serialization.definitions.dag import SerializedDAG

    def run(dag: Any, info: Any) -> Any:
        partition = {"partition_key": info.partition_key, "partition_date": info.partition_date}
        with monkeypatch.context() as patched:
            create = partialmethod(SerializedDAG.create_dagrun, **partition)
            patched.setattr(SerializedDAG, "create_dagrun", create)
            return run_in_airflow(dag, logical_date=None)

    return run


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """Return a world with a conversation every 17 minutes around the partitions of a test."""
    _, _, _, earliest, _ = getattr(request, "param", SCHEDULES[0])
    start = datetime.fromisoformat(earliest) - timedelta(days=1)
    created = [start + n * timedelta(minutes=17) for n in range(300)]
    return World(seed=3, created=created, start=start, end=start + timedelta(days=4))


if HAS_PARTITIONS:

    @pytest.mark.parametrize(
        ("world", "schedule"), [(schedule, schedule) for schedule in SCHEDULES], indirect=["world"]
    )
    def test_run_exports_its_partition(
        run_partition: Run, api: Emulator, world: World, schedule: Any, tmp_path: Path
    ) -> None:
        """Partitions are contiguous in every time zone, and events have the keys of their runs."""
        cron, zone, run_offset, earliest, bounds = schedule
        timetable = airflow_sdk.CronPartitionTimetable(cron, timezone=zone, run_offset=run_offset)
        with DAG(
            dag_id=f"partitions_{SCHEDULES.index(schedule)}",
            schedule=timetable,
            start_date=datetime(2026, 1, 1, tzinfo=UTC),
            catchup=False,
        ) as dag:
            VoiceOSToObjectStorageOperator(
                task_id="export", path=str(tmp_path), outlets=[Asset("file:///partitions")]
            )
        instants = [f"{bound}:00:00Z" for bound in bounds]
        for (start, end), info in zip(pairwise(instants), partitions_of(timetable, earliest), strict=False):
            run = run_partition(dag, info)
            assert run.state == "success"
            receipt = run.get_task_instance("export").xcom_pull(task_ids="export")
            assert (receipt["interval_start"], receipt["interval_end"]) == (start, end)
            interval = [datetime.fromisoformat(instant) for instant in (start, end)]
            expected = world.ids(created_after=interval[0], created_before=interval[1])
            assert receipt["exported"] == len(expected) > 0
            assert events_of(run) == {(info.partition_key, receipt["exported"])}

    def test_all_operators_and_the_sensor_use_the_partition(
        run_partition: Run, api: Emulator, world: World, connect: Callable[..., str], tmp_path: Path
    ) -> None:
        """Default templates render nothing that such a run lacks."""
        connect("warehouse", conn_type="sqlite", host=str(tmp_path / "warehouse.sqlite"))
        timetable = airflow_sdk.CronPartitionTimetable("0 * * * *", timezone="UTC", run_offset=-1)
        with DAG(
            dag_id="all_operators",
            schedule=timetable,
            start_date=datetime(2026, 1, 1, tzinfo=UTC),
            catchup=False,
        ) as dag:
            VoiceOSToObjectStorageOperator(task_id="files", path=str(tmp_path / "files"))
            VoiceOSToSqlOperator(task_id="rows", sql_conn_id="warehouse")
            VoiceOSListConversationsOperator(task_id="list")
            VoiceOSConversationsEndedSensor(task_id="wait", poke_interval=0.1)
        run = run_partition(dag, next(partitions_of(timetable, "2026-11-01T01:00Z")))
        assert run.state == "success"
        returned = {
            task: run.get_task_instance(task).xcom_pull(task_ids=task) for task in ("files", "rows", "wait")
        }
        bounds = {(result["interval_start"], result["interval_end"]) for result in returned.values()}
        assert bounds == {("2026-11-01T00:00:00Z", "2026-11-01T01:00:00Z")}
        hour = datetime(2026, 11, 1, tzinfo=UTC)
        expected = world.ids(created_after=hour, created_before=hour + timedelta(hours=1))
        listed = run.get_task_instance("list").xcom_pull(task_ids="list")
        assert sorted(row["id"] for row in listed) == sorted(expected)
        assert len(expected) == returned["files"]["exported"] == returned["rows"]["exported"] > 0


def events_of(run: Any) -> set[tuple[str | None, int]]:
    """Return the partition key and the number of conversations of each asset event of a run."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        events = session.query(AssetEvent).filter_by(source_run_id=run.run_id, source_dag_id=run.dag_id)
        return {(event.partition_key, event.extra["exported"]) for event in events}


def mapped_hours(path: Path, **arguments: Any) -> DAG:
    """Return a DAG that exports two hours as mapped tasks."""
    hours = [f"2026-11-01T{hour:02}:00:00Z" for hour in range(3)]
    windows = [{"interval_start": start, "interval_end": end} for start, end in pairwise(hours)]
    with DAG(dag_id="mapped_hours", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        VoiceOSToObjectStorageOperator.partial(
            task_id="export", path=str(path), emit_partition_key=True, **arguments
        ).expand_kwargs(windows)
    return dag


def test_each_window_of_a_mapped_task_is_a_partition(
    run_in_airflow: Run, api: Emulator, world: World, tmp_path: Path
) -> None:
    """Its key is the start of the window in UTC. Before Airflow 3.3 the tasks fail on the first attempt."""
    run = run_in_airflow(mapped_hours(tmp_path, outlets=[Asset("file:///mapped_hours")], retries=3))
    if not HAS_ROLLUPS:
        assert {(task.state, task.try_number) for task in run.get_task_instances()} == {("failed", 1)}
        assert api.requests == []
        return
    assert run.state == "success"
    first = datetime(2026, 11, 1, tzinfo=UTC)
    expected = set()
    for start in (first, first + timedelta(hours=1)):
        ids = world.ids(created_after=start, created_before=start + timedelta(hours=1))
        expected.add((f"{start:%Y-%m-%dT%H:%M:%S}", len(ids)))
    own = {event for event in events_of(run) if event[0] is not None}
    assert own == expected
    assert all(exported for _, exported in own)


def test_partition_key_needs_an_asset(run_in_airflow: Run, api: Emulator, tmp_path: Path) -> None:
    """An alias cannot have one, and the tasks fail before any request."""
    run = run_in_airflow(mapped_hours(tmp_path, retries=3))
    assert {(task.state, task.try_number) for task in run.get_task_instances()} == {("failed", 1)}
    assert api.requests == []
