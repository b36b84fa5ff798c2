"""Run triggers that share their polls, as a triggerer does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

HAS_SHARED_STREAMS = find_spec("airflow.triggers.shared_stream") is not None
"""Airflow 3.3 and later."""


async def run_in_one_triggerer(triggers: Iterable[Any]) -> list[Any]:
    """Return the events of triggers that run in one triggerer of Airflow 3.3."""
    from airflow.triggers.shared_stream import SharedStreamManager

    manager = SharedStreamManager()

    async def run(number: int, trigger: Any) -> Any:
        key = trigger.shared_stream_key()
        try:
            stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
            (event,) = [event async for event in trigger.filter_shared_stream(stream)]
            return event.payload
        finally:
            await manager.unsubscribe(number, key)

    return await asyncio.gather(*(run(number, trigger) for number, trigger in enumerate(triggers)))
