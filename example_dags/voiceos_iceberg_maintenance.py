"""
### Maintenance of Iceberg tables

Compacts the small files of past days, and expires old snapshots: each export adds files and a snapshot per table. Older
states of a table can be read until their snapshots expire. Files that no snapshot needs any more stay in the store;
remove them with Spark's `remove_orphan_files`, or the maintenance of a managed catalog.

* **Connection**: the catalog, named by `iceberg_conn_id`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, get_current_context, task
from airflow.timetables.interval import CronDataIntervalTimetable


@task
def maintain(table: str) -> None:
    """Compact a table up to the start of the last day, and expire its snapshots."""
    from voiceos_provider.load.lake.iceberg import IcebergLake
    from voiceos_provider.transfers.voiceos_to_iceberg import catalog_properties
    from voiceos_provider.transform import choose_tables

    params: dict[str, Any] = get_current_context()["params"]
    conn_id = params["iceberg_conn_id"]
    lake = IcebergLake(
        conn_id,
        namespace=params["namespace"],
        table_prefix=params["table_prefix"],
        properties=catalog_properties(conn_id),
    )
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
        "iceberg_conn_id": Param("iceberg_default", type="string"),
        "namespace": Param("voiceos", type="string"),
        "table_prefix": Param("", type="string"),
        "keep_days": Param(7, type="integer", description="For how long older states can be read"),
    },
    tags=["example", "voiceos"],
):
    maintain.expand(table=["conversations", "conversation_costs", "conversation_messages", "agent_configs"])
