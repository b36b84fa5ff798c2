"""What a watcher tells: each conversation once it has ended, whatever happens in between."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.lifecycles import add
from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSServerError
from voiceos_provider.polling.drivers import look
from voiceos_provider.polling.event_windows import Cursor, Slicing

DAY = datetime(2026, 11, 2, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SLICING = Slicing(MINUTE, visibility_delay=MINUTE, max_age=HOUR)


def test_a_minute_is_told_when_its_calls_have_ended(api: Any, world: World, clock: Any) -> None:
    """Not before; and minutes that follow one another are told together."""
    ids = [
        add(world, created=NOON + s * MINUTE, started=NOON + s * MINUTE, ended=NOON + 5 * MINUTE)
        for s in range(3)
    ]
    clock.now = NOON + 4 * MINUTE
    progress = api.look(SLICING.look(Cursor(NOON), clock.now))
    assert progress.told == ()
    clock.now = NOON + 5 * MINUTE
    progress = api.look(SLICING.look(progress.cursor, clock.now))
    ((ended, cursor),) = progress.told
    assert ended.as_dict() == {
        "interval_start": "2026-11-02T12:00:00Z",
        "interval_end": "2026-11-02T12:04:00Z",
        "counts": {"ended": 3, "abandoned": 0},
        "conversation_ids": ids[::-1],
        "abandoned": [],
    }
    assert cursor == progress.cursor == Cursor(NOON + 4 * MINUTE)


def test_a_long_call_keeps_only_its_own_minute_waiting(api: Any, world: World, clock: Any) -> None:
    """What comes after it is told at once; it is itself let go of at its maximum age."""
    long = add(world, created=NOON + 90 * timedelta(seconds=1))
    short = add(world, created=NOON + 3 * MINUTE, ended=NOON + 3 * MINUTE, started=NOON + 3 * MINUTE)
    cursor, told = Cursor(NOON), []
    for minute in range(70):
        clock.now = NOON + minute * MINUTE
        progress = api.look(SLICING.look(cursor, clock.now))
        cursor = Cursor.from_dict(json.loads(json.dumps(progress.cursor.as_dict())))
        told += [
            (minute, ended.as_dict()["conversation_ids"], ended.as_dict()["abandoned"])
            for ended, _ in progress.told
        ]
    assert told == [(5, [short], []), (62, [], [long])]


def test_nothing_is_told_of_minutes_without_a_call(api: Any, clock: Any) -> None:
    """And a night of them costs three requests a minute."""
    progress = api.look(SLICING.look(Cursor(NOON - 2 * HOUR), clock.now))
    assert (progress.told, progress.cursor) == ((), Cursor(NOON - MINUTE))
    api.asked()
    api.look(SLICING.look(progress.cursor, clock.advance(minutes=1)))
    assert [status for status, _ in api.asked()] == ["queued", "started", None]


def test_a_watcher_that_comes_back_tells_what_it_has_missed(api: Any, world: World, clock: Any) -> None:
    """In long stretches where nobody is waited for any more, and in short ones where calls go on."""
    for minutes in range(0, 720, 5):
        at = DAY + minutes * MINUTE
        add(world, created=at, started=at, ended=at)
    running = add(world, created=NOON - 10.5 * MINUTE)
    progress = api.look(SLICING.look(Cursor(DAY), clock.now))
    told = [ended for ended, _ in progress.told]
    assert sum(len(ended.rows) for ended in told) == 144
    assert [part.start for part in progress.cursor.open] == [NOON - 11 * MINUTE]
    assert running not in {row.id for ended in told for row in ended.rows}
    assert {ended.interval.end - ended.interval.start for ended in told[:-4]} == {15 * MINUTE}


def test_an_outage_loses_nothing(api: Any, world: World, clock: Any) -> None:
    """Neither before it is known what is over, nor before it is known who was in it."""
    id_ = add(world, created=NOON - HOUR / 2, started=NOON - HOUR / 2, ended=NOON)
    api.emulator.faults.add(Fault.server_error(), at=[1, 4])
    cursor = Cursor(NOON - HOUR)
    for _ in range(2):
        progress = api.look(SLICING.look(cursor, clock.now))
        assert progress.told == ()
        assert isinstance(progress.error, VoiceOSServerError)
        cursor = progress.cursor
    (told, _), *_ = api.look(SLICING.look(cursor, clock.now)).told
    assert told.as_dict()["conversation_ids"] == [id_]


@given(
    lives=st.lists(
        st.tuples(st.integers(0, 3600), st.one_of(st.none(), st.integers(0, 1800)), st.integers(0, 2400)),
        max_size=12,
    ),
    steps=st.lists(st.integers(10, 900), min_size=1, max_size=30),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_each_conversation_is_told_once_it_has_ended_and_at_least_once(lives, steps, data) -> None:
    """Over random lives, outages and crashes; without a crash, exactly once."""
    world = World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1))
    ends: dict[str, datetime | None] = {}
    for created, started, lasts in lives:
        at = NOON + timedelta(seconds=created)
        begun = None if started is None else at + timedelta(seconds=started)
        end = None if begun is None else begun + timedelta(seconds=lasts)
        ends[add(world, created=at, started=begun, ended=end)] = end
    clock = [NOON]
    emulator = Emulator(world, clock=lambda: clock[0], visible_after=timedelta(seconds=50))
    connection = ClientConfig(
        token=emulator.token, base_url="http://emulator", page_size=3, retry=Retry(max_attempts=1)
    )
    stored = cursor = Cursor(NOON)
    told: list[tuple[str, datetime, bool]] = []
    crashed = False
    with VoiceOSClient(connection, transport=emulator.transport()) as client:
        for step in [*steps, 3 * 3600, 60, 60]:
            clock[0] += timedelta(seconds=step)
            last = step in (3 * 3600, 60)
            if not last and data.draw(st.booleans(), label="outage"):
                nth = emulator.faults._counted["list"] + data.draw(st.integers(1, 6))
                emulator.faults.add(Fault.server_error(), at=[nth])
            progress = look(client, SLICING.look(cursor, clock[0]))
            emulator.faults.clear()
            for ended, then in progress.told:
                payload = ended.as_dict()
                told += [(id_, clock[0], True) for id_ in payload["conversation_ids"]]
                told += [(id_, clock[0], False) for id_ in payload["abandoned"]]
                if data.draw(st.booleans(), label="stored"):
                    stored = then
            cursor = progress.cursor
            if not last and data.draw(st.booleans(), label="crash"):
                cursor, crashed = stored, True
    for id_, at, has_ended in told:
        assert has_ended == (ends[id_] is not None and ends[id_] <= at)
        assert has_ended or at - world.created_at(id_) >= HOUR
    assert {id_ for id_, _, _ in told} == ends.keys()
    if not crashed:
        assert len(told) == len(ends)
