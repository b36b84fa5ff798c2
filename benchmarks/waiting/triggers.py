"""A trigger that does not share polls, as before Airflow 3.3, and one that measures event loop lag."""

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
    """The trigger without shared polls."""

    def shared_stream_key(self) -> None:
        """Return None, so that Airflow calls `run`."""


class LagProbe(BaseTrigger):
    """A trigger that sleeps repeatedly, and writes how late it woke up.

    :param file: where to write; a file of the same name with the suffix `.reset` resets the figures
    """

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return "benchmarks.waiting.triggers.LagProbe", {"file": self.file}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Measure until cancelled; never fire."""
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
                # Replaced atomically, because the benchmark may be reading it.
                new = file.with_suffix(".new")
                new.write_text(json.dumps(figures))
                new.replace(file)
        yield TriggerEvent(None)
