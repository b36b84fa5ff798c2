"""Trigger of the sensor: waits in the triggerer, where one process serves a thousand tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.triggers import SHORTEST_INTERVAL, load_client, serialized

if TYPE_CHECKING:
    from voiceos_provider.polling.conditions import Condition
    from voiceos_provider.triggers.poll_stream import Poll, SharedPoll

_UNEXPECTED_ERRORS = 5

log = logging.getLogger(__name__)


class VoiceOSConversationsEndedTrigger(BaseEventTrigger):
    """Fire once: when the conversations have ended, at the deadline, or on an error that waiting does not resolve.

    On Airflow 3.3 and later all triggers with one connection and one `poke_interval` share their polls; see
    `voiceos_provider.polling.shared_poll` for the requests of a poll. Before that each trigger polls alone.

    Created by the sensor, with its parameters as plain values: instants as RFC 3339 text, spans in seconds; the token
    stays in the Connection. The payload of the event is a dict whose ``status`` is ``ended``, ``timeout``, ``failed``
    (non-retryable) or ``error`` (retryable).

    :param unconfirmed: whether the sensor has found no open conversation, and one more poll has to agree
    :param waiting_since: when the task began to wait
    :param deadline: when to stop waiting
    """

    # Tasks defer to it; Airflow keeps only triggers that watch assets from the queues of triggerers.
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
        unconfirmed: bool = False,
        poke_interval: float = 60.0,
        waiting_since: str,
        deadline: str,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.voiceos_conn_id = voiceos_conn_id
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.conversation_ids = conversation_ids
        self.max_age = max_age
        self.visibility_delay = visibility_delay
        self.min_conversations = min_conversations
        self.unconfirmed = unconfirmed
        self.poke_interval = max(poke_interval, SHORTEST_INTERVAL)
        self.waiting_since = waiting_since
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return everything that another triggerer needs to go on."""
        return serialized(self)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for this task alone: before Airflow 3.3, and in `dag.test`."""
        await load_client()
        from voiceos_provider.triggers.poll_stream import SharedPoll, polls

        alone = SharedPoll()
        async with aclosing(polls(alone, self.voiceos_conn_id, self.poke_interval)) as stream:
            yield await self._event(alone, stream)

    def shared_stream_key(self) -> Hashable | None:
        """Return what triggers that share polls have in common."""
        return ("voiceos", self.voiceos_conn_id, self.poke_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Poll]:
        """Poll for all triggers with one key."""
        await load_client()
        from voiceos_provider.triggers.poll_stream import polls, shared

        one = cls(**kwargs)
        stream = polls(shared[one.shared_stream_key()], one.voiceos_conn_id, one.poke_interval)
        async with aclosing(stream):
            async for poll in stream:
                yield poll

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Poll]) -> AsyncIterator[TriggerEvent]:
        """Fire on the poll that ends this wait."""
        await load_client()
        from voiceos_provider.triggers.poll_stream import shared

        yield await self._event(shared[self.shared_stream_key()], shared_stream)

    async def _event(self, shared_poll: SharedPoll, stream: AsyncIterator[Poll]) -> TriggerEvent:
        self._reason = "not checked yet"
        try:
            condition = self._condition()
            left = datetime.fromisoformat(self.deadline) - datetime.now(UTC)
            with shared_poll.joined(condition, unconfirmed=self.unconfirmed):
                async with asyncio.timeout(max(left.total_seconds(), 0.0)):
                    payload = await self._result(condition, stream)
        except TimeoutError:
            payload = {"status": "timeout", "message": f"Last poll: {self._reason}."}
        except VoiceOSError as error:
            payload = {"status": "failed", "message": f"{type(error).__name__}: {error}"}
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]

    async def _result(self, condition: Condition, stream: AsyncIterator[Poll]) -> dict[str, Any]:
        from voiceos_provider.polling.conditions import Result

        last_error: Exception | None = None
        unexpected = 0
        async for poll in stream:
            match poll.get(condition):
                case None:
                    continue
                case Result(state="ended", abandoned=abandoned):
                    rows = [list(row[:2]) for row in abandoned]
                    return {"status": "ended", "waiting_since": self.waiting_since, "abandoned": rows}
                case Result(reason=reason):
                    if last_error or reason != self._reason:
                        again = "VoiceOS responds again. " if last_error else ""
                        log.info("%sNot ended yet: %s.", again, reason)
                    self._reason, last_error, unexpected = reason, None, 0
                case VoiceOSError(retryable=False) as error:
                    raise error
                case error:
                    expected = isinstance(error, VoiceOSError)
                    if type(error) is not type(last_error):
                        message = "%s Waiting; the next poll follows in %g s."
                        log.warning(message, error, self.poke_interval, exc_info=None if expected else error)
                    self._reason, last_error = f"VoiceOS did not respond: {error}", error
                    unexpected = 0 if expected else unexpected + 1
                    if unexpected == _UNEXPECTED_ERRORS:
                        message = f"Unexpected error in {unexpected} polls one after another: {error!r}. "
                        return {"status": "error", "message": f"{message}The log above has the traceback."}
        raise RuntimeError("The stream of polls has ended while a task waits.")

    def _condition(self) -> Condition:
        from voiceos_provider.polling.conditions import IdsCondition, IntervalCondition

        max_age = None if self.max_age is None else timedelta(seconds=self.max_age)
        visibility_delay = timedelta(seconds=self.visibility_delay)
        if self.conversation_ids is not None:
            since = datetime.fromisoformat(self.waiting_since)
            return IdsCondition(tuple(self.conversation_ids), max_age, visibility_delay, since)
        interval = Interval.parse(self.interval_start, self.interval_end)
        return IntervalCondition(interval, max_age, visibility_delay, self.min_conversations)
