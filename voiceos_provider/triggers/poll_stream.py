"""Polls of a triggerer: one stream of polls for all deferred tasks with one connection."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSAuthError
from voiceos_provider.polling.conditions import Condition, IdsCondition, Result, check_all
from voiceos_provider.polling.polling_client import PollingClient, ServerClock, within_one_poll
from voiceos_provider.utils.async_connection import read_settings

_READ_AGAIN_AFTER = 3600.0

Poll = Mapping[Condition, Result | Exception]
"""The results of one poll; an error is what prevented a result."""


class Poller:
    """The API for one stream of polls. The Connection is read once an hour, and while `config` is None."""

    def __init__(self, voiceos_conn_id: str, poke_interval: float) -> None:
        self._conn_id = voiceos_conn_id
        self._interval = poke_interval
        self._read_at = 0.0
        self.clock = ServerClock()
        self.config: ClientConfig | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[PollingClient]:
        """Return a client for one poll. No connection stays open between polls."""
        if self.config is None or time.monotonic() - self._read_at >= _READ_AGAIN_AFTER:
            self.config = within_one_poll(await read_settings(self._conn_id), self._interval)
            self._read_at = time.monotonic()
        async with AsyncVoiceOSClient(self.config) as client:
            yield PollingClient(client, self.clock)


class SharedPoll:
    """The conditions of one stream of polls. They join and leave between polls."""

    def __init__(self) -> None:
        self.waiting: Counter[Condition] = Counter()
        """How many tasks wait for each condition."""
        # The result of the last check of each condition, the one checked longest ago first.
        self._states: dict[Condition, str] = {}

    @contextmanager
    def joined(self, condition: Condition, *, unconfirmed: bool = False) -> Iterator[None]:
        """Include a condition in the polls until the context is left; `unconfirmed` if the worker has left it so."""
        self.waiting[condition] += 1
        if unconfirmed:
            self._states[condition] = "unconfirmed"
        try:
            yield
        finally:
            self.waiting[condition] -= 1
            if not self.waiting[condition]:
                del self.waiting[condition]

    async def poll(self, poller: Poller) -> Poll:
        """Check all conditions that are due. Raises nothing: an error is a result."""
        now = poller.clock.now()
        due = [c for c in self.waiting if isinstance(c, IdsCondition) or now >= c.readable_at]
        was_read = poller.config is not None
        results = await self._check(poller, due) if due else {}
        if was_read and any(isinstance(result, VoiceOSAuthError) for result in results.values()):
            poller.config = None  # the token may have been replaced since
            results = await self._check(poller, due)
        return results

    async def _check(self, poller: Poller, due: list[Condition]) -> Poll:
        try:
            async with poller.client() as client:
                results = await check_all(client, due, self._states)
        except Exception as error:  # noqa: BLE001  it must not end the stream, and with it every task that waits
            return dict.fromkeys(due, error)
        for condition, result in results.items():
            if isinstance(result, Result):
                self._states.pop(condition, None)
                self._states[condition] = result.state
        self._states = {c: state for c, state in self._states.items() if c in self.waiting}
        return results


shared: defaultdict[Hashable, SharedPoll] = defaultdict(SharedPoll)
"""The shared poll of each key: Airflow opens a stream with the arguments of one of its triggers only."""


async def polls(
    shared_poll: SharedPoll,
    voiceos_conn_id: str,
    poke_interval: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Poll]:
    """Poll forever, and never raise. The first poll follows a pause, because each task has just checked on its own."""
    poller = Poller(voiceos_conn_id, poke_interval)
    pause = poke_interval
    while True:
        await sleep(pause)
        results = await shared_poll.poll(poller)
        waits = (error.retry_after or 0.0 for error in results.values() if isinstance(error, VoiceOSAPIError))
        pause = max(poke_interval, *waits, 0.0)
        if results:
            yield results
