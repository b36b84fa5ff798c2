"""Polling in the triggerer: one stream of polls for all deferred tasks with one connection.

This module imports the client, which takes a second. The triggers import it in a thread, when they run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, RawPage
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSAuthError, VoiceOSError
from voiceos_provider.polling.conditions import Condition, IdsCondition, IntervalCondition, Result
from voiceos_provider.polling.drivers import ServerClock, arun, cached, within_one_poll
from voiceos_provider.polling.queries import ApiRequest
from voiceos_provider.polling.shared_poll import check_all
from voiceos_provider.utils.async_connection import read_settings

_READ_AGAIN_AFTER = 3600.0
_UNEXPECTED_ERRORS = 5

log = logging.getLogger(__name__)


class Poller:
    """The API for one stream of polls. The Connection is read once an hour, and after `forget`.

    :param voiceos_conn_id: the Connection
    :param poke_interval: seconds between polls; a request is not retried for longer
    :param monotonic: clock that the hour is measured with, in seconds
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
        self.clock = ServerClock()
        self.used_before = False
        """Whether earlier polls used the token; it may have been replaced since."""

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncVoiceOSClient]:
        """Return a client for one poll. No connection stays open between polls."""
        if self._settings is None or self._monotonic() - self._read_at >= _READ_AGAIN_AFTER:
            self._settings = within_one_poll(await read_settings(self._conn_id), self._interval)
            self._read_at = self._monotonic()
            self.used_before = False
        async with AsyncVoiceOSClient(self._settings) as client:
            yield client
        self.used_before = True

    def forget(self) -> None:
        """Read the Connection again before the next poll."""
        self._settings = None


@dataclass(eq=False, frozen=True, slots=True)
class Waiter:
    """One deferred task: two with equal conditions are two waiters."""

    condition: Condition

    def is_due(self, now: datetime) -> bool:
        """Whether there is anything to check yet."""
        return isinstance(self.condition, IdsCondition) or now >= self.condition.readable_at


Poll = dict[Waiter, Result | Exception]
"""The results of one poll; an error is what prevented a result."""


@dataclass(eq=False, slots=True)
class SharedPoll:
    """The waiters of one stream of polls. They join and leave between polls."""

    waiters: dict[Waiter, None] = field(default_factory=dict)
    _open: dict[IntervalCondition, None] = field(default_factory=dict)
    """The conditions that the last polls found open, the one checked longest ago first."""
    _unconfirmed: set[IntervalCondition] = field(default_factory=set)
    _unexpected: int = 0

    @contextmanager
    def joined(self, waiter: Waiter, *, unconfirmed: bool = False) -> Iterator[None]:
        """Include a waiter in the polls until the context is left.

        :param unconfirmed: whether the worker has found its interval without open conversations already
        """
        self.waiters[waiter] = None
        if unconfirmed and isinstance(waiter.condition, IntervalCondition):
            self._unconfirmed.add(waiter.condition)
        try:
            yield
        finally:
            del self.waiters[waiter]

    async def poll(self, poller: Poller) -> Poll:
        """Check the conditions of all waiters that are due. Raises nothing: an error is a result."""
        now = poller.clock.now()
        due = [waiter for waiter in self.waiters if waiter.is_due(now)]
        if not due:
            return {}
        results = await self._check(poller, due, now)
        if poller.used_before and any(isinstance(r, VoiceOSAuthError) for r in results.values()):
            # The token may have been replaced while they waited.
            poller.forget()
            results = await self._check(poller, due, now)
        return results

    async def _check(self, poller: Poller, due: list[Waiter], now: datetime) -> Poll:
        try:
            async with poller.client() as client:
                results = await self._check_intervals(client, poller.clock, due, now)
                results |= await self._check_ids(client, poller.clock, due, now)
        except VoiceOSError as error:  # of the Connection or the environment
            return dict.fromkeys(due, error)
        except Exception as error:
            # It must not end the stream of polls, and with it every task that waits. One that stays fails them.
            self._unexpected += 1
            if self._unexpected >= _UNEXPECTED_ERRORS:
                message = f"Unexpected error in {self._unexpected} polls one after another: {error!r}. "
                return dict.fromkeys(due, UnexpectedError(f"{message}The triggerer's log has the traceback."))
            if self._unexpected == 1:
                log.exception("Unexpected error in a poll; the next poll tries again.")
            return dict.fromkeys(due, error)
        self._unexpected = 0
        return results

    async def _check_intervals(
        self, client: AsyncVoiceOSClient, clock: ServerClock, due: list[Waiter], now: datetime
    ) -> Poll:
        waiting = {
            waiter: waiter.condition for waiter in due if isinstance(waiter.condition, IntervalCondition)
        }
        if not waiting:
            return {}
        query = check_all(
            waiting.values(), now=now, open_before=list(self._open), unconfirmed=self._unconfirmed
        )
        results = await arun(client, query, clock)
        for condition, result in results.items():
            self._open.pop(condition, None)
            if isinstance(result, Result):
                self._unconfirmed.discard(condition)
                if result.unconfirmed:
                    self._unconfirmed.add(condition)
                elif not result.ended:
                    self._open[condition] = None
        wanted = {waiter.condition for waiter in self.waiters}
        self._unconfirmed &= wanted
        self._open = {condition: None for condition in self._open if condition in wanted}
        return {waiter: results[condition] for waiter, condition in waiting.items() if condition in results}

    async def _check_ids(
        self, client: AsyncVoiceOSClient, clock: ServerClock, due: list[Waiter], now: datetime
    ) -> Poll:
        results: Poll = {}
        pages: dict[ApiRequest, RawPage] = {}
        down: VoiceOSError | None = None
        for waiter in due:
            if not isinstance(waiter.condition, IdsCondition):
                continue
            if down is None:
                try:
                    results[waiter] = await arun(client, cached(waiter.condition.check(now), pages), clock)
                    continue
                except VoiceOSError as error:
                    if error.retryable or isinstance(error, VoiceOSAuthError):
                        down = error
                    results[waiter] = error
            else:
                results[waiter] = down
        return results


class UnexpectedError(VoiceOSError):
    """An error in several polls one after another that is not one of the provider's own."""


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
