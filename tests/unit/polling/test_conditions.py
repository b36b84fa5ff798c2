"""Conditions of an interval and of ids, and when they are met."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.lifecycles import add, change, end
from voiceos_provider.emulator import World
from voiceos_provider.exceptions import VoiceOSNotFoundError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import MET, UNCONFIRMED, IdsCondition, IntervalCondition, Result
from voiceos_provider.polling.polling_client import run

DAY = datetime(2026, 11, 2, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
MORNING = Interval(DAY + timedelta(hours=8), DAY + timedelta(hours=10))
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


def morning(
    max_age: timedelta | None = None, visibility_delay: timedelta = 5 * MINUTE, **more: Any
) -> IntervalCondition:
    """Return the condition that all conversations of this morning have ended."""
    return IntervalCondition(MORNING, max_age, visibility_delay, **more)


def check_twice(api: Any, condition: IntervalCondition, now: datetime) -> Result:
    """Return the result of a check, and of a second one if it has to be confirmed."""
    result: Result = api.check(condition, now)
    return api.check(condition, now, confirm=True) if result.state == "unconfirmed" else result


def test_nothing_is_requested_before_the_interval_is_readable(api: Any, clock: Any) -> None:
    """Conversations may still be created in it, or be missing from listings."""
    clock.now = MORNING.end + 5 * MINUTE - timedelta(microseconds=1)
    result = api.check(morning(), clock.now)
    assert result == Result(
        "open", "reading starts at 2026-11-02T10:05:00Z, visibility_delay after the interval"
    )
    assert api.sent() == []
    assert check_twice(api, morning(), clock.advance(microseconds=1)) == MET


def test_two_checks_must_agree_and_the_second_reads_the_listing(api: Any, world: World, clock: Any) -> None:
    """The first costs two requests of one row, and the second lists every state."""
    add(world, created=MORNING.start, started=MORNING.start, ended=MORNING.start)
    assert api.check(morning(), clock.now) == UNCONFIRMED
    assert api.sent() == [("queued", "1"), ("started", "1")]
    assert api.check(morning(), clock.now, confirm=True) == MET
    assert {status for status, _ in api.sent()} == {None}


@pytest.mark.parametrize("choice", ["random", "alternate"])
@pytest.mark.parametrize("seed", range(8))
def test_lagging_replicas_hide_no_conversation_between_two_states(
    serve: Any, world: World, clock: Any, choice: str, seed: int
) -> None:
    """A current replica no longer lists it as queued, and a stale one not yet as started."""
    add(world, created=MORNING.start, started=NOON - MINUTE, ended=NOON + MINUTE)
    api = serve(replica_lag=2 * MINUTE, replica_choice=choice, seed=seed)
    for _ in range(12):
        assert check_twice(api, morning(), clock.now).state == "open"
    clock.advance(minutes=3)
    assert check_twice(api, morning(), clock.now) == MET


def test_first_check_alone_would_fail_with_lagging_replicas(serve: Any, world: World, clock: Any) -> None:
    """A second check is therefore needed."""
    add(world, created=MORNING.start, started=NOON - MINUTE)
    states = set()
    for seed in range(8):
        api = serve(replica_lag=2 * MINUTE, replica_choice="random", seed=seed)
        states |= {api.check(morning(), clock.now).state for _ in range(6)}
    assert states == {"open", "unconfirmed"}


def test_conversation_that_appears_late_is_waited_for(serve: Any, world: World, clock: Any) -> None:
    """It belongs to the last second, and the API lists it four minutes later."""
    api = serve(visible_after=4 * MINUTE)
    add(world, created=MORNING.end - SECOND)
    clock.now = MORNING.end
    assert check_twice(api, morning(visibility_delay=timedelta(0)), clock.now).state == "ended"
    assert check_twice(api, morning(), clock.now).state != "ended"
    assert check_twice(api, morning(), clock.advance(minutes=5)).state != "ended"


def test_conversation_is_abandoned_exactly_at_its_maximum_age(api: Any, world: World, clock: Any) -> None:
    """Servers may compare seconds; its id is returned once all others have ended."""
    stuck = add(world, created=MORNING.start + HOUR)
    clock.now = MORNING.start + HOUR + 3 * HOUR
    assert check_twice(api, morning(3 * HOUR), clock.now).state != "ended"
    clock.advance(seconds=3)
    assert check_twice(api, morning(3 * HOUR), clock.now).state == "ended"
    assert [row.id for row in run(morning(3 * HOUR).find_abandoned(api.polling(clock.now)))] == [stuck]


def test_many_abandoned_conversations_are_found_by_windows(api: Any, world: World, clock: Any) -> None:
    """A deletion between two requests moves rows between pages, and not between windows."""
    stuck = [add(world, created=MORNING.start + n * MINUTE) for n in range(100)]
    api.emulator.before_list = lambda nth: world.delete(stuck[-1]) if nth == 3 else None
    found = {row.id for row in run(morning(HOUR).find_abandoned(api.polling(clock.now)))}
    assert found >= set(stuck[:-1])


def test_interval_older_than_the_maximum_age_costs_no_request(api: Any, world: World, clock: Any) -> None:
    """None of its conversations would be waited for."""
    add(world, created=MORNING.start)
    assert api.check(morning(HOUR), clock.advance(days=1)) == MET
    assert api.sent() == []


def test_stuck_conversation_is_waited_for_without_a_maximum_age(api: Any, world: World, clock: Any) -> None:
    """None is abandoned before the timeout."""
    add(world, created=MORNING.start)
    clock.advance(days=1000)
    assert check_twice(api, morning(), clock.now).state != "ended"
    assert run(morning().find_abandoned(api.polling(clock.now))) == ()


def test_maximum_age_before_the_year_one_is_unlimited(api: Any, world: World, clock: Any) -> None:
    """A span beyond the calendar is not an error."""
    add(world, created=MORNING.start)
    assert check_twice(api, morning(timedelta.max), clock.now).state != "ended"


def test_interval_is_waited_for_until_it_has_conversations(api: Any, world: World, clock: Any) -> None:
    """One row shows that it is not empty."""
    result = check_twice(api, morning(min_conversations=1), clock.now)
    assert result == Result("open", "the interval has 0 of at least 1 conversations")
    add(world, created=MORNING.start, started=MORNING.start, ended=MORNING.start)
    api.sent()
    assert check_twice(api, morning(min_conversations=1), clock.now).state == "ended"
    assert api.sent()[-1] == (None, "1")


def test_each_id_is_requested_once_and_the_first_open_one_again(api: Any, world: World, clock: Any) -> None:
    """N ids and M polls cost at most N + M requests."""
    ids = [add(world, created=MORNING.start) for _ in range(4)]
    condition = IdsCondition(tuple(ids), None, 5 * MINUTE, NOON)
    assert api.check(condition, clock.now).reason == f"conversation {ids[0]} is queued"
    change(world, ids[1], started=NOON, ended=NOON)
    end(world, ids[0], NOON)
    assert api.check(condition, clock.now).reason == f"conversation {ids[2]} is queued"
    end(world, ids[2], NOON)
    end(world, ids[3], NOON)
    assert api.check(condition, clock.now) == MET
    requested = [path.rpartition("/")[2] for path, _ in api.sent()]
    assert requested == [ids[0], ids[0], ids[1], ids[2], ids[2], ids[3]]


def test_unknown_id_fails_the_wait_after_a_while(serve: Any, world: World, clock: Any) -> None:
    """A new id may not be visible yet; a mistyped one never is."""
    api = serve(visible_after=2 * MINUTE)
    id_ = add(world, created=NOON, started=NOON)
    condition = IdsCondition((id_,), None, 5 * MINUTE, NOON)
    assert api.check(condition, clock.now).reason == f"conversation {id_} is not there yet"
    assert "is started" in api.check(condition, clock.advance(minutes=2)).reason
    world.delete(id_)
    assert api.check(condition, clock.now).state != "ended"
    with pytest.raises(VoiceOSNotFoundError, match=rf"Check conversation_ids: .*'{id_}'.*404"):
        api.check(condition, clock.advance(minutes=3))


def test_age_counts_from_the_start_or_from_the_start_of_the_wait(api: Any, world: World, clock: Any) -> None:
    """Creation times are not returned, so conversations are abandoned late rather than early."""
    started = add(world, created=MORNING.start, started=NOON - HOUR)
    queued = add(world, created=MORNING.start)
    condition = IdsCondition((started, queued), 2 * HOUR, 5 * MINUTE, NOON)
    assert "is started" in api.check(condition, clock.advance(minutes=59)).reason
    assert "is queued" in api.check(condition, clock.advance(minutes=1)).reason
    assert api.check(condition, clock.advance(minutes=59)).state != "ended"
    result = api.check(condition, clock.advance(minutes=1))
    assert result.state == "ended"
    assert [row.id for row in result.abandoned] == [started, queued]
