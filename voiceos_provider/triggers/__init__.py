"""Triggers: the code that runs in the triggerer process, and nowhere else.

`voiceos` and `voiceos_events` are loaded on the triggerer's event loop, so they import no more than Airflow. What they
need to poll is in `poll_stream`, which they import in a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from typing import Any

SHORTEST_INTERVAL = 0.1
"""The least number of seconds between two polls."""


def serialized(trigger: Any) -> tuple[str, dict[str, Any]]:
    """Return the class path of a trigger and its arguments, which are its attributes of the same names."""
    kind = type(trigger)
    arguments = {name: getattr(trigger, name) for name in inspect.signature(kind).parameters}
    return f"{kind.__module__}.{kind.__qualname__}", arguments


async def load_client() -> None:
    """Import the client in a thread, because the import takes a second and would block the event loop."""
    await asyncio.to_thread(importlib.import_module, "voiceos_provider.triggers.poll_stream")
