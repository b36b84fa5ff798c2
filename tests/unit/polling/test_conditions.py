"""When a wait is over: for an interval, and for conversations by their ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.lives import add, change, end
from voiceos_provider.emulator import World
from voiceos_provider.exceptions import VoiceOSNotFoundError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import Finding, RollCall, Window

DAY = datetime(2026, 11, 2, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
MORNING = Interval(DAY + timedelta(hours=8), DAY + timedelta(hours=10))
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def window(max_age: timedelta | None = None, visibility_delay: timedelta = 5 * MINUTE, **more: Any) -> Window:
    """The question whether this morning's conversations have ended."""
    return Window(MORNING, max_age, visibility_delay, **more)


def test_nothing_is_asked_before_the_interval_has_settled(api: Any, clock: Any) -> None:
    """Conversations are still created in it, or may not show yet."""
    clock.now = MORNING.end + 5 * MINUTE - timedelta(microseconds=1)
    found = api.look(window().look(clock.now))
    assert found == Finding(
        False, "the interval and the time to visibility_delay are over at 2026-11-02T10:05:00Z"
    )
    assert api.asked() == []
    assert api.look(window().look(clock.advance(microseconds=1))).ended


def test_one_that_shows_up_late_is_waited_for(serve: Any, world: World, clock: Any) -> None:
    """A conversation of the last second that the API lists four minutes later."""
    api = serve(visible_after=4 * MINUTE)
    add(world, created=MORNING.end - timedelta(seconds=1))
    clock.now = MORNING.end
    assert api.look(window(visibility_delay=timedelta(0)).look(clock.now)).ended, (
        "what would go wrong without settling"
    )
    assert not api.look(window().look(clock.now)).ended
    assert not api.look(window().look(clock.advance(minutes=5))).ended


def test_a_conversation_is_let_go_of_at_its_maximum_age_and_not_before(
    api: Any, world: World, clock: Any
) -> None:
    """To the microsecond; its name is told when all others have ended."""
    stuck = add(world, created=MORNING.start + HOUR)
    clock.now = MORNING.start + HOUR + 3 * HOUR
    assert not api.look(window(3 * HOUR).look(clock.now)).ended
    clock.advance(microseconds=2)
    assert api.look(window(3 * HOUR).look(clock.now)).ended
    assert [row.id for row in api.look(window(3 * HOUR).look_for_abandoned(clock.now))] == [stuck]


def test_an_interval_older_than_the_maximum_age_costs_nothing(api: Any, world: World, clock: Any) -> None:
    """There is none left that would be waited for."""
    add(world, created=MORNING.start)
    assert api.look(window(HOUR).look(clock.advance(days=1))).ended
    assert api.asked() == []


def test_without_a_maximum_age_a_stuck_conversation_is_waited_for_for_ever(
    api: Any, world: World, clock: Any
) -> None:
    """Until the timeout, that is; and none is abandoned."""
    add(world, created=MORNING.start)
    clock.advance(days=1000)
    assert not api.look(window().look(clock.now)).ended
    assert api.look(window().look_for_abandoned(clock.now)) == ()


def test_a_maximum_age_from_before_the_year_one_is_none(api: Any, world: World, clock: Any) -> None:
    """A span that no calendar holds is not an error."""
    add(world, created=MORNING.start)
    assert not api.look(window(timedelta.max).look(clock.now)).ended


def test_an_interval_that_should_not_be_empty_is_waited_for(api: Any, world: World, clock: Any) -> None:
    """However long nothing is there; one row tells."""
    found = api.look(window(min_conversations=1).look(clock.now))
    assert found == Finding(False, "0 of at least 1 conversations are there")
    add(world, created=MORNING.start, started=MORNING.start, ended=MORNING.start)
    api.asked()
    assert api.look(window(min_conversations=1).look(clock.now)).ended
    assert api.asked() == [("queued", "1"), ("started", "1"), (None, "1")]


def test_a_roll_call_asks_each_once_and_the_first_open_one_again(api: Any, world: World, clock: Any) -> None:
    """N ids and M looks cost no more than N + M requests."""
    ids = [add(world, created=MORNING.start) for _ in range(4)]
    roll = RollCall(tuple(ids), None, 5 * MINUTE, NOON)
    assert str(api.look(roll.look(clock.now)).why) == f"conversation {ids[0]} is queued"
    change(world, ids[1], started=NOON, ended=NOON)
    end(world, ids[0], NOON)
    assert str(api.look(roll.look(clock.now)).why) == f"conversation {ids[2]} is queued"
    end(world, ids[2], NOON)
    end(world, ids[3], NOON)
    assert api.look(roll.look(clock.now)) == Finding(True)
    asked = [path.rpartition("/")[2] for path, _ in api.asked()]
    assert asked == [ids[0], ids[0], ids[1], ids[2], ids[2], ids[3]]


def test_an_id_may_be_unknown_for_a_while_and_then_fails_the_wait(
    serve: Any, world: World, clock: Any
) -> None:
    """One that the API has just given out may not show yet; a mistyped one never does."""
    api = serve(visible_after=2 * MINUTE)
    id_ = add(world, created=NOON, started=NOON)
    roll = RollCall((id_,), None, 5 * MINUTE, NOON)
    assert api.look(roll.look(clock.now)).why == f"conversation {id_} is not there yet"
    assert "is started" in api.look(roll.look(clock.advance(minutes=2))).why
    world.delete(id_)
    assert not api.look(roll.look(clock.now)).ended
    with pytest.raises(VoiceOSNotFoundError, match=rf"{id_}: 404.*Check conversation_ids"):
        api.look(roll.look(clock.advance(minutes=3)))


def test_a_roll_call_counts_age_from_the_start_or_from_its_own_beginning(
    api: Any, world: World, clock: Any
) -> None:
    """Creation times are not told, so one is let go of too late rather than too early."""
    started = add(world, created=MORNING.start, started=NOON - HOUR)
    queued = add(world, created=MORNING.start)
    roll = RollCall((started, queued), 2 * HOUR, 5 * MINUTE, NOON)
    assert "is started" in api.look(roll.look(clock.advance(minutes=59))).why
    assert "is queued" in api.look(roll.look(clock.advance(minutes=1))).why
    assert not api.look(roll.look(clock.advance(minutes=59))).ended
    found = api.look(roll.look(clock.advance(minutes=1)))
    assert found.ended
    assert [row.id for row in found.abandoned] == [started, queued]
