"""
### Nightly export to files

Writes the conversations of the previous UTC day as Parquet files, one folder per table, to object storage or a local
folder, and publishes `path` as an asset.

* **Connection**: `voiceos_default`, with the API token in the password field.
* **Trigger**: choose a `day`, or leave it empty for the data interval of the run. From the command line:
  `airflow dags trigger voiceos_nightly_export --conf '{"day": "2026-11-20"}'`.
* A retry, a cleared task or a second run of one day replaces the files of that day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

with DAG(
    dag_id="voiceos_nightly_export",
    description="Yesterday's conversations as Parquet files",
    doc_md=__doc__,
    # A plain "@daily" has no data interval in Airflow 3; this timetable gives each run the day before it.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        "path": Param("file:///tmp/voiceos", type="string", description="For example s3://bucket/voiceos"),
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="UTC day to export; empty for the data interval of the run",
        ),
    },
    tags=["example", "voiceos"],
):
    VoiceOSToObjectStorageOperator(
        task_id="export_conversations",
        path="{{ params.path }}",
        interval_start="{{ params.day }}",
    )
