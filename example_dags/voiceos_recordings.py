"""
### Recordings of the previous day

Downloads the recordings of the previous UTC day's calls to object storage or a local folder, and lists them in the
table `conversation_recordings`. Recordings are voices: restrict who can read `path`, and let the store delete old ones.

* **Connection**: `voiceos_default`, with the API token in the password field.
* **Trigger**: choose a `day`, or leave it empty for the data interval of the run.
* A retry or a second run of one day downloads only what is missing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_recordings_to_object_storage import (
    VoiceOSRecordingsToObjectStorageOperator,
)

with DAG(
    dag_id="voiceos_recordings",
    description="Yesterday's recordings as audio files",
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
    VoiceOSRecordingsToObjectStorageOperator(
        task_id="export_recordings",
        path="{{ params.path }}",
        interval_start="{{ params.day }}",
        status="ended",
        min_duration=timedelta(seconds=30),
    )
