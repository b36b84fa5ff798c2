"""Triggers: of the sensor, and of an asset watcher.

A triggerer loads this module on its event loop, so it imports no heavy package: a thread loads the client.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import Interval, as_duration

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

    from voiceos_provider.polling.conditions import Condition
    from voiceos_provider.polling.event_windows import EventWindows
    from voiceos_provider.triggers.poll_stream import Poll, SharedPoll

_CURSOR = "voiceos_cursor"
_SHORTEST_INTERVAL = 0.1
_UNEXPECTED_ERRORS = 5

log = logging.getLogger(__name__)


class _PollingTrigger(BaseEventTrigger):
    """Trigger that keeps its arguments in attributes of the same names."""

    def __init__(self, voiceos_conn_id: str, poke_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.voiceos_conn_id = voiceos_conn_id
        self.poke_interval = max(poke_interval, _SHORTEST_INTERVAL)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer needs. To Airflow, a different value is another watcher."""
        kind = type(self)
        arguments = {name: getattr(self, name) for name in inspect.signature(kind).parameters}
        return f"{kind.__module__}.{kind.__qualname__}", arguments


class VoiceOSConversationsEndedTrigger(_PollingTrigger):
    """Fire once: when the conversations have ended, at the deadline, or on an error that waiting does not resolve.

    On Airflow 3.3 and later all triggers with one connection and one `poke_interval` share their polls; see
    `voiceos_provider.polling.conditions` for the requests of a poll. Before that each trigger polls alone.

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
        super().__init__(voiceos_conn_id, poke_interval)
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.conversation_ids = conversation_ids
        self.max_age = max_age
        self.visibility_delay = visibility_delay
        self.min_conversations = min_conversations
        self.unconfirmed = unconfirmed
        self.waiting_since = waiting_since
        self.deadline = deadline

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for this task alone: before Airflow 3.3, and in `dag.test`."""
        await _load_client()
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
        await _load_client()
        from voiceos_provider.triggers.poll_stream import polls, shared

        one = cls(**kwargs)
        stream = polls(shared[one.shared_stream_key()], one.voiceos_conn_id, one.poke_interval)
        async with aclosing(stream):
            async for poll in stream:
                yield poll

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Poll]) -> AsyncIterator[TriggerEvent]:
        """Fire on the poll that ends this wait."""
        await _load_client()
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
                    if type(error) is not type(last_error):
                        _log_failure(error, self.poke_interval)
                    self._reason, last_error = f"VoiceOS did not respond: {error}", error
                    unexpected = 0 if isinstance(error, VoiceOSError) else unexpected + 1
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


_stores: dict[Hashable, Any] = {}
"""The asset state of each running watcher: Airflow creates the producer, but does not pass the state to it."""


class VoiceOSConversationsEndedEventTrigger(_PollingTrigger):
    """Fire when all conversations created in a window have ended, for the `AssetWatcher` of an asset.

    Each event covers an interval of creation time in which all conversations have ended or are older than `max_age`.
    The intervals leave no gaps, but events may be out of order: a long call delays only its own window. An interval
    without conversations causes no event. The payload holds ``interval_start`` and ``interval_end``, as the
    operators take them, ``counts``, ``conversation_ids`` and ``abandoned``: no personal data.

    Events are delivered at least once. On Airflow 3.3 and later the asset's state keeps the cursor, which advances
    only after Airflow has stored an event; before that, a restarted triggerer repeats the last `lookback`.

    :param voiceos_conn_id: the Connection of the VoiceOS API
    :param poke_interval: time between polls, and length of an interval. All times are ``timedelta`` or seconds
    :param max_age: age at which an open conversation counts as ``abandoned``
    :param visibility_delay: how long a new conversation may be missing from listings; one that appears later is in no
        event
    :param lookback: time before the first start that the first events cover
    """

    def __init__(
        self,
        *,
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        poke_interval: timedelta | float = 60.0,
        max_age: timedelta | float = 3 * 3600.0,
        visibility_delay: timedelta | float = 60.0,
        lookback: timedelta | float = 3600.0,
    ) -> None:
        super().__init__(voiceos_conn_id, as_duration("poke_interval", poke_interval).total_seconds())
        self.max_age = as_duration("max_age", max_age).total_seconds()
        self.visibility_delay = as_duration("visibility_delay", visibility_delay).total_seconds()
        self.lookback = as_duration("lookback", lookback).total_seconds()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire before Airflow 3.3, where nothing keeps a cursor."""
        async with aclosing(self.watch(None)) as stream:
            async for payload, _ in stream:
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    def shared_stream_key(self) -> Hashable | None:
        """Return a key of its own: to Airflow, two watchers with the same arguments are one trigger."""
        return ("voiceos events", *self.serialize()[1].values())

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return a producer that Airflow notifies when an event is stored, so that the cursor can advance."""
        return _producer(cls(**kwargs))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Fire the events of the producer."""
        key = self.shared_stream_key()
        _stores[key] = self.asset_state_store
        try:
            async for payload in shared_stream:
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
        finally:
            _stores.pop(key, None)

    async def watch(self, stored: Any) -> AsyncGenerator[tuple[dict[str, Any] | None, dict[str, Any]]]:
        """Poll without end, and yield each payload with the cursor that is valid once its event is stored.

        Where only the cursor advances, the payload is None. An earlier watch yielded the stored cursor, if any.
        """
        await _load_client()
        from voiceos_provider.triggers.poll_stream import Poller

        poller = Poller(self.voiceos_conn_id, self.poke_interval)
        clock, cursor = poller.clock, stored
        windows: EventWindows | None = None
        if stored:  # one that cannot be read ends the watch, and stays stored
            windows = self._windows(datetime.now(UTC))
            windows.restore(stored)
        last_error: type = type(None)
        while True:
            error: Exception | None = None
            try:
                async with poller.client() as client:
                    if clock.ahead is None:  # a clock that is fast here must not cut windows of the future
                        await client.require_empty_future()
                    if windows is None:
                        windows = self._windows(clock.now())
                    async with aclosing(windows.poll(client)) as payloads:
                        async for payload in payloads:
                            bounds = payload["interval_start"], payload["interval_end"]
                            log.info("All conversations created in [%s, %s) have ended.", *bounds)
                            yield payload, windows.cursor
            except Exception as failure:  # noqa: BLE001  it must not end the watch
                error = failure
            if windows and windows.cursor != cursor:
                cursor = windows.cursor
                yield None, cursor
            if error is not None and not (isinstance(error, VoiceOSError) and error.retryable):
                poller.config = None  # a mended Connection is used without a restart of the triggerer
            if type(error) is not last_error:
                last_error = type(error)
                if error is None:
                    log.info("VoiceOS responds again.")
                else:
                    _log_failure(error, self.poke_interval)
            wait = error.retry_after if isinstance(error, VoiceOSAPIError) else None
            await asyncio.sleep(max(self.poke_interval, wait or 0))

    def _windows(self, now: datetime) -> EventWindows:
        """Return the windows of a first start, which begins `lookback` ago."""
        from voiceos_provider.polling.event_windows import EventWindows

        return EventWindows(
            timedelta(seconds=self.poke_interval),
            visibility_delay=timedelta(seconds=self.visibility_delay),
            max_age=timedelta(seconds=self.max_age),
            head=now - timedelta(seconds=self.visibility_delay + self.lookback),
        )


def _log_failure(error: Exception, poke_interval: float) -> None:
    unexpected = None if isinstance(error, VoiceOSError) else error
    log.warning("%s Waiting; the next poll follows in %g s.", error, poke_interval, exc_info=unexpected)


def _producer(trigger: VoiceOSConversationsEndedEventTrigger) -> SharedStreamProducer:
    from airflow.triggers.shared_stream import SharedStreamProducer  # Airflow 3.3

    class Producer(SharedStreamProducer):
        """Yields payloads, and keeps the cursor in the asset's state once Airflow has stored the event."""

        _store: Any = None

        async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
            self._store = _stores.get(trigger.shared_stream_key())
            async with aclosing(trigger.watch(await self._stored())) as stream:
                async for payload, cursor in stream:
                    yield payload, cursor

        async def advance(self, batch: Sequence[AdvanceItem]) -> None:
            if not all(item.outcome.is_clean for item in batch):
                # Ends the stream. Airflow starts the trigger again, which goes on from the cursor in the state.
                raise RuntimeError("An event was not stored; the trigger repeats it.")
            if self._store is not None:
                await self._store.aset(_CURSOR, batch[-1].broker_payload)

        async def _stored(self) -> Any:
            if self._store is None:
                return None
            try:
                return await self._store.aget(_CURSOR)
            except ValueError:
                log.warning(
                    "Several assets share one VoiceOS trigger, so no state can keep its cursor, and a restart repeats "
                    "the last %g s. Give their triggers different arguments.",
                    trigger.lookback,
                )
                self._store = None
                return None

    return Producer()


async def _load_client() -> None:
    """Import the client in a thread, because the import takes a second and would block the event loop."""
    await asyncio.to_thread(importlib.import_module, "voiceos_provider.triggers.poll_stream")
