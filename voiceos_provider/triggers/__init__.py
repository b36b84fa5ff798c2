"""Triggers. Their modules import no more than Airflow: a triggerer loads them on its event loop."""

from __future__ import annotations

import asyncio
import importlib

SHORTEST_INTERVAL = 0.1
"""The least number of seconds between two polls."""


async def load_client() -> None:
    """Import what polls the API in a thread: it takes a second, for which the event loop must not stop."""
    await asyncio.to_thread(importlib.import_module, "voiceos_provider.triggers.polling")
