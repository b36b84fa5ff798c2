"""Events of a watcher: each conversation after its end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.lifecycles import add
from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSError, VoiceOSServerError
from voiceos_provider.polling.event_windows import EventWindows
from voiceos_provider.polling.polling_client import PollingClient, ServerClock, run

DAY = datetime(2026, 11, 2, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def beginning(head: datetime) -> EventWindows:
    """Return the windows of a watch that begins at an instant."""
    return EventWindows(poke_interval=MINUTE, visibility_delay=MINUTE, max_age=HOUR, head=head)


def with_cursor(cursor: dict[str, Any]) -> EventWindows:
    """Return the windows of a watch that continues from a stored cursor."""
    windows = beginning(DAY)
    windows.restore(cursor)
    return windows


@dataclass
class Progress:
    """The payloads of one poll, the cursor after each, and the error that ended the poll."""

    events: list[dict[str, Any]] = field(default_factory=list)
    cursors: list[dict[str, Any]] = field(default_factory=list)
    error: VoiceOSError | None = None


def poll(client: VoiceOSClient, windows: EventWindows, clock: ServerClock) -> Progress:
    """Return the progress of one poll."""

    async def collect() -> Progress:
        progress = Progress()
        try:
            async for payload in windows.poll(PollingClient(client, clock)):
                progress.events.append(payload)
                progress.cursors.append(windows.cursor)
        except VoiceOSError as error:
            progress.error = error
        return progress

    return run(collect())


def test_event_follows_when_two_polls_find_no_open_call(api: Any, world: World, clock: Any) -> None:
    """Consecutive minutes share an event."""
    ids = [
        add(world, created=NOON + s * MINUTE, started=NOON + s * MINUTE, ended=NOON + 5 * MINUTE)
        for s in range(3)
    ]
    windows = beginning(NOON)
    clock.now = NOON + 4 * MINUTE
    assert [poll(api.client, windows, ServerClock(clock)).events for _ in range(3)] == [[], [], []]
    clock.now = NOON + 5 * MINUTE
    assert poll(api.client, windows, ServerClock(clock)).events == []
    progress = poll(api.client, windows, ServerClock(clock))
    assert progress.events == [
        {
            "interval_start": "2026-11-02T12:00:00Z",
            "interval_end": "2026-11-02T12:04:00Z",
            "counts": {"ended": 3, "abandoned": 0},
            "conversation_ids": ids[::-1],
            "abandoned": [],
        }
    ]
    nothing_due: dict[str, Any] = {"open": [], "unconfirmed": [], "unchecked": []}
    assert progress.cursors == [windows.cursor] == [{"head": "2026-11-02T12:04:00Z"} | nothing_due]


def test_call_in_an_undocumented_state_delays_only_its_minute(api: Any, world: World, clock: Any) -> None:
    """Only the listing returns it."""
    ids = [
        add(world, created=NOON + s * MINUTE, started=NOON + s * MINUTE, ended=NOON + s * MINUTE)
        for s in range(4)
    ]
    world.set_status(ids[1], "paused")
    clock.now = NOON + 5 * MINUTE
    windows = beginning(NOON)
    poll(api.client, windows, ServerClock(clock))
    progress = poll(api.client, windows, ServerClock(clock))
    assert sum(event["counts"]["ended"] for event in progress.events) == 3
    assert windows.cursor["unconfirmed"] == [["2026-11-02T12:01:00Z", "2026-11-02T12:02:00Z"]]


def test_long_call_delays_only_its_minute(api: Any, world: World, clock: Any) -> None:
    """It is abandoned at its maximum age."""
    long = add(world, created=NOON + 90 * timedelta(seconds=1))
    short = add(world, created=NOON + 3 * MINUTE, ended=NOON + 3 * MINUTE, started=NOON + 3 * MINUTE)
    windows, events = beginning(NOON), []
    for minute in range(70):
        clock.now = NOON + minute * MINUTE
        progress = poll(api.client, windows, ServerClock(clock))
        stored = json.loads(json.dumps(windows.cursor))
        assert with_cursor(stored).cursor == stored
        events += [(minute, event["conversation_ids"], event["abandoned"]) for event in progress.events]
    assert events == [(6, [short], []), (62, [], [long])]


def test_minutes_without_a_call_cause_no_event(api: Any, clock: Any) -> None:
    """Each costs three requests."""
    windows = beginning(NOON - 2 * HOUR)
    assert [poll(api.client, windows, ServerClock(clock)).events for _ in range(2)] == [[], []]
    assert windows.cursor == beginning(NOON - MINUTE).cursor
    clock.advance(minutes=1)
    poll(api.client, windows, ServerClock(clock))
    api.sent()
    clock.advance(minutes=1)
    poll(api.client, windows, ServerClock(clock))
    assert [status for status, _ in api.sent()] == [None, "queued", "started"]


def test_restarted_watcher_catches_up(api: Any, world: World, clock: Any) -> None:
    """Windows are long where all calls are too old to be waited for."""
    for minutes in range(0, 720, 5):
        at = DAY + minutes * MINUTE
        add(world, created=at, started=at, ended=at)
    running = add(world, created=NOON - 10.5 * MINUTE)
    windows = beginning(DAY)
    first, second = (poll(api.client, windows, ServerClock(clock)) for _ in range(2))
    ids = [id_ for event in first.events + second.events for id_ in event["conversation_ids"]]
    assert len(ids) == 144
    assert windows.cursor["open"] == [["2026-11-02T11:49:00Z", "2026-11-02T11:50:00Z"]]
    assert running not in ids
    lengths = {
        datetime.fromisoformat(event["interval_end"]) - datetime.fromisoformat(event["interval_start"])
        for event in first.events
    }
    assert lengths == {15 * MINUTE}


def test_outage_loses_nothing(api: Any, world: World, clock: Any) -> None:
    """It may come before the search for open calls or before the listing."""
    id_ = add(world, created=NOON - HOUR / 2, started=NOON - HOUR / 2, ended=NOON)
    windows = beginning(NOON - HOUR)
    for fails in (True, False, True, False):
        if fails:
            api.emulator.faults.add(Fault.server_error())
        progress = poll(api.client, windows, ServerClock(clock))
        assert isinstance(progress.error, VoiceOSServerError) == fails
        api.emulator.faults.clear()
        if progress.events:
            break
    (event,) = progress.events
    assert event["conversation_ids"] == [id_]


def test_fast_clock_loses_nothing(world: World) -> None:
    """An event is read when its calls are visible by the clocks of client and server."""
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
        found: list[str] = []
        with VoiceOSClient(connection, transport=emulator.transport()) as client:
            run(PollingClient(client, clock).require_empty_future())
            windows = beginning(min(clock.now(), NOON) - MINUTE)
            for _ in range(40):
                progress = poll(client, windows, clock)
                found += [id_ for event in progress.events for id_ in event["conversation_ids"]]
                true_time[0] += MINUTE
        assert sorted(found) == sorted(ids), (skew_here, skew_there)


@given(
    lifetimes=st.lists(
        st.tuples(st.integers(0, 3600), st.one_of(st.none(), st.integers(0, 1800)), st.integers(0, 2400)),
        max_size=12,
    ),
    steps=st.lists(st.integers(10, 900), min_size=1, max_size=30),
    data=st.data(),
)
@settings(max_examples=40)
def test_each_ended_conversation_is_in_an_event(lifetimes, steps, data) -> None:
    """At least once over random conversations, outages and crashes; exactly once without a crash."""
    world = World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1))
    ends: dict[str, datetime | None] = {}
    for created, started, lasts in lifetimes:
        at = NOON + timedelta(seconds=created)
        begun = None if started is None else at + timedelta(seconds=started)
        end = None if begun is None else begun + timedelta(seconds=lasts)
        ends[add(world, created=at, started=begun, ended=end)] = end
    clock = [NOON]
    emulator = Emulator(world, clock=lambda: clock[0], visible_after=timedelta(seconds=50))
    connection = ClientConfig(
        token=emulator.token, base_url="http://emulator", page_size=3, retry=Retry(max_attempts=1)
    )
    windows = beginning(NOON)
    stored = windows.cursor
    events: list[tuple[str, datetime, bool]] = []
    crashed = False
    with VoiceOSClient(connection, transport=emulator.transport()) as client:
        for step in [*steps, 3 * 3600, 60, 60]:
            clock[0] += timedelta(seconds=step)
            last = step in (3 * 3600, 60)
            if not last and data.draw(st.booleans(), label="outage"):
                nth = emulator.faults._counted["list"] + data.draw(st.integers(1, 6))
                emulator.faults.add(Fault.server_error(), at=[nth])
            progress = poll(client, windows, ServerClock(lambda: clock[0]))
            emulator.faults.clear()
            for payload, cursor in zip(progress.events, progress.cursors, strict=True):
                events += [(id_, clock[0], True) for id_ in payload["conversation_ids"]]
                events += [(id_, clock[0], False) for id_ in payload["abandoned"]]
                if data.draw(st.booleans(), label="stored"):
                    stored = cursor
            if not last and data.draw(st.booleans(), label="crash"):
                windows, crashed = with_cursor(stored), True
    for id_, at, has_ended in events:
        assert has_ended == (ends[id_] is not None and ends[id_] <= at)
        assert has_ended or at - world.created_at(id_) >= HOUR
    assert {id_ for id_, _, _ in events} == ends.keys()
    if not crashed:
        assert len(events) == len(ends)
