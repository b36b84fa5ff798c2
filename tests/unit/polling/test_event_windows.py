"""Events of a watcher: each conversation once it has ended, whatever happens in between."""

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
from voiceos_provider.interval import Interval
from voiceos_provider.polling.drivers import ServerClock, run
from voiceos_provider.polling.event_windows import Cursor, EventWindows, Progress, Reported
from voiceos_provider.polling.queries import require_empty_future

DAY = datetime(2026, 11, 2, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
WINDOWS = EventWindows(MINUTE, visibility_delay=MINUTE, max_age=HOUR)


def poll(api: Any, cursor: Cursor, now: datetime, polls: int = 2) -> Progress:
    """Return the progress of some polls, without the windows that have ended before the last one."""
    for _ in range(polls - 1):
        cursor = api.run(WINDOWS.poll(cursor, now, Reported())).cursor
    return api.run(WINDOWS.poll(cursor, now, Reported()))


def test_an_event_follows_when_two_polls_find_no_open_call(api: Any, world: World, clock: Any) -> None:
    """Not before; and minutes that follow one another share an event."""
    ids = [
        add(world, created=NOON + s * MINUTE, started=NOON + s * MINUTE, ended=NOON + 5 * MINUTE)
        for s in range(3)
    ]
    clock.now = NOON + 4 * MINUTE
    progress = poll(api, Cursor(NOON), clock.now, polls=3)
    assert progress.events == ()
    clock.now = NOON + 5 * MINUTE
    progress = poll(api, progress.cursor, clock.now, polls=1)
    assert progress.events == ()
    progress = poll(api, progress.cursor, clock.now, polls=1)
    ((ended, cursor),) = progress.events
    assert ended.as_dict() == {
        "interval_start": "2026-11-02T12:00:00Z",
        "interval_end": "2026-11-02T12:04:00Z",
        "counts": {"ended": 3, "abandoned": 0},
        "conversation_ids": ids[::-1],
        "abandoned": [],
    }
    assert cursor == progress.cursor == Cursor(NOON + 4 * MINUTE)


def test_a_call_in_an_unknown_state_delays_only_its_own_minute(api: Any, world: World, clock: Any) -> None:
    """The requests for documented states do not return it, the listing does."""
    ids = [
        add(world, created=NOON + s * MINUTE, started=NOON + s * MINUTE, ended=NOON + s * MINUTE)
        for s in range(4)
    ]
    world.set_status(ids[1], "paused")
    clock.now = NOON + 5 * MINUTE
    cursor = poll(api, Cursor(NOON), clock.now, polls=1).cursor
    progress = poll(api, cursor, clock.now, polls=1)
    assert sum(len(ended.rows) for ended, _ in progress.events) == 3
    assert progress.cursor.unconfirmed == (Interval(NOON + MINUTE, NOON + 2 * MINUTE),)


def test_a_long_call_delays_only_its_own_minute(api: Any, world: World, clock: Any) -> None:
    """Events of later minutes are not delayed; the call itself is abandoned at its maximum age."""
    long = add(world, created=NOON + 90 * timedelta(seconds=1))
    short = add(world, created=NOON + 3 * MINUTE, ended=NOON + 3 * MINUTE, started=NOON + 3 * MINUTE)
    cursor, events, reported = Cursor(NOON), [], Reported()
    for minute in range(70):
        clock.now = NOON + minute * MINUTE
        progress = api.run(WINDOWS.poll(cursor, clock.now, reported))
        cursor = Cursor.from_dict(json.loads(json.dumps(progress.cursor.as_dict())))
        events += [
            (minute, ended.as_dict()["conversation_ids"], ended.as_dict()["abandoned"])
            for ended, _ in progress.events
        ]
    assert events == [(6, [short], []), (62, [], [long])]


def test_minutes_without_a_call_cause_no_event(api: Any, clock: Any) -> None:
    """And a night of them costs three requests a minute."""
    progress = poll(api, Cursor(NOON - 2 * HOUR), clock.now)
    assert (progress.events, progress.cursor) == ((), Cursor(NOON - MINUTE))
    cursor = poll(api, progress.cursor, clock.advance(minutes=1), polls=1).cursor
    api.sent()
    poll(api, cursor, clock.advance(minutes=1), polls=1)
    assert [status for status, _ in api.sent()] == [None, "queued", "started"]


def test_a_watcher_that_starts_again_catches_up(api: Any, world: World, clock: Any) -> None:
    """In long windows where all calls are too old to be waited for, and in short ones elsewhere."""
    for minutes in range(0, 720, 5):
        at = DAY + minutes * MINUTE
        add(world, created=at, started=at, ended=at)
    running = add(world, created=NOON - 10.5 * MINUTE)
    first = poll(api, Cursor(DAY), clock.now, polls=1)
    second = poll(api, first.cursor, clock.now, polls=1)
    events = [ended for progress in (first, second) for ended, _ in progress.events]
    assert sum(len(ended.rows) for ended in events) == 144
    assert [window.start for window in second.cursor.open] == [NOON - 11 * MINUTE]
    assert running not in {row.id for ended in events for row in ended.rows}
    assert {ended.interval.end - ended.interval.start for ended, _ in first.events} == {15 * MINUTE}


def test_an_outage_loses_nothing(api: Any, world: World, clock: Any) -> None:
    """Neither before open calls are found, nor before the listing is read."""
    id_ = add(world, created=NOON - HOUR / 2, started=NOON - HOUR / 2, ended=NOON)
    cursor, reported = Cursor(NOON - HOUR), Reported()
    for fails in (True, False, True, False):
        if fails:
            api.emulator.faults.add(Fault.server_error())
        progress = api.run(WINDOWS.poll(cursor, clock.now, reported))
        assert isinstance(progress.error, VoiceOSServerError) == fails
        cursor = progress.cursor
        api.emulator.faults.clear()
        if progress.events:
            break
    ((ended, _),) = progress.events
    assert ended.as_dict()["conversation_ids"] == [id_]


def test_a_clock_that_is_fast_here_or_there_loses_nothing(world: World) -> None:
    """An event is read when its calls are visible by both clocks."""
    for skew_here, skew_there in ((90, 0), (0, 90), (-90, 0), (0, -90)):
        true_time = [NOON]
        emulator = Emulator(
            World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1)),
            clock=lambda: true_time[0],  # noqa: B023
            visible_after=timedelta(seconds=50),
            clock_skew=timedelta(seconds=skew_there),
        )
        ids = [
            add(emulator.world, created=at, started=at, ended=at)
            for at in (NOON + n * timedelta(seconds=30) for n in range(60))
        ]
        connection = ClientConfig(
            token=emulator.token, base_url="http://emulator", retry=Retry(max_attempts=1)
        )
        clock = ServerClock(lambda: true_time[0] + timedelta(seconds=skew_here))  # noqa: B023
        found: list[str | None] = []
        with VoiceOSClient(connection, transport=emulator.transport()) as client:
            run(client, require_empty_future(), clock)
            cursor, reported = Cursor(min(clock.now(), NOON) - MINUTE), Reported()
            for _ in range(40):
                progress = run(client, WINDOWS.poll(cursor, clock.now(), reported), clock)
                cursor = progress.cursor
                found += [row.id for ended, _ in progress.events for row in ended.rows]
                true_time[0] += MINUTE
        assert sorted(found) == sorted(ids), (skew_here, skew_there)


@given(
    lives=st.lists(
        st.tuples(st.integers(0, 3600), st.one_of(st.none(), st.integers(0, 1800)), st.integers(0, 2400)),
        max_size=12,
    ),
    steps=st.lists(st.integers(10, 900), min_size=1, max_size=30),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_each_conversation_is_in_an_event_once_it_has_ended(lives, steps, data) -> None:
    """At least once, over random conversations, outages and crashes; without a crash, exactly once."""
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
    reported = Reported()
    events: list[tuple[str, datetime, bool]] = []
    crashed = False
    with VoiceOSClient(connection, transport=emulator.transport()) as client:
        for step in [*steps, 3 * 3600, 60, 60]:
            clock[0] += timedelta(seconds=step)
            last = step in (3 * 3600, 60)
            if not last and data.draw(st.booleans(), label="outage"):
                nth = emulator.faults._counted["list"] + data.draw(st.integers(1, 6))
                emulator.faults.add(Fault.server_error(), at=[nth])
            progress = run(client, WINDOWS.poll(cursor, clock[0], reported), ServerClock())
            emulator.faults.clear()
            for ended, then in progress.events:
                payload = ended.as_dict()
                events += [(id_, clock[0], True) for id_ in payload["conversation_ids"]]
                events += [(id_, clock[0], False) for id_ in payload["abandoned"]]
                if data.draw(st.booleans(), label="stored"):
                    stored = then
            cursor = progress.cursor
            if not last and data.draw(st.booleans(), label="crash"):
                cursor, reported, crashed = stored, Reported(), True
    for id_, at, has_ended in events:
        assert has_ended == (ends[id_] is not None and ends[id_] <= at)
        assert has_ended or at - world.created_at(id_) >= HOUR
    assert {id_ for id_, _, _ in events} == ends.keys()
    if not crashed:
        assert len(events) == len(ends)
