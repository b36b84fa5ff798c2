"""
### Hourly partitions

Writes the conversations of each hour as files, and publishes the folder as an asset with one partition per hour, such
as `2026-11-20T05:00:00`. `voiceos_daily_rollup` runs when the 24 hours of a day are there. Needs Airflow 3.2.

* **Connection**: `voiceos_default`, with the API token in the password field.
* **Backfill**: `airflow backfill create --dag-id voiceos_hourly_partitions --from-date 2026-11-20T00:00:00+00:00
  --to-date 2026-11-20T23:00:00+00:00` exports the 24 hours of a day.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Asset

from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

try:
    from airflow.sdk import CronPartitionTimetable
except ImportError:  # Airflow before 3.2 has no partitions
    CronPartitionTimetable = None

PATH = "file:///tmp/voiceos_partitions"

if CronPartitionTimetable is not None:
    with DAG(
        dag_id="voiceos_hourly_partitions",
        description="Each hour's conversations as Parquet files, and as a partition of an asset",
        doc_md=__doc__,
        # The run at 06:00 gets the partition 05:00, which has just ended. Without run_offset it would get 06:00.
        schedule=CronPartitionTimetable("0 * * * *", timezone="UTC", run_offset=-1),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
        tags=["example", "voiceos"],
    ):
        VoiceOSToObjectStorageOperator(
            task_id="export_conversations",
            path=PATH,
            outlets=[Asset(PATH)],  # its events have the partition key of the run
        )
