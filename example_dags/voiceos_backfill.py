"""
### Backfill over many workers

Cuts a range into windows, exports each window in a mapped task, and adds the receipts up. The last task fails if the
windows leave a gap or overlap.

* **Connection**: `voiceos_default`, with the API token in the password field. With *N* slots in the pool, set
  `requests_per_second` to the account's limit divided by *N*: it limits each task on its own.
* **Pool**: `voiceos`. Create it with `airflow pools set voiceos 4 "Tasks that call the VoiceOS API"`.
* **Trigger**: choose `from`, `to` (exclusive) and `every`. A failed window can be cleared on its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from voiceos_provider.backfill import combine_receipts, split_interval
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

with DAG(
    dag_id="voiceos_backfill",
    description="Conversations of a long range as Parquet files, window by window",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "path": Param("file:///tmp/voiceos", type="string", description="For example s3://bucket/voiceos"),
        "from": Param("2026-10-01", type="string", format="date", description="First day"),
        "to": Param(
            "2026-11-01", type="string", format="date", description="Exclusive end: the day after the last"
        ),
        "every": Param("day", enum=["hour", "day", "week", "month"], description="Length of a window"),
        "timezone": Param("UTC", type="string", description="Time zone of the days, such as Europe/Berlin"),
    },
    tags=["example", "voiceos"],
):

    @task(retries=0)
    def split(params: dict[str, Any]) -> list[dict[str, str]]:
        """Return the windows; Airflow maps at most `[core] max_map_length` of them."""
        return split_interval(
            params["from"], params["to"], every=params["every"], timezone=params["timezone"]
        )

    @task(retries=0, multiple_outputs=False)
    def combine(receipts: Any, windows: list[dict[str, str]]) -> dict[str, Any]:
        """Return the sum of all receipts, or fail on a gap or an overlap."""
        return combine_receipts(receipts, windows=windows)

    windows = split()
    export = VoiceOSToObjectStorageOperator.partial(
        task_id="export_conversations",
        path="{{ params.path }}",
        pool="voiceos",
        max_active_tis_per_dagrun=4,
    ).expand_kwargs(windows)
    combine(export.output, windows)
