"""
### Nightly load into a database, then dbt

Merges the conversations of the last three UTC days into tables of a database, and builds dbt models from them. The dbt
package of the provider compares the loaded rows with the receipt of the load.

* **Connections**: `voiceos_default` for the API, and the one named by `sql_conn_id` for the database.
* **dbt**: a project in `dbt_project_dir` with its `profiles.yml`, whose target is the same database, and with the
  provider's package in its `packages.yml`. `dbt` is the path of the program, which has its own environment.
"""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

with DAG(
    dag_id="voiceos_nightly_dbt",
    description="The conversations of the last three days as rows of a database, and dbt models of them",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        "sql_conn_id": Param("warehouse", type="string", description="A connection to Postgres, DuckDB, ..."),
        "dbt_project_dir": Param("/opt/dbt/warehouse", type="string", description="The dbt project"),
        "dbt": Param("/opt/dbt/venv/bin/dbt", type="string", description="The program"),
    },
    tags=["example", "voiceos"],
):
    load = VoiceOSToSqlOperator(
        task_id="load_conversations",
        sql_conn_id="{{ params.sql_conn_id }}",
        lookback=timedelta(days=2),
    )

    @task.bash(cwd="{{ params.dbt_project_dir }}")
    def dbt_build(receipt: dict[str, Any], params: dict[str, Any]) -> str:
        """Build the models, and test them."""
        totals = {name: receipt[name] for name in ("exported_at", "exported", "cost", "tables")}
        variables = json.dumps({"voiceos_receipt": totals})
        return shlex.join([params["dbt"], "build", "--vars", variables])

    dbt_build(load.output)
