"""
### Daily roll-up

Runs once the 24 hourly partitions of a UTC day are there, which `voiceos_hourly_partitions` exports, and adds up what
was exported. Needs Airflow 3.3.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Asset, task

try:
    from airflow.sdk import DayWindow, PartitionedAssetTimetable, RollupMapper, StartOfDayMapper
except ImportError:  # Airflow before 3.3 cannot wait for all partitions of a day
    RollupMapper = None

log = logging.getLogger(__name__)

hours = Asset("file:///tmp/voiceos_partitions")

if RollupMapper is not None:
    with DAG(
        dag_id="voiceos_daily_rollup",
        description="What was exported on a day, once its 24 hours are there",
        doc_md=__doc__,
        schedule=PartitionedAssetTimetable(
            assets=hours,
            default_partition_mapper=RollupMapper(upstream_mapper=StartOfDayMapper(), window=DayWindow()),
        ),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        tags=["example", "voiceos"],
    ):

        @task
        def add_up(triggering_asset_events: dict, partition_key: str) -> dict:
            """Return how many conversations of the day were exported."""
            # An hour that was exported again has several events; the last one counts.
            receipts = {
                event.extra["interval_start"]: event.extra for event in triggering_asset_events[hours]
            }
            exported = sum(receipt["exported"] for receipt in receipts.values())
            log.info("%s: %d hours, %d conversations.", partition_key, len(receipts), exported)
            return {"day": partition_key, "hours": len(receipts), "exported": exported}

        add_up()
