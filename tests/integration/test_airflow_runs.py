"""DAG runs in Airflow against the emulator on a port."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, conf
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

Day = tuple[datetime, datetime]
Run = Callable[..., Any]

IS_AIRFLOW_3 = Asset.__name__ == "Asset"


def returned(run: Any, task_id: str) -> Any:
    """Return the XCom result of a task."""
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def event_extras_of(run: Any) -> list[Any]:
    """Return the extras of the asset events of a run."""
    from airflow.utils.session import create_session

    try:
        from airflow.models.asset import AssetEvent as Event
    except ImportError:  # Airflow 2
        from airflow.models.dataset import DatasetEvent as Event
    with create_session() as session:
        return [
            event.extra
            for event in session.query(Event).filter_by(source_run_id=run.run_id, source_dag_id=run.dag_id)
        ]


def event_extra_of(run: Any) -> Any:
    """Return the extra of the only asset event of a run."""
    (extra,) = event_extras_of(run)
    return extra


def test_nightly_export_holds_each_conversation_of_the_api_once(
    examples: dict[str, Any], run_in_airflow: Run, api: Emulator, world: World, yesterday: Day, tmp_path: Path
) -> None:
    """Read the files of the example DAG with DuckDB and pandas."""
    run = run_in_airflow(examples["voiceos_nightly_export"], run_conf={"path": f"file://{tmp_path}"})
    assert run.state == "success"
    receipt = returned(run, "export_conversations")
    expected = sorted(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert receipt["exported"] == len(expected) > 200
    rows = duckdb.sql(f"SELECT id FROM '{tmp_path}/conversations/*.parquet' ORDER BY id").fetchall()
    assert [id_ for (id_,) in rows] == expected
    assert sorted(pd.read_parquet(tmp_path / "conversations")["id"]) == expected
    assert json.loads(Path(receipt["manifest"]).read_text()) == receipt


def test_hook_and_operator_list_the_same_conversations(
    examples: dict[str, Any], run_in_airflow: Run, api: Emulator, world: World, yesterday: Day
) -> None:
    """Both tasks of the example DAG see the same ended conversations, and XCom holds no personal data."""
    run = run_in_airflow(examples["voiceos_list_conversations"])
    assert run.state == "success"
    ended = world.ids(
        created_after=yesterday[0], created_before=yesterday[1], status="ended", now=datetime.now(UTC)
    )
    listed = returned(run, "list_ended")
    assert sorted(row["id"] for row in listed) == sorted(ended)
    assert all(set(row) == {"id", "type", "ended_reason", "duration_seconds"} for row in listed)
    assert sum(returned(run, "count_by_reason").values()) == len(ended)
    assert float(returned(run, "total_cost")) > 1


def without_ids(receipt: dict[str, Any]) -> dict[str, Any]:
    """Return what an event's extra holds of a receipt; Airflow 2 stores lists and objects as text."""
    extra = {name: value for name, value in receipt.items() if not name.endswith("_ids")}
    if IS_AIRFLOW_3:
        return extra
    return {
        name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in extra.items()
    }


def test_target_is_an_asset_by_default(
    run_in_airflow: Run, api: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """Its event carries the receipt for downstream DAGs, and the template may hide its path."""
    with DAG(
        dag_id="without_outlet",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        params={"path": "?"},
    ) as dag:
        VoiceOSToObjectStorageOperator(
            task_id="export",
            path="{{ params.path }}",
            interval_start=yesterday[0].date().isoformat(),
        )
    run = run_in_airflow(dag, run_conf={"path": str(tmp_path)})
    assert run.state == "success"
    assert event_extra_of(run) == without_ids(returned(run, "export"))


def test_user_defined_outlet_also_gets_the_receipt(
    run_in_airflow: Run, api: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """An outlet with the same address gets one event; switching the asset off leaves only the user's event."""
    bounds = {"interval_start": yesterday[0].isoformat(), "interval_end": yesterday[1].isoformat()}
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with DAG(dag_id="with_outlet", schedule=None, start_date=start) as same_address:
        VoiceOSToObjectStorageOperator(
            task_id="export", path=str(tmp_path), outlets=[Asset(f"file://{tmp_path}")], **bounds
        )
    with DAG(dag_id="with_outlet_only", schedule=None, start_date=start) as switched_off:
        VoiceOSToObjectStorageOperator(
            task_id="export", path=str(tmp_path), outlets=[Asset("file:///calls")], emit_asset=False, **bounds
        )
    for dag in (same_address, switched_off):
        run = run_in_airflow(dag)
        assert run.state == "success"
        receipt = returned(run, "export")
        assert event_extra_of(run) == {name: receipt[name] for name in receipt if not name.endswith("_ids")}


def test_mapped_export_emits_one_event_per_window(
    run_in_airflow: Run, api: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """Airflow 2 does not see outlets that a mapped operator adds, so it emits none."""
    noon = (yesterday[0] + timedelta(hours=12)).isoformat()
    windows = [
        {"interval_start": yesterday[0].isoformat(), "interval_end": noon},
        {"interval_start": noon, "interval_end": yesterday[1].isoformat()},
    ]
    with DAG(dag_id="mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        VoiceOSToObjectStorageOperator.partial(task_id="export", path=str(tmp_path)).expand_kwargs(windows)
    run = run_in_airflow(dag)
    assert run.state == "success"
    assert len(event_extras_of(run)) == (2 if IS_AIRFLOW_3 else 0)


def test_run_without_logical_date_needs_a_day(
    examples: dict[str, Any], run_in_airflow: Run, api: Emulator, world: World, yesterday: Day, tmp_path: Path
) -> None:
    """The run exports the day in its configuration, or fails on the first attempt. Airflow 2 has no such runs."""
    run = run_in_airflow(
        examples["voiceos_nightly_export"], logical_date=None, run_conf={"path": str(tmp_path)}
    )
    assert run.state == ("failed" if IS_AIRFLOW_3 else "success")
    assert [instance.try_number for instance in run.get_task_instances()] == [1]
    day = {"path": str(tmp_path), "day": yesterday[0].date().isoformat()}
    for dag_id, task_id in (
        ("voiceos_nightly_export", "export_conversations"),
        ("voiceos_list_conversations", "list_ended"),
    ):
        run = run_in_airflow(examples[dag_id], logical_date=None, run_conf=day)
        assert run.state == "success"
        assert returned(run, task_id)


def test_lookback_extends_the_interval_of_the_run(
    examples: dict[str, Any],
    run_in_airflow: Run,
    api: Emulator,
    connect: Callable[..., str],
    yesterday: Day,
    tmp_path: Path,
) -> None:
    """An interval that the user sets is not extended."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "warehouse.sqlite"))
    dag = examples["voiceos_nightly_warehouse"]
    receipt = returned(run_in_airflow(dag), "load_conversations")
    assert receipt["interval_start"] == f"{(yesterday[0] - timedelta(days=2)).date()}T00:00:00Z"
    day = yesterday[0].date().isoformat()
    receipt = returned(run_in_airflow(dag, run_conf={"interval_start": day}), "load_conversations")
    assert receipt["interval_start"] == f"{day}T00:00:00Z"


def test_export_to_s3_uses_the_storage_connection(
    run_in_airflow: Run, api: Emulator, world: World, yesterday: Day, s3_url: str, s3_connection: str
) -> None:
    """The object is written with the credentials of `storage_conn_id`, and reads back complete."""
    import s3fs

    with DAG(
        dag_id="to_s3",
        schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
    ) as dag:
        VoiceOSToObjectStorageOperator(
            task_id="export",
            path="s3://exports/{{ dag.dag_id }}",
            storage_conn_id=s3_connection,
            status="ended",
        )
    run = run_in_airflow(dag)
    assert run.state == "success"
    receipt = returned(run, "export")
    assert receipt["target"] == "s3://exports/to_s3"
    fs = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=s3_url, skip_instance_cache=True)
    with fs.open(receipt["files"][0]["path"]) as data:
        frame = pd.read_parquet(data)
    ended = world.ids(
        created_after=yesterday[0], created_before=yesterday[1], status="ended", now=datetime.now(UTC)
    )
    assert sorted(frame["id"]) == sorted(ended)
    assert fs.find("exports/to_s3") == sorted(
        path.removeprefix("s3://")
        for path in (receipt["manifest"], *(file["path"] for file in receipt["files"]))
    )


def test_task_links_to_its_files(
    run_in_airflow: Run, api: Emulator, yesterday: Day, s3_connection: str
) -> None:
    """Airflow 3 stores the link when the task ends; Airflow 2 computes it for each view."""
    with DAG(dag_id="with_links", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        operator = VoiceOSToObjectStorageOperator(
            task_id="export",
            path="s3://exports/linked",
            storage_conn_id=s3_connection,
            interval_start=yesterday[0].isoformat(),
            interval_end=yesterday[1].isoformat(),
        )
    run = run_in_airflow(dag)
    assert run.state == "success"
    instance = run.get_task_instance("export")
    links = {link.name: link for link in operator.operator_extra_links}
    for name, start in (
        ("Exported files", "https://s3.console.aws.amazon.com/s3/buckets/exports?prefix=linked/"),
        ("Export manifest", "https://s3.console.aws.amazon.com/s3/object/exports?prefix=linked/_manifests/"),
    ):
        link = links[name]
        kept = getattr(link, "xcom_key", None)
        if kept is None:
            shown = link.get_link(operator, ti_key=instance.key)
        else:
            shown = instance.xcom_pull(task_ids="export", key=kept)
        assert shown.startswith(start)


def test_missing_bucket_is_reported_before_the_export_reads(
    api: Emulator, yesterday: Day, s3_connection: str
) -> None:
    """At most one page is read. The error is retryable because the bucket may be created."""
    operator = VoiceOSToObjectStorageOperator(
        task_id="export",
        path="s3://no-such-bucket/voiceos",
        storage_conn_id=s3_connection,
        interval_start=yesterday[0].isoformat(),
        interval_end=yesterday[1].isoformat(),
    )
    with pytest.raises(VoiceOSDestinationError, match="there is no bucket 'no-such-bucket'"):
        operator.execute({})
    # The others are probes, whose bounds leave nothing to list.
    bounds = [(request.query["created_after"], request.query["created_before"]) for request in api.requests]
    assert len([after for after, before in bounds if after < before]) <= 1


def test_plain_cron_of_airflow_3_fails_with_a_hint(
    run_in_airflow: Run, api: Emulator, tmp_path: Path
) -> None:
    """A schedule without a data interval fails on its first attempt. Airflow 2 provides an interval."""
    with DAG(
        dag_id="plain_cron", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False
    ) as dag:
        VoiceOSToObjectStorageOperator(task_id="export", path=str(tmp_path), retries=3)
    run = run_in_airflow(dag)
    has_interval = run.data_interval_start != run.data_interval_end
    assert has_interval == (conf.getboolean("scheduler", "create_cron_data_intervals", fallback=True))
    assert run.state == ("success" if has_interval else "failed")
    assert [instance.try_number for instance in run.get_task_instances()] == [1]
    assert bool(list(tmp_path.iterdir())) == has_interval


def test_interval_that_just_ended_defers_the_task(run_in_airflow: Run, api: Emulator, tmp_path: Path) -> None:
    """The task exports when the triggerer resumes it."""
    resumed = []

    @cache
    def now() -> str:  # evaluated when the task starts
        return datetime.now(UTC).isoformat()

    class Recording(VoiceOSToObjectStorageOperator):
        def execute_readable(self, context: Any, event: Any = None) -> Any:
            resumed.append(event)
            return super().execute_readable(context, event)

    with DAG(
        dag_id="deferred",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        user_defined_macros={"now": now},
    ) as dag:
        Recording(
            task_id="export",
            path=f"file://{tmp_path}",
            interval_start=(datetime.now(UTC) - timedelta(hours=2)).isoformat(),
            interval_end="{{ now() }}",
            visibility_delay=7,
            deferrable=True,
        )
    run = run_in_airflow(dag)
    assert run.state == "success"
    assert returned(run, "export")["exported"] > 0
    assert len(resumed) == 1
    assert datetime.now(UTC) >= datetime.fromisoformat(now()) + timedelta(seconds=7)


def mapped_tasks_of(run: Any, task_id: str) -> dict[int, tuple[Any, str]]:
    """Return the result of each mapped task, and its label in Airflow's UI."""
    instances = [each for each in run.get_task_instances() if each.task_id == task_id]
    return {
        each.map_index: (
            each.xcom_pull(task_ids=task_id, map_indexes=each.map_index),
            str(each.rendered_map_index),
        )
        for each in instances
    }


def test_backfill_exports_each_window_once_and_adds_up_the_receipts(
    examples: dict[str, Any], run_in_airflow: Run, api: Emulator, world: World, yesterday: Day, tmp_path: Path
) -> None:
    """The labels of the example DAG's mapped tasks are intervals instead of map indices."""
    start, end = yesterday[0] - timedelta(days=1), yesterday[1]
    conf = {"path": f"file://{tmp_path}", "from": f"{start:%Y-%m-%d}", "to": f"{end:%Y-%m-%d}"}
    run = run_in_airflow(examples["voiceos_backfill"], run_conf=conf)
    assert run.state == "success"
    expected = sorted(world.ids(created_after=start, created_before=end))
    total = returned(run, "combine")
    assert (total["receipts"], total["exported"]) == (2, len(expected))
    assert total["files"]["conversations"]["rows"] == len(expected) > 500
    rows = duckdb.sql(f"SELECT id FROM '{tmp_path}/conversations/*.parquet' ORDER BY id").fetchall()
    assert [id_ for (id_,) in rows] == expected
    windows = returned(run, "split")
    assert len(windows) == 2
    assert [label for _, (_, label) in sorted(mapped_tasks_of(run, "export_conversations").items())] == [
        f"{window['interval_start']} to {window['interval_end']}" for window in windows
    ]


def test_mapped_tasks_with_one_interval_are_not_labelled_with_it(
    run_in_airflow: Run, api: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """A constant interval and the run's interval give no label; a template of the DAG takes precedence."""
    day = yesterday[0].date().isoformat()
    with DAG(
        dag_id="mapped_over_paths",
        schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
    ) as dag:
        for task_id, options in {
            "constant": {"interval_start": day},
            "of_the_run": {},
            "own": {"map_index_template": "{{ task.path.split('/') | last }}"},
        }.items():
            VoiceOSToObjectStorageOperator.partial(task_id=task_id, **options).expand(
                path=[f"file://{tmp_path}/{task_id}/a", f"file://{tmp_path}/{task_id}/b"]
            )
    run = run_in_airflow(dag)
    assert run.state == "success"
    labels = {
        task_id: [label for _, (_, label) in sorted(mapped_tasks_of(run, task_id).items())]
        for task_id in ("constant", "of_the_run", "own")
    }
    assert labels["constant"] in (
        ["0", "1"],
        ["None", "None"],
    )  # the label of an unlabelled task in each Airflow
    assert labels["of_the_run"] == ["0", "1"]
    assert labels["own"] == ["a", "b"]
