"""Start DAGs when conversations have ended, on Airflow 3."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.polling.drivers import alook
from voiceos_provider.polling.event_windows import Cursor, Progress, Slicing
from voiceos_provider.triggers.polling import SHORTEST_INTERVAL, Poller

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

_CURSOR = "voiceos_cursor"

_stores: dict[Hashable, Any] = {}
"""The asset state of each watcher that runs: its producer is made by Airflow, without it."""

log = logging.getLogger(__name__)


class VoiceOSConversationsEndedEventTrigger(BaseEventTrigger):
    """Fire whenever all conversations of some minutes have ended, for the `AssetWatcher` of an asset.

    Each event is about an interval of creation time, in which all conversations have ended or were let go of; the
    intervals follow one another without a gap, though not in order, for a long call keeps its own minutes waiting and
    no others. An interval without a conversation brings no event. The payload holds ``interval_start`` and
    ``interval_end``, as the operators take them, ``counts``, ``conversation_ids`` and ``abandoned``: nothing personal.

    Each interval is told at least once. On Airflow 3.3 and later the asset's state keeps the cursor, which moves on
    only after Airflow has stored an event; before that, a triggerer that starts again tells the last `lookback` again.

    :param voiceos_conn_id: the Connection of the VoiceOS API
    :param poke_interval: seconds between polls, and the length of an interval
    :param max_age: seconds after which an open conversation is let go of
    :param visibility_delay: seconds that a conversation may take to show up; one that takes longer is in no event
    :param lookback: seconds before the first start from which on conversations count
    """

    def __init__(
        self,
        *,
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        poke_interval: float = 60.0,
        max_age: float = 3 * 3600.0,
        visibility_delay: float = 60.0,
        lookback: float = 3600.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.voiceos_conn_id = voiceos_conn_id
        self.poke_interval = max(poke_interval, SHORTEST_INTERVAL)
        self.max_age = max_age
        self.visibility_delay = visibility_delay
        self.lookback = lookback

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The same for every parse of the DAG, for Airflow takes another trigger for another watcher."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "voiceos_conn_id": self.voiceos_conn_id,
            "poke_interval": self.poke_interval,
            "max_age": self.max_age,
            "visibility_delay": self.visibility_delay,
            "lookback": self.lookback,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Before Airflow 3.3, where nothing keeps a cursor."""
        async with aclosing(self.watch(None)) as stream:
            async for payload, _ in stream:
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    def shared_stream_key(self) -> Hashable | None:
        """Its own: two watchers with the same arguments are one trigger to Airflow."""
        return ("voiceos events", *self.serialize()[1].values())

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Have Airflow say when an event is stored, so that the cursor can follow."""
        return _producer(cls(**kwargs))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Fire what the producer tells."""
        key = self.shared_stream_key()
        _stores[key] = self.asset_state_store
        try:
            async for payload in shared_stream:
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
        finally:
            _stores.pop(key, None)

    async def watch(
        self, stored: Any, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> AsyncGenerator[tuple[dict[str, Any] | None, dict[str, Any]]]:
        """Poll without end, and yield each payload with the cursor that holds once it is told.

        Where only the cursor moves, the payload is None.

        :param stored: a cursor that an earlier watch yielded, or None
        """
        visibility_delay = timedelta(seconds=self.visibility_delay)
        slicing = Slicing(
            timedelta(seconds=self.poke_interval), visibility_delay, timedelta(seconds=self.max_age)
        )
        cursor = (
            Cursor.from_dict(stored)
            if stored
            else Cursor(now() - visibility_delay - timedelta(seconds=self.lookback))
        )
        poller = Poller(self.voiceos_conn_id, self.poke_interval)
        told: type = type(None)
        while True:
            try:
                async with poller.client() as client:
                    progress = await alook(client, slicing.look(cursor, now()))
            except VoiceOSError as error:  # of the Connection
                progress = Progress((), cursor, error)
            except Exception as error:
                log.exception("A poll failed in a way that nobody foresaw.")
                progress = Progress((), cursor, error)
            for ended, then in progress.told:
                log.info("All conversations created in %s have ended.", ended.interval)
                yield ended.as_dict(), then.as_dict()
            if progress.cursor != cursor:
                cursor = progress.cursor
                yield None, cursor.as_dict()
            failed = progress.error
            if failed is not None and not (isinstance(failed, VoiceOSError) and failed.retryable):
                poller.forget()  # whoever mends the Connection need not restart the triggerer
            if type(failed) is not told:
                told = type(failed)
                (log.info if failed is None else log.warning)("%s", failed or "VoiceOS answers again.")
            wait = failed.retry_after if isinstance(failed, VoiceOSAPIError) else None
            await asyncio.sleep(max(self.poke_interval, wait or 0))


def _producer(trigger: VoiceOSConversationsEndedEventTrigger) -> SharedStreamProducer:
    from airflow.triggers.shared_stream import SharedStreamProducer  # Airflow 3.3

    class Producer(SharedStreamProducer):
        """Tells what has ended, and keeps the cursor in the asset's state once Airflow has stored it."""

        _store: Any = None

        async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
            self._store = _stores.get(trigger.shared_stream_key())
            async with aclosing(trigger.watch(await self._stored())) as stream:
                async for payload, cursor in stream:
                    yield payload, cursor

        async def advance(self, batch: Sequence[AdvanceItem]) -> None:
            if not all(item.outcome.is_clean for item in batch):
                # Ends the stream. Airflow starts the trigger again, which goes on from the cursor in the state.
                raise RuntimeError("An event was not stored; telling it again.")
            if self._store is not None:
                await self._store.aset(_CURSOR, batch[-1].broker_payload)

        async def _stored(self) -> Any:
            if self._store is None:
                return None
            try:
                return await self._store.aget(_CURSOR)
            except ValueError:
                log.warning(
                    "Several assets share one VoiceOS trigger, so no state can keep its cursor, and a restart tells "
                    "the last %g s again. Give their triggers different arguments.",
                    trigger.lookback,
                )
                self._store = None
                return None

    return Producer()
