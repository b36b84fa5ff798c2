"""Wait in the triggerer, where a thousand tasks cost one process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.conditions import Finding, Question, RollCall, Window
from voiceos_provider.triggers.polling import SHORTEST_INTERVAL
from voiceos_provider.triggers.shared_polls import Board, Poll, Waiter, polls

log = logging.getLogger(__name__)

_boards: defaultdict[Hashable, Board] = defaultdict(Board)
"""The waiters of each shared stream: a stream's own arguments are those of one of them."""


class VoiceOSConversationsEndedTrigger(BaseEventTrigger):
    """Fire once: when the conversations have ended, when the deadline has passed, or when waiting is of no use.

    On Airflow 3.3 and later all triggers with one connection and one `poke_interval` share their polls; see
    `voiceos_provider.polling.shared_poll` for what a poll costs. Before that each one polls for itself.

    Either the bounds of an interval are given, or ids. Every argument is plain: instants are RFC 3339 text, spans are
    seconds; the token stays in the Connection. The payload of the event is a dict whose ``status`` is ``ended``,
    ``timeout`` or ``failed``.

    :param voiceos_conn_id: the Connection of the VoiceOS API
    :param interval_start: first instant of creation time
    :param interval_end: its exclusive end
    :param conversation_ids: the conversations to wait for, in place of an interval's
    :param max_age: seconds after which an open conversation is let go of; None for never
    :param visibility_delay: seconds that a conversation may take to show up
    :param min_conversations: so many must be there
    :param poke_interval: seconds between polls
    :param exponential_backoff: whether the pause between polls doubles
    :param max_wait: seconds; the longest pause that comes of that
    :param waiting_since: when the task began to wait
    :param deadline: when to give up; None for never
    """

    # Tasks defer to it; only triggers that watch assets are kept from the queues of triggerers.
    supports_triggerer_queue = True

    def __init__(
        self,
        *,
        voiceos_conn_id: str,
        interval_start: str | None = None,
        interval_end: str | None = None,
        conversation_ids: Sequence[str] | None = None,
        max_age: float | None = None,
        visibility_delay: float = 0.0,
        min_conversations: int = 0,
        poke_interval: float = 60.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        waiting_since: str,
        deadline: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.voiceos_conn_id = voiceos_conn_id
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.conversation_ids = None if conversation_ids is None else list(conversation_ids)
        self.max_age = max_age
        self.visibility_delay = visibility_delay
        self.min_conversations = min_conversations
        self.poke_interval = max(poke_interval, SHORTEST_INTERVAL)
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.waiting_since = waiting_since
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that another triggerer needs to go on waiting."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "voiceos_conn_id": self.voiceos_conn_id,
            "interval_start": self.interval_start,
            "interval_end": self.interval_end,
            "conversation_ids": self.conversation_ids,
            "max_age": self.max_age,
            "visibility_delay": self.visibility_delay,
            "min_conversations": self.min_conversations,
            "poke_interval": self.poke_interval,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait,
            "waiting_since": self.waiting_since,
            "deadline": self.deadline,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for this task alone: Airflow before 3.3, and `dag.test`."""
        board = Board()
        async with aclosing(polls(board, self.voiceos_conn_id, self.poke_interval)) as stream:
            yield await self._event(board, stream)

    def shared_stream_key(self) -> Hashable | None:
        """Who shares polls with whom."""
        return ("voiceos", self.voiceos_conn_id, self.poke_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Poll]:
        """Poll for all who share the key."""
        key = cls(**kwargs).shared_stream_key()
        async with aclosing(
            polls(_boards[key], kwargs["voiceos_conn_id"], kwargs["poke_interval"])
        ) as stream:
            async for poll in stream:
                yield poll

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Poll]) -> AsyncIterator[TriggerEvent]:
        """Wait for the poll that ends this wait."""
        yield await self._event(_boards[self.shared_stream_key()], shared_stream)

    async def _event(self, board: Board, stream: AsyncIterator[Poll]) -> TriggerEvent:
        waiter = Waiter(self._question(), self.poke_interval, self.exponential_backoff, self.max_wait)
        self._still = "nothing has been asked yet"
        try:
            with board.joined(waiter):
                async with asyncio.timeout(self._seconds_left()):
                    return await self._outcome(waiter, stream)
        except TimeoutError:
            return _fired(status="timeout", message=f"At the end: {self._still}.")

    async def _outcome(self, waiter: Waiter, stream: AsyncIterator[Poll]) -> TriggerEvent:
        is_down = False
        async for poll in stream:
            found = poll.findings.get(waiter)
            match found:
                case None:
                    continue
                case Finding(ended=True):
                    return _fired(
                        status="ended",
                        ended_at=isoformat(datetime.now(UTC)),
                        waiting_since=self.waiting_since,
                        abandoned=[list(row[:2]) for row in found.abandoned],
                    )
                case Finding():
                    if is_down or found.why != self._still:
                        log.info("%sNot yet: %s.", "VoiceOS answers again. " if is_down else "", found.why)
                    self._still, is_down = found.why, False
                case VoiceOSError(retryable=False):
                    return _fired(status="failed", message=f"{type(found).__name__}: {found}")
                case _:
                    if not is_down:
                        log.warning("%s Waiting on, and asking every %g s.", found, self.poke_interval)
                    self._still, is_down = f"VoiceOS could not be asked: {found}", True
        raise RuntimeError("The stream of polls has ended, though somebody waits.")

    def _question(self) -> Question:
        max_age = None if self.max_age is None else timedelta(seconds=self.max_age)
        visibility_delay = timedelta(seconds=self.visibility_delay)
        if self.conversation_ids is not None:
            since = datetime.fromisoformat(self.waiting_since)
            return RollCall(tuple(self.conversation_ids), max_age, visibility_delay, since)
        interval = Interval.parse(self.interval_start, self.interval_end)
        return Window(interval, max_age, visibility_delay, self.min_conversations)

    def _seconds_left(self) -> float | None:
        if self.deadline is None:
            return None
        return max(0.0, datetime.fromisoformat(self.deadline).timestamp() - time.time())


def _fired(**payload: Any) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]
