"""
### Export as soon as calls have ended

An asset watcher in the triggerer polls the API and starts a run when all calls of an interval have ended; the run
exports that interval. Needs Airflow 3.

* **Connection**: `voiceos_default`, with the API token in the password field.
* **Trigger**: set `interval_start` and `interval_end` (dates or date-times) to export an interval by hand. A run that
  an asset event started ignores them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Asset, Param, task

from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedEventTrigger

try:
    from airflow.sdk import AssetWatcher
except ImportError:  # Airflow 2 has no asset watchers
    AssetWatcher = None

if AssetWatcher is not None:
    ended = Asset(
        "voiceos_conversations_ended",
        watchers=[
            AssetWatcher(
                name="voiceos_conversations_ended",
                trigger=VoiceOSConversationsEndedEventTrigger(
                    voiceos_conn_id="voiceos_default", poke_interval=60
                ),
            )
        ],
    )

    with DAG(
        dag_id="voiceos_on_end",
        description="Conversations as Parquet files, as soon as they have ended",
        doc_md=__doc__,
        schedule=[ended],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
        params={
            "path": Param(
                "file:///tmp/voiceos_on_end", type="string", description="For example s3://bucket/voiceos"
            ),
            "interval_start": Param(
                None, type=["null", "string"], description="For example 2026-11-20 or 2026-11-20T00:00:00Z"
            ),
            "interval_end": Param(
                None,
                type=["null", "string"],
                description="Exclusive end; empty for the day of interval_start",
            ),
        },
        tags=["example", "voiceos"],
    ):

        @task
        def intervals(triggering_asset_events: dict, params: dict) -> list[dict[str, str]]:
            """Return the intervals of the events; several, if events arrived during an earlier run."""
            payloads = [event.extra["payload"] for event in triggering_asset_events.get(ended, [])]
            if not payloads:
                return [{name: params[name] for name in ("interval_start", "interval_end")}]
            # Events are delivered at least once: after a crash of the triggerer an interval may come again.
            found = {(payload["interval_start"], payload["interval_end"]) for payload in payloads}
            return [{"interval_start": start, "interval_end": end} for start, end in sorted(found)]

        VoiceOSToObjectStorageOperator.partial(
            task_id="export_conversations",
            path="{{ params.path }}",
            visibility_delay=timedelta(minutes=1),  # the watcher has waited as long already
        ).expand_kwargs(intervals())
