"""
### Hourly export to Delta Lake, and its maintenance

The first DAG merges the conversations of each hour into Delta Lake tables. Each run that changes a table adds at least
one file to it. The second one compacts the small files every night, and removes files that no reader needs any more.

* **Connections**: `voiceos_default` for the API, and the one named by `storage_conn_id` for the store, if it needs one.
* **Params**: `path` is the folder of the tables, `retention_hours` how long readers can go back in time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_to_delta_lake import VoiceOSToDeltaLakeOperator
from voiceos_provider.utils.storage import delta_storage_options

TABLES = ("conversations", "conversation_costs", "conversation_messages", "agent_configs")
STORE = {
    "path": Param("file:///tmp/voiceos_lake", type="string", description="s3://..., gs://... or file:///..."),
    "storage_conn_id": Param(None, type=["null", "string"], description="A connection to the store"),
}

with DAG(
    dag_id="voiceos_hourly_delta_lake",
    description="The conversations of each hour as rows of Delta Lake tables",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        **STORE,
        "interval_start": Param(
            None, type=["null", "string"], description="Empty for the data interval of the run"
        ),
        "interval_end": Param(None, type=["null", "string"], description="Exclusive end"),
    },
    tags=["example", "voiceos"],
):
    VoiceOSToDeltaLakeOperator(
        task_id="export_conversations",
        path="{{ params.path }}",
        storage_conn_id="{{ params.storage_conn_id or '' }}",
        interval_start="{{ params.interval_start }}",
        interval_end="{{ params.interval_end }}",
        carry_pending=timedelta(days=2),
    )

with DAG(
    dag_id="voiceos_delta_lake_maintenance",
    description="Compaction and clean-up of the Delta Lake tables",
    doc_md=__doc__,
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        **STORE,
        "retention_hours": Param(168, type="integer", minimum=168, description="How long unused files stay"),
    },
    tags=["example", "voiceos"],
):

    @task
    def maintain(table: str, params: Any = None) -> dict[str, int]:
        """Compact one table, remove its unused files, and write a checkpoint of its log."""
        from deltalake import DeltaTable

        options = delta_storage_options(params["path"], params["storage_conn_id"])
        delta_table = DeltaTable(f"{params['path']}/{table}", storage_options=options)
        before = len(delta_table.file_uris())
        delta_table.optimize.compact()
        removed = delta_table.vacuum(retention_hours=params["retention_hours"], dry_run=False)
        delta_table.create_checkpoint()
        delta_table.cleanup_metadata()
        return {"files_before": before, "files": len(delta_table.file_uris()), "removed": len(removed)}

    maintain.expand(table=list(TABLES))
