"""Every night: the conversations of the last three days as rows of a database, late changes included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

with DAG(
    dag_id="voiceos_nightly_warehouse",
    description=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        "sql_conn_id": Param(
            "warehouse", type="string", description="a connection to Postgres, Snowflake, ..."
        )
    },
    tags=["example", "voiceos"],
):
    VoiceOSToSqlOperator(
        task_id="load_conversations",
        sql_conn_id="{{ params.sql_conn_id }}",
        # Calls end, and their costs come, after the day they began on; the merge updates what has changed.
        interval_start="{{ data_interval_start - macros.timedelta(days=2) }}",
        interval_end="{{ data_interval_end }}",
        write_disposition="merge",
    )
