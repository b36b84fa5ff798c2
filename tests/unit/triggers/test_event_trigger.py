"""Trigger of a watcher, run as by a triggerer of Airflow 3.3, and of earlier versions."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.lifecycles import add, end
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedEventTrigger, _stores

MINUTE = timedelta(minutes=1)
SECONDS = timedelta(seconds=1)


class Store:
    """The state of an asset, which a triggerer keeps in the metadata database."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else None

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = json.dumps(value)

    @property
    def cursor(self) -> Any:
        (stored,) = self.kept.values()
        return json.loads(stored)


class StoreOfTwo(Store):
    """The store that Airflow injects if two assets share a trigger."""

    async def aget(self, key: str) -> Any:
        raise ValueError("Task has 2 concrete inlets and outlets")


def trigger(store: Store | None = None, **arguments: Any) -> VoiceOSConversationsEndedEventTrigger:
    """Return a watcher that polls without pauses and has a lookback of ten minutes."""
    made = VoiceOSConversationsEndedEventTrigger(
        **({"poke_interval": 0.1, "lookback": 600.0, "visibility_delay": 1.0, "max_age": 3600.0} | arguments)
    )
    made.asset_state_store = store
    return made


class Triggerer:
    """One run of a watcher in a triggerer of Airflow 3.3; it ends as if killed."""

    def __init__(self, trigger: VoiceOSConversationsEndedEventTrigger) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        self.manager = SharedStreamManager()
        self.trigger = trigger
        self.events: list[Any] = []
        self._unconfirmed: list[int] = []

    async def __aenter__(self) -> Triggerer:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        key = self.trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=1, trigger=self.trigger, key=key)
        try:
            async for event in self.trigger.filter_shared_stream(stream):
                self.events.append(event.payload)
                sequence = self.manager.bind_pending_event(trigger_id=1, key=key)
                assert sequence is not None
                self._unconfirmed.append(sequence)
        finally:
            await self.manager.unsubscribe(1, key)

    def store_events(self) -> None:
        """Confirm the events, as the supervisor does a second later."""
        self.manager.confirm_persisted(self._unconfirmed)
        self._unconfirmed.clear()

    async def until(self, true: Any) -> None:
        """Wait with a limit."""
        async with asyncio.timeout(60):
            while not true():
                assert not self._task.done(), self._task
                await asyncio.sleep(0.02)


@pytest.fixture
def calls(world: World, now: datetime) -> tuple[str, str]:
    """Return a call that has ended, and one that goes on."""
    ended = add(world, created=now - 5 * MINUTE, started=now - 5 * MINUTE, ended=now - 4 * MINUTE)
    return ended, add(world, created=now - 2 * MINUTE, started=now - 2 * MINUTE)


def test_cursor_follows_once_an_event_is_stored(api: Emulator, world: World, calls: tuple[str, str]) -> None:
    """After a kill the triggerer continues from the stored cursor, and repeats nothing."""
    store = Store()

    async def first() -> None:
        async with Triggerer(trigger(store)) as triggerer:
            await triggerer.until(lambda: triggerer.events)
            before = store.cursor
            assert before["unconfirmed"]
            triggerer.store_events()
            await triggerer.until(lambda: store.cursor != before)
            assert triggerer.events[0]["conversation_ids"] == [calls[0]]

    async def second() -> None:
        async with Triggerer(trigger(store)) as triggerer:
            await triggerer.until(lambda: len(api.requests) > asked + 8)
            assert triggerer.events == []
            end(world, calls[1], datetime.now(UTC))
            await triggerer.until(lambda: triggerer.events)
            assert triggerer.events[0]["conversation_ids"] == [calls[1]]
            assert triggerer.events[0]["counts"] == {"ended": 1, "abandoned": 0}

    asyncio.run(first())
    assert store.cursor["open"]
    asked = len(api.requests)
    asyncio.run(second())
    assert _stores == {}


def test_invalid_cursor_ends_the_watch(api: Emulator) -> None:
    """It stays stored, because restarting at the present would lose events."""
    store = Store()
    cursor = {"head": "2026-11-01T00:00:00Z", "open": [["not a time"]], "unconfirmed": [], "unchecked": []}

    async def watch() -> None:
        await store.aset("voiceos_cursor", cursor)
        async for _ in trigger(store).watch(cursor):
            pass

    with pytest.raises(ValueError, match="not a time"):
        asyncio.run(asyncio.wait_for(watch(), 10))
    assert store.cursor == cursor


def test_event_that_was_not_stored_is_repeated(api: Emulator, calls: tuple[str, str]) -> None:
    """The triggerer dies in between."""
    store, reported = Store(), []

    async def run() -> None:
        async with Triggerer(trigger(store)) as triggerer:
            await triggerer.until(lambda: triggerer.events)
            reported.extend(triggerer.events[0]["conversation_ids"])

    asyncio.run(run())
    assert store.cursor["unconfirmed"]
    asyncio.run(run())
    assert reported == [calls[0]] * 2


def test_warning_names_assets_that_share_a_trigger(
    api: Emulator, calls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow cannot determine whose state is meant; events are still sent."""

    async def run() -> None:
        async with Triggerer(trigger(StoreOfTwo())) as triggerer:
            await triggerer.until(lambda: triggerer.events)
            triggerer.store_events()

    asyncio.run(run())
    assert "Give their triggers different arguments" in caplog.text


def test_before_airflow_3_3_each_start_looks_back(api: Emulator, calls: tuple[str, str]) -> None:
    """Airflow and `dag.test` call `run` there."""

    async def first_event() -> Any:
        async with aclosing(trigger().run()) as events:
            return (await anext(events)).payload

    assert [asyncio.run(first_event())["conversation_ids"] for _ in range(2)] == [[calls[0]]] * 2
    assert asyncio.run(first_event()).keys() == {
        "interval_start", "interval_end", "counts", "conversation_ids", "abandoned",
    }  # fmt: skip


def test_outage_does_not_end_the_watch(
    api: Emulator, calls: tuple[str, str], connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A rejected token does not either; each is logged once."""
    api.faults.add(Fault.server_error(), at=[1, 2])
    api.faults.add(Fault.unauthorized(), at=[3])

    async def run() -> None:
        async with Triggerer(trigger(Store())) as triggerer:
            await triggerer.until(lambda: triggerer.events)

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    reported = [r.getMessage() for r in caplog.records if r.name.endswith("triggers.voiceos")]
    assert sum("500" in line for line in reported) == 1
    assert sum("401" in line for line in reported) == 1
    assert "VoiceOS responds again." in reported


def test_trigger_is_equal_at_each_parse() -> None:
    """Airflow would restart a trigger that differs."""
    from airflow.triggers.base import BaseEventTrigger

    first, second = trigger().serialize(), trigger().serialize()
    assert BaseEventTrigger.hash(*first) == BaseEventTrigger.hash(*second)
    assert json.loads(json.dumps(first[1])) == first[1]
    spans = {"max_age": timedelta(hours=1), "poke_interval": timedelta(seconds=0.1), "lookback": 10 * MINUTE}
    assert trigger(**spans).serialize() == first
    assert trigger(max_age=1.0).shared_stream_key() != trigger().shared_stream_key()
