"""Emulator of the VoiceOS conversations API, for DAG development without network access and for tests.

    python -m voiceos_provider.emulator --port 8321 --seed 7

or in process:

    emulator = Emulator(World(seed=7))
    client = httpx.Client(transport=emulator.transport(), base_url="http://emulator")
"""

from __future__ import annotations

from voiceos_provider.emulator.emulator import Emulator
from voiceos_provider.emulator.faults import Fault
from voiceos_provider.emulator.http_messages import RecordedRequest
from voiceos_provider.emulator.world import World

__all__ = ["Emulator", "Fault", "RecordedRequest", "World"]
