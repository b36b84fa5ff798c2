"""
### Nightly load into a database

Merges the conversations of the last three UTC days into tables of a database. Calls end, and their costs arrive, after
the day on which they began; the lookback of two days updates those rows.

* **Connections**: `voiceos_default` for the API, and the one named by `sql_conn_id` for the database.
* **Trigger**: set `interval_start` and `interval_end` (dates or date-times) to load another interval, or leave them
  empty for the data interval of the run.
* The load is idempotent: a second run of one interval changes nothing that has not changed in the API.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

with DAG(
    dag_id="voiceos_nightly_warehouse",
    description="The conversations of the last three days as rows of a database",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
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
    VoiceOSToSqlOperator(
        task_id="load_conversations",
        sql_conn_id="{{ params.sql_conn_id }}",
        interval_start="{{ params.interval_start }}",
        interval_end="{{ params.interval_end }}",
        lookback=timedelta(days=2),
        write_disposition="merge",
    )
