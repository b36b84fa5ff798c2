"""Triggers. Their modules import no more than Airflow: a triggerer loads them on its event loop."""

from __future__ import annotations

import asyncio
import importlib

SHORTEST_INTERVAL = 0.1
"""The least number of seconds between two polls."""


async def load_client() -> None:
    """Import the polling module in a thread, because the import takes a second and would block the event loop."""
    await asyncio.to_thread(importlib.import_module, "voiceos_provider.triggers.polling")
