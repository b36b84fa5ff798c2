"""Every hour: wait until the calls of the hour have ended, export them, merge them into a database, name the rest."""

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
    description=__doc__,
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        "path": Param(
            "file:///tmp/voiceos_hourly", type="string", description="s3://bucket/voiceos, for example"
        ),
        "sql_conn_id": Param(
            "warehouse", type="string", description="a connection to Postgres, Snowflake, ..."
        ),
    },
    tags=["example", "voiceos"],
):
    wait = VoiceOSConversationsEndedSensor(
        task_id="wait_for_the_end",
        deferrable=True,  # in the triggerer, where a thousand of them share their polls
        poke_interval=60,
        max_age=timedelta(hours=2),  # a call that is older has crashed, or is exported as it is
        timeout=timedelta(hours=6).total_seconds(),
    )

    export = VoiceOSToObjectStorageOperator(task_id="export_conversations", path="{{ params.path }}")
    merge = VoiceOSToSqlOperator(task_id="merge_conversations", sql_conn_id="{{ params.sql_conn_id }}")

    @task
    def name_the_abandoned(waited: dict) -> list[str]:
        """Those that were older than `max_age`; a later export of the hour has their end."""
        if waited["abandoned"]:
            log.warning("Exported before their end: %s", ", ".join(waited["abandoned"]))
        return waited["abandoned"]

    wait >> export >> merge
    name_the_abandoned(wait.output)
