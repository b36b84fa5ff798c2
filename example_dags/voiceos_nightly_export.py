"""Every night: yesterday's conversations as Parquet files, one per table, in S3 or wherever `path` says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

with DAG(
    dag_id="voiceos_nightly_export",
    description=__doc__,
    # A plain "@daily" has no data interval in Airflow 3; this timetable gives each run the day before it.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        "path": Param("file:///tmp/voiceos", type="string", description="s3://bucket/voiceos, for example")
    },
    tags=["example", "voiceos"],
):
    VoiceOSToObjectStorageOperator(task_id="export_conversations", path="{{ params.path }}")
