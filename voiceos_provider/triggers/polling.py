"""How is the API polled for as long as anybody waits?"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig
from voiceos_provider.polling.drivers import patient_for
from voiceos_provider.utils.async_client import read_settings

SHORTEST_INTERVAL = 0.1
"""Seconds; nobody means to poll without a pause."""

_READ_AGAIN_AFTER = 3600.0


class Poller:
    """The API for one stream of polls; the Connection is read once an hour, and when it must be read anew.

    :param voiceos_conn_id: the Connection
    :param poke_interval: seconds between polls; what cannot be answered within is left to the next poll
    :param monotonic: the clock that hours are measured with, in seconds
    """

    def __init__(
        self,
        voiceos_conn_id: str,
        poke_interval: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conn_id = voiceos_conn_id
        self._interval = poke_interval
        self._monotonic = monotonic
        self._settings: ClientConfig | None = None
        self._read_at = 0.0
        self.used_before = False
        """Whether the token is one that earlier polls were made with, and may have been replaced since."""

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncVoiceOSClient]:
        """A client for one poll: between polls no connection stays open."""
        if self._settings is None or self._monotonic() - self._read_at >= _READ_AGAIN_AFTER:
            self._settings = patient_for(await read_settings(self._conn_id), self._interval)
            self._read_at = self._monotonic()
            self.used_before = False
        async with AsyncVoiceOSClient(self._settings) as client:
            yield client
        self.used_before = True

    def forget(self) -> None:
        """Read the Connection anew before the next poll."""
        self._settings = None
