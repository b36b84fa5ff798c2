"""
### A small list of conversations

Shows two ways to use conversations in a task of your own: `VoiceOSListConversationsOperator` returns a short list
through XCom, and `VoiceOSHook` reads a DataFrame inside a task.

* **Connection**: `voiceos_default`, with the API token in the password field.
* **Trigger**: choose a `day`, or leave it empty for the data interval of the run.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator
from voiceos_provider.utils.run_interval import resolve_interval

log = logging.getLogger(__name__)


@dag(
    dag_id="voiceos_list_conversations",
    description="The ended conversations of a day, counted and priced",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="UTC day to list; empty for the data interval of the run",
        )
    },
    tags=["example", "voiceos"],
)
def voiceos_list_conversations() -> None:
    """List a day's ended conversations in two ways."""
    ended = VoiceOSListConversationsOperator(
        task_id="list_ended",
        interval_start="{{ params.day }}",
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
    def total_cost(**context: Any) -> str:
        interval = resolve_interval(context["params"]["day"], None, context)
        with VoiceOSHook("voiceos_default") as hook:
            conversations = hook.get_df(
                interval_start=interval.start,
                interval_end=interval.end,
                status="ended",
                columns=["id", "total_cost"],
            )
        total = conversations["total_cost"].dropna().sum()
        log.info("%d conversations cost %s US dollars.", len(conversations), total)
        return str(total)  # text: XCom would turn a Decimal into a float

    count_by_reason(ended.output)
    total_cost()


voiceos_list_conversations()
