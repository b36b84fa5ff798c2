"""A trigger that polls for itself, as before Airflow 3.3; and one that measures how late the event loop is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedTrigger

_TICK = 0.02


class Alone(VoiceOSConversationsEndedTrigger):
    """Shares with nobody."""

    def shared_stream_key(self) -> None:
        """Makes Airflow call `run`."""


class LagProbe(BaseTrigger):
    """Sleeps a little, over and over, and writes down how much longer it took.

    :param file: where to write; the figures start over when a file `*.reset` lies beside it
    """

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Its class and its file."""
        return "benchmarks.waiting.triggers.LagProbe", {"file": self.file}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Never fires."""
        file, reset, late = Path(self.file), Path(self.file).with_suffix(".reset"), [0.0]
        written = time.monotonic()
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK)
            late.append(time.monotonic() - before - _TICK)
            if time.monotonic() - written > 1:
                written = time.monotonic()
                if reset.exists():
                    reset.unlink()
                    late = [0.0]
                ordered = sorted(late)
                figures = {
                    "p50": ordered[len(late) // 2],
                    "p99": ordered[len(late) * 99 // 100],
                    "worst": ordered[-1],
                }
                # In one step, for somebody may be reading it.
                new = file.with_suffix(".new")
                new.write_text(json.dumps(figures))
                new.replace(file)
        yield TriggerEvent(None)
