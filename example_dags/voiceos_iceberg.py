"""
### Hourly export to Iceberg tables, and their maintenance

The first DAG merges the conversations of each hour into Iceberg tables. Each run that changes a table adds a snapshot
and at least one file to it. The second one compacts the small files of past days every night, and expires old
snapshots. Older states of a table can be read until their snapshots expire. Files that no snapshot needs any more stay
in the store; remove them with Spark's `remove_orphan_files`, or the maintenance of a managed catalog.

* **Connections**: `voiceos_default` for the API, and the one of the catalog, named by `iceberg_conn_id`.
* **Params**: `namespace` and `table_prefix` name the tables, `keep_days` is how long readers can go back in time. Set
  `warehouse` to a local directory, and empty `iceberg_conn_id`, to try the export without a catalog.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, get_current_context, task
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.transfers.voiceos_to_iceberg import VoiceOSToIcebergOperator

TABLES = ("conversations", "conversation_costs", "conversation_messages", "agent_configs")
NAMES = {
    "iceberg_conn_id": Param("iceberg_default", type=["null", "string"], description="The catalog"),
    "namespace": Param("voiceos", type="string"),
    "table_prefix": Param("", type="string"),
}

with DAG(
    dag_id="voiceos_hourly_iceberg",
    description="The conversations of each hour as rows of Iceberg tables",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        **NAMES,
        "warehouse": Param(None, type=["null", "string"], description="A local directory, for trials"),
        "interval_start": Param(
            None, type=["null", "string"], description="Empty for the data interval of the run"
        ),
        "interval_end": Param(None, type=["null", "string"], description="Exclusive end"),
    },
    tags=["example", "voiceos"],
):
    VoiceOSToIcebergOperator(
        task_id="export_conversations",
        iceberg_conn_id="{{ params.iceberg_conn_id or '' }}",
        warehouse="{{ params.warehouse or '' }}",
        namespace="{{ params.namespace }}",
        table_prefix="{{ params.table_prefix }}",
        interval_start="{{ params.interval_start }}",
        interval_end="{{ params.interval_end }}",
        carry_pending=timedelta(days=2),
    )


@task
def maintain(table: str) -> None:
    """Compact a table up to the start of the last day, and expire its snapshots."""
    from voiceos_provider.transform import choose_tables
    from voiceos_provider.utils.lakes import open_iceberg_lake

    params: dict[str, Any] = get_current_context()["params"]
    lake = open_iceberg_lake(**{name: params[name] for name in NAMES})
    lake_table = lake.table(choose_tables([table])[0])
    lake_table.load(create=False)
    now = datetime.now(UTC)
    lake_table.compact(before=now - timedelta(days=1))
    existing = lake.catalog.load_table(lake_table.name)
    existing.maintenance.expire_snapshots().older_than(now - timedelta(days=params["keep_days"])).commit()


with DAG(
    dag_id="voiceos_iceberg_maintenance",
    description="Compact Iceberg tables and expire their snapshots",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("30 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={
        **NAMES,
        "keep_days": Param(7, type="integer", description="For how long older states can be read"),
    },
    tags=["example", "voiceos"],
):
    maintain.expand(table=list(TABLES))
