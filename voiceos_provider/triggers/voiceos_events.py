"""Trigger of an asset watcher: starts DAGs when conversations have ended, on Airflow 3."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import as_duration
from voiceos_provider.triggers import SHORTEST_INTERVAL, load_client, serialized

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

_CURSOR = "voiceos_cursor"

_stores: dict[Hashable, Any] = {}
"""The asset state of each running watcher: Airflow creates the producer, but does not pass the state to it."""

log = logging.getLogger(__name__)


class VoiceOSConversationsEndedEventTrigger(BaseEventTrigger):
    """Fire whenever all conversations of some minutes have ended, for the `AssetWatcher` of an asset.

    Each event covers an interval of creation time in which all conversations have ended or are older than `max_age`.
    The intervals have no gaps between them, but come out of order: a long call delays its own minutes only. An
    interval without conversations causes no event. The payload holds ``interval_start`` and ``interval_end``, as the
    operators take them, ``counts``, ``conversation_ids`` and ``abandoned``: no personal data.

    Events are delivered at least once. On Airflow 3.3 and later the asset's state keeps the cursor, which advances
    only after Airflow has stored an event; before that, a restarted triggerer repeats the last `lookback`.

    :param voiceos_conn_id: the Connection of the VoiceOS API
    :param poke_interval: time between polls, and length of an interval. All times are ``timedelta`` or seconds
    :param max_age: age from which on an open conversation is not waited for, but ``abandoned``
    :param visibility_delay: time after its creation in which a conversation may be missing from listings; one that
        appears later is in no event
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
        super().__init__()  # type: ignore[no-untyped-call]
        self.voiceos_conn_id = voiceos_conn_id
        self.poke_interval = max(
            as_duration("poke_interval", poke_interval).total_seconds(), SHORTEST_INTERVAL
        )
        self.max_age = as_duration("max_age", max_age).total_seconds()
        self.visibility_delay = as_duration("visibility_delay", visibility_delay).total_seconds()
        self.lookback = as_duration("lookback", lookback).total_seconds()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return equal values at each parse of the DAG; to Airflow, a different trigger is another watcher."""
        return serialized(self)

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

        Where only the cursor advances, the payload is None.

        :param stored: a cursor that an earlier watch yielded, or None
        """
        await load_client()
        from voiceos_provider.polling.event_windows import EventWindows
        from voiceos_provider.triggers.poll_stream import Poller

        poller = Poller(self.voiceos_conn_id, self.poke_interval)
        clock, windows, cursor = poller.clock, None, stored
        last_error: type = type(None)
        while True:
            error: Exception | None = None
            try:
                async with poller.client() as client:
                    if clock.ahead is None:  # a clock that is fast here must not cut windows of the future
                        await client.require_empty_future()
                    if windows is None:
                        head = clock.now() - timedelta(seconds=self.visibility_delay + self.lookback)
                        windows = EventWindows(
                            timedelta(seconds=self.poke_interval),
                            visibility_delay=timedelta(seconds=self.visibility_delay),
                            max_age=timedelta(seconds=self.max_age),
                            head=head,
                        )
                        if stored:
                            windows.restore(stored)
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
                poller.forget()  # a mended Connection is used without a restart of the triggerer
            if type(error) is not last_error:
                last_error = type(error)
                _log(error)
            wait = error.retry_after if isinstance(error, VoiceOSAPIError) else None
            await asyncio.sleep(max(self.poke_interval, wait or 0))


def _log(error: Exception | None) -> None:
    if error is None:
        log.info("VoiceOS responds again.")
    elif isinstance(error, VoiceOSError):
        log.warning("%s", error)
    else:
        log.error("Unexpected error in a poll; the next poll tries again.", exc_info=error)


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
