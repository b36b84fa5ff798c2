"""What many windows cost when they are asked about together, and that the answers are those each would get alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.lifecycles import add
from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError, VoiceOSServerError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import Finding, Window
from voiceos_provider.polling.drivers import look
from voiceos_provider.polling.queries import Row, first_open
from voiceos_provider.polling.shared_poll import LEAST_LOOKS, most_looks, survey

DAY = datetime(2026, 11, 2, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
MINUTE = timedelta(minutes=1)


def minutes(first: int, last: int, max_age: timedelta | None = None, **more: Any) -> Window:
    """The window of these minutes of the day."""
    return Window(Interval(DAY + first * MINUTE, DAY + last * MINUTE), max_age, timedelta(0), **more)


SLOTS = [minutes(n, n + 1) for n in range(600)]


def test_a_thousand_windows_that_have_ended_cost_two_requests(api: Any, world: World, clock: Any) -> None:
    """Nothing is open between the first start and the last end."""
    windows = [minutes(n % 500, n % 500 + 1 + n // 500) for n in range(1000)]
    found = api.look(survey(windows, now=clock.now))
    assert found == dict.fromkeys(windows, Finding(True))
    assert api.asked() == [("queued", "1"), ("started", "1")]


def test_one_window_that_a_thousand_wait_for_costs_what_one_does(api: Any, world: World, clock: Any) -> None:
    """A window is a value."""
    add(world, created=DAY, started=DAY)
    found = api.look(survey([minutes(0, 60) for _ in range(1000)], now=clock.now))
    assert len(found) == 1
    assert api.asked() == [("queued", "1"), ("started", "1")]


def test_the_open_ones_among_many_are_found_by_halving(api: Any, world: World, clock: Any) -> None:
    """Then those are asked one by one, and all the others together."""
    id_ = add(world, created=DAY + 77 * MINUTE)
    first = api.look(survey(SLOTS[:128], now=clock.now))
    assert [w for w, f in first.items() if not f.ended] == [SLOTS[77]]
    assert first[SLOTS[77]].why == f"conversation {id_} is queued"
    assert len(api.asked()) < 25
    again = api.look(survey(SLOTS[:128], now=clock.now, open_before=[SLOTS[77]]))
    assert again == first
    assert len(api.asked()) < 10


def test_what_is_open_between_two_windows_keeps_neither_waiting(api: Any, world: World, clock: Any) -> None:
    """The question for both is answered yes, those for each with no."""
    add(world, created=DAY + 30 * MINUTE)
    windows = [minutes(0, 10), minutes(50, 60)]
    assert api.look(survey(windows, now=clock.now)) == dict.fromkeys(windows, Finding(True))


def test_a_survey_never_costs_more_than_it_may(api: Any, world: World, clock: Any) -> None:
    """Six hundred windows, all open: a quarter of what they would cost alone, and each has its turn soon."""
    for n in range(600):
        add(world, created=DAY + n * MINUTE)
    open_: dict[Window, None] = {}
    for _ in range(12):
        found = api.look(survey(SLOTS, now=clock.now, open_before=list(open_)))
        for window, finding in found.items():
            assert not finding.ended
            open_.pop(window, None)
            open_[window] = None
        assert len(api.asked()) <= 2 * most_looks(600) == 300
    assert len(open_) == 600


def test_a_crowd_of_open_windows_that_end_together_is_told_at_once(
    api: Any, world: World, clock: Any
) -> None:
    """Though their turns, one by one, would take several polls."""
    windows = SLOTS[:200]
    found = api.look(survey(windows, now=clock.now, open_before=windows))
    assert found == dict.fromkeys(windows, Finding(True))
    assert len(api.asked()) == 2


def test_those_asked_longest_ago_come_first(api: Any, world: World, clock: Any) -> None:
    """So none is forgotten, if there are more than may be asked."""
    for n in range(2 * LEAST_LOOKS):
        add(world, created=DAY + n * MINUTE)
    windows = SLOTS[: 2 * LEAST_LOOKS]
    found = api.look(survey(windows, now=clock.now, open_before=windows[5:] + windows[:5]))
    assert list(found) == windows[5 : 5 + LEAST_LOOKS - 1]


def test_windows_in_the_future_and_windows_too_old_cost_nothing(api: Any, world: World, clock: Any) -> None:
    """Nor those of the distant past."""
    add(world, created=DAY)
    later, old = minutes(719, 721), minutes(0, 1, max_age=timedelta(hours=3))
    found = api.look(survey([later, old], now=clock.now))
    assert (found[later].ended, found[old].ended) == (False, True)
    assert api.asked() == []


def test_an_interval_that_should_not_be_empty_is_found_empty(api: Any, world: World, clock: Any) -> None:
    """Its neighbours are not kept."""
    windows = [minutes(0, 1), minutes(0, 1, min_conversations=1)]
    found = api.look(survey(windows, now=clock.now))
    assert [found[window].ended for window in windows] == [True, False]


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.server_error(), VoiceOSServerError), (Fault.unauthorized(), VoiceOSAuthError)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_an_outage_costs_only_what_was_not_known_yet(
    api: Any, world: World, clock: Any, fault: Fault, error: type
) -> None:
    """What the survey has found before it stays found."""
    add(world, created=DAY + 3 * MINUTE)
    api.emulator.faults.add(fault, at=[4])
    found = api.look(survey(SLOTS[:4], now=clock.now))
    assert [found[window] for window in SLOTS[:2]] == [Finding(True)] * 2
    assert all(isinstance(found[window], error) for window in SLOTS[2:4])
    assert len(api.asked()) == 4


def test_an_error_of_one_window_is_of_no_other(api: Any, world: World, clock: Any) -> None:
    """Where the request is refused, and not the token."""
    api.emulator.faults.add(Fault.body(b"{}", status=400), at=[1, 4])
    found = api.look(survey(SLOTS[:2], now=clock.now))
    assert found[SLOTS[0]].ended
    assert isinstance(found[SLOTS[1]], VoiceOSError)


LIVES = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.one_of(st.none(), st.integers(0, 900)),
        st.one_of(st.none(), st.integers(0, 900)),
    ),
    max_size=8,
)
WINDOWS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 20), st.sampled_from([None, 11 * 60 + 20, 11 * 60 + 40])),
    min_size=1,
    max_size=12,
)


@given(lives=LIVES, windows=WINDOWS, data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_survey_answers_what_each_window_would_be_answered_alone(lives, windows, data) -> None:
    """Whatever lives there are, whatever windows, whatever is known from before."""
    world = World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1))
    for created, started, ended in lives:
        at = DAY + created * MINUTE
        begun = None if started is None else at + started * MINUTE
        add(
            world,
            created=at,
            started=begun,
            ended=None if ended is None or begun is None else begun + ended * MINUTE,
        )
    emulator = Emulator(world, clock=lambda: NOON)
    api = ClientConfig(token=emulator.token, base_url="http://emulator", retry=Retry(max_attempts=1))
    asked = [
        minutes(first, first + length, None if age is None else age * MINUTE)
        for first, length, age in windows
    ]
    before = data.draw(st.lists(st.sampled_from(asked), unique=True))
    with VoiceOSClient(api, transport=emulator.transport()) as client:
        found = look(client, survey(asked, now=NOON, open_before=before))
        for window, finding in found.items():
            part = window.young_part(NOON)
            alone: Row | None = look(client, first_open(part)) if part else None
            assert finding.ended == (alone is None)
        # With so few of them, none has to wait for its turn.
        assert set(found) == set(asked)
