"""
### Wait, then export

Every hour: waits until the calls of the hour have ended, writes them as files, merges them into a database, and logs
the calls that had not ended in time.

* **Connections**: `voiceos_default` for the API, and the one named by `sql_conn_id` for the database.
* **Trigger**: set `interval_start` and `interval_end` (dates or date-times) for another interval, or leave them empty
  for the data interval of the run.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.sensors.voiceos import VoiceOSConversationsEndedSensor
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

log = logging.getLogger(__name__)

with DAG(
    dag_id="voiceos_wait_then_export",
    description="Files and rows of an hour, once its calls have ended",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        "path": Param(
            "file:///tmp/voiceos_hourly", type="string", description="For example s3://bucket/voiceos"
        ),
        "sql_conn_id": Param(
            "warehouse", type="string", description="A connection to Postgres, Snowflake, ..."
        ),
        "interval_start": Param(
            None,
            type=["null", "string"],
            description="2026-11-20 or 2026-11-20T00:00:00Z; empty for the data interval of the run",
        ),
        "interval_end": Param(
            None,
            type=["null", "string"],
            description="Exclusive end; empty for the day of interval_start, or the data interval of the run",
        ),
    },
    tags=["example", "voiceos"],
):
    interval = {"interval_start": "{{ params.interval_start }}", "interval_end": "{{ params.interval_end }}"}

    wait = VoiceOSConversationsEndedSensor(
        task_id="wait_for_the_end",
        **interval,
        deferrable=True,  # in the triggerer, where a thousand of them share their polls
        poke_interval=60,
        max_age=timedelta(hours=2),  # an older call has crashed, or is exported as it is
        timeout=timedelta(hours=6).total_seconds(),
    )

    export = VoiceOSToObjectStorageOperator(
        task_id="export_conversations", path="{{ params.path }}", **interval
    )
    merge = VoiceOSToSqlOperator(
        task_id="merge_conversations", sql_conn_id="{{ params.sql_conn_id }}", **interval
    )

    @task
    def log_abandoned(waited: dict) -> list[str]:
        """Log the conversations that were older than `max_age`; a later export of the hour has their end."""
        if waited["abandoned"]:
            log.warning("Exported before their end: %s", ", ".join(waited["abandoned"]))
        return waited["abandoned"]

    wait >> export >> merge
    log_abandoned(wait.output)
