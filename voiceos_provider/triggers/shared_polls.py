"""Who waits on one connection, and what does one poll find for all of them?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from voiceos_provider.client import AsyncVoiceOSClient
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSAuthError, VoiceOSError
from voiceos_provider.polling.conditions import Finding, Question, RollCall, Window
from voiceos_provider.polling.drivers import alook, remembering
from voiceos_provider.polling.queries import One, Rows
from voiceos_provider.polling.shared_poll import survey
from voiceos_provider.triggers.polling import Poller

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Waiter:
    """One deferred task, and how often it wants to be asked for.

    :param question: what it waits for
    :param poke_interval: seconds between polls
    :param exponential_backoff: whether it is asked for in every poll, or ever more rarely
    :param max_wait: seconds; the longest pause that comes of that
    """

    question: Question
    poke_interval: float
    exponential_backoff: bool = False
    max_wait: float | None = None
    _polls: int = 0
    _not_before: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether there is anything to ask for it, and it is time to."""
        if isinstance(self.question, Window) and now < self.question.settled_at:
            return False
        return self._not_before is None or now >= self._not_before

    def was_asked_for(self, now: datetime) -> None:
        """Count a poll; each doubles the pause, if it is to grow."""
        self._polls += 1
        if self.exponential_backoff:
            pause = self.poke_interval * 2 ** min(self._polls - 1, 20)
            pause = pause if self.max_wait is None else min(pause, self.max_wait)
            # Polls come at their own pace; half an interval decides which of them is meant.
            self._not_before = now + timedelta(seconds=pause - self.poke_interval / 2)


@dataclass(slots=True)
class Poll:
    """What one poll has found for each waiter it asked for; an error is what kept it from finding anything."""

    findings: dict[Waiter, Finding | Exception]

    @property
    def asked_to_wait(self) -> float:
        """Seconds that the API asked to be left alone."""
        waits = (e.retry_after for e in self.findings.values() if isinstance(e, VoiceOSAPIError))
        return max((wait for wait in waits if wait), default=0.0)


@dataclass(eq=False, slots=True)
class Board:
    """The waiters of one stream of polls. They come and go between the polls."""

    waiters: dict[Waiter, None] = field(default_factory=dict)
    _open: dict[Window, None] = field(default_factory=dict)
    """What the last polls found open, the one asked about longest ago first."""

    @contextmanager
    def joined(self, waiter: Waiter) -> Iterator[None]:
        """Have it asked for in the polls from now on, to the end of the context."""
        self.waiters[waiter] = None
        try:
            yield
        finally:
            del self.waiters[waiter]

    async def poll(self, poller: Poller, now: datetime) -> Poll:
        """Ask for every waiter whose time it is. Raises nothing: an error is a finding."""
        due = [waiter for waiter in self.waiters if waiter.is_due(now)]
        if not due:
            return Poll({})
        poll = await self._ask(poller, due, now)
        if poller.used_before and any(isinstance(f, VoiceOSAuthError) for f in poll.findings.values()):
            # The token may have been replaced while they waited.
            poller.forget()
            poll = await self._ask(poller, due, now)
        for waiter in due:
            waiter.was_asked_for(now)
        return poll

    async def _ask(self, poller: Poller, due: list[Waiter], now: datetime) -> Poll:
        try:
            async with poller.client() as client:
                findings = await self._ask_windows(client, due, now)
                findings |= await self._ask_rolls(client, due, now)
                return Poll(findings)
        except VoiceOSError as error:  # of the Connection
            return Poll(dict.fromkeys(due, error))
        except Exception as error:
            # Whatever it is, it must not end the stream of polls, and with it every task that waits.
            log.exception("A poll failed in a way that nobody foresaw.")
            return Poll(dict.fromkeys(due, error))

    async def _ask_windows(
        self, client: AsyncVoiceOSClient, due: list[Waiter], now: datetime
    ) -> dict[Waiter, Finding | Exception]:
        windows = {waiter: waiter.question for waiter in due if isinstance(waiter.question, Window)}
        if not windows:
            return {}
        found = await alook(client, survey(windows.values(), now=now, open_before=list(self._open)))
        for window, finding in found.items():
            self._open.pop(window, None)
            if isinstance(finding, Finding) and not finding.ended:
                self._open[window] = None
        for window in self._open.keys() - set(windows.values()):
            del self._open[window]
        return {waiter: found[window] for waiter, window in windows.items() if window in found}

    async def _ask_rolls(
        self, client: AsyncVoiceOSClient, due: list[Waiter], now: datetime
    ) -> dict[Waiter, Finding | Exception]:
        findings: dict[Waiter, Finding | Exception] = {}
        answers: dict[One, Rows] = {}
        down: VoiceOSError | None = None
        for waiter in due:
            if not isinstance(waiter.question, RollCall):
                continue
            if down is None:
                try:
                    findings[waiter] = await alook(client, remembering(waiter.question.look(now), answers))
                    continue
                except VoiceOSError as error:
                    findings[waiter] = error
                    if error.retryable or isinstance(error, VoiceOSAuthError):
                        down = error
            else:
                findings[waiter] = down
        return findings


async def polls(
    board: Board,
    voiceos_conn_id: str,
    poke_interval: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncGenerator[Poll]:
    """Poll for the waiters on a board without end, and without ever failing.

    The first poll comes after a pause: whoever joins has just looked for himself.
    """
    poller = Poller(voiceos_conn_id, poke_interval)
    pause = poke_interval
    while True:
        await sleep(pause)
        poll = await board.poll(poller, now())
        pause = max(poke_interval, poll.asked_to_wait)
        if poll.findings:
            yield poll
