"""Whenever calls have ended: export them at once. Scheduled by the API itself, on Airflow 3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Asset, Param, task

from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.triggers.voiceos_events import VoiceOSConversationsEndedEventTrigger

try:
    from airflow.sdk import AssetWatcher
except ImportError:  # Airflow 2 schedules nothing by an event of the world
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
        description=__doc__,
        schedule=[ended],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
        params={
            "path": Param(
                "file:///tmp/voiceos_on_end", type="string", description="s3://bucket/voiceos, for example"
            )
        },
        tags=["example", "voiceos"],
    ):

        @task
        def intervals(triggering_asset_events: dict) -> list[dict[str, str]]:
            """The intervals in which all have ended; several, if events came while a run was going on."""
            payloads = [event.extra["payload"] for event in triggering_asset_events[ended]]
            # Told at least once: after a crash of the triggerer calls may come again, so count them by their ids.
            found = {(payload["interval_start"], payload["interval_end"]) for payload in payloads}
            return [{"interval_start": start, "interval_end": end} for start, end in sorted(found)]

        VoiceOSToObjectStorageOperator.partial(
            task_id="export_conversations",
            path="{{ params.path }}",
            visibility_delay=timedelta(minutes=1),  # the watcher has waited as long before it told
        ).expand_kwargs(intervals())
