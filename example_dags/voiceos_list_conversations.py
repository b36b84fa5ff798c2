"""Use the hook in a task: count the conversations that ended yesterday, and their cost."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator

log = logging.getLogger(__name__)


@dag(
    dag_id="voiceos_list_conversations",
    description=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["example", "voiceos"],
)
def voiceos_list_conversations() -> None:
    """List a day's ended conversations two ways."""
    ended = VoiceOSListConversationsOperator(
        task_id="list_ended",
        status="ended",
        columns=["id", "type", "ended_reason", "duration_seconds"],
        max_rows=5_000,
    )

    @task
    def count_by_reason(conversations: list[dict]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for conversation in conversations:
            reason = conversation["ended_reason"] or "not sent"
            counts[reason] = counts.get(reason, 0) + 1
        return counts

    @task
    def total_cost(data_interval_start: datetime, data_interval_end: datetime) -> str:
        with VoiceOSHook("voiceos_default") as hook:
            conversations = hook.get_df(
                interval_start=data_interval_start,
                interval_end=data_interval_end,
                status="ended",
                columns=["id", "total_cost"],
            )
        total = conversations["total_cost"].dropna().sum()
        log.info("%d conversations cost %s US dollars.", len(conversations), total)
        return str(total)  # text: XCom would turn a Decimal into a float

    count_by_reason(ended.output)
    total_cost()


voiceos_list_conversations()
