"""What a look at an interval asks, and what it makes of the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.lives import add, change, end
from voiceos_provider.emulator import Fault, World
from voiceos_provider.exceptions import VoiceOSContractError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.queries import count_up_to, every_open, first_open

DAY = datetime(2026, 11, 2, tzinfo=UTC)
MORNING = Interval(DAY + timedelta(hours=8), DAY + timedelta(hours=10))
NINE = DAY + timedelta(hours=9)
MINUTE = timedelta(minutes=1)


def test_an_interval_whose_conversations_have_ended_costs_two_rows_at_most(api: Any, world: World) -> None:
    """First the queued ones are asked for, then the started ones, one row each."""
    add(world, created=NINE, started=NINE, ended=NINE + MINUTE)
    assert api.look(first_open(MORNING)) is None
    assert api.asked() == [("queued", "1"), ("started", "1")]


def test_one_that_is_queued_is_found_by_the_first_request(api: Any, world: World) -> None:
    """No second one is needed."""
    id_ = add(world, created=NINE)
    found = api.look(first_open(MORNING))
    assert (found.id, found.status) == (id_, "queued")
    assert str(found) == f"conversation {id_} is queued"
    assert api.asked() == [("queued", "1")]


def test_one_that_moves_from_queued_to_started_between_the_requests_is_seen(api: Any, world: World) -> None:
    """The order of the two requests is what it takes."""
    id_ = add(world, created=NINE)

    def start_it(nth: int) -> None:
        if nth == 1:  # at the last moment at which the first request could miss it
            change(world, id_, started=DAY + timedelta(hours=12))

    api.emulator.before_list = start_it
    found = api.look(first_open(MORNING))
    assert (found.id, found.status) == (id_, "started")


@pytest.mark.parametrize("created", [MORNING.start - MINUTE, MORNING.end, MORNING.end + MINUTE])
def test_one_of_another_interval_is_not_waited_for(api: Any, world: World, created: datetime) -> None:
    """The end of an interval does not belong to it."""
    add(world, created=created)
    assert api.look(first_open(MORNING)) is None


@pytest.mark.parametrize("inclusive", [True, False])
def test_one_at_the_first_instant_belongs_to_the_interval_however_the_server_reads_bounds(
    serve: Callable[..., Any], world: World, *, inclusive: bool
) -> None:
    """Nothing says whether the bounds are inclusive."""
    id_ = add(world, created=MORNING.start)
    assert serve(after_inclusive=inclusive).look(first_open(MORNING)).id == id_


def test_a_server_that_ignores_the_state_is_read_to_the_end(
    api: Any, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that has ended, though open ones were asked for, proves nothing about the rest."""
    for minute in range(30):
        at = NINE + minute * MINUTE
        add(world, created=at, started=at, ended=at + MINUTE)
    open_ = add(world, created=MORNING.start, started=MORNING.start)
    _without_filter(api)
    with caplog.at_level(logging.WARNING):
        assert api.look(first_open(MORNING)).id == open_
    assert "reading the whole list" in caplog.text
    assert api.asked() == [("queued", "1"), ("queued", "20"), ("queued", "20")]
    end(world, open_, MORNING.end)
    assert api.look(first_open(MORNING)) is None


def test_a_server_that_ignores_the_limit_is_understood(api: Any, world: World) -> None:
    """Of a page that is longer than was asked for, each row counts."""
    body = b'{"items":[{"id":"a","status":"ended"},{"id":"b","status":"started"}],"has_more":false}'
    api.emulator.faults.add(Fault.body(body))
    assert api.look(first_open(MORNING)).id == "b"


def test_a_server_that_ignores_the_interval_is_noticed(api: Any, world: World) -> None:
    """A call that started the day before cannot be one of this morning's, and must not be waited for in vain."""
    add(world, created=DAY, started=DAY)
    api.emulator.faults.add(Fault.ignore_window())
    with pytest.raises(VoiceOSContractError, match="ignores created_after"):
        api.look(first_open(MORNING))


@pytest.mark.parametrize("odd", [datetime(1970, 1, 1, tzinfo=UTC), DAY - timedelta(days=30)])
def test_one_start_that_is_wrong_fails_no_wait(api: Any, world: World, odd: datetime) -> None:
    """It may be the one row that is asked for; then a page of others says whether the server heeds the interval."""
    for nth in range(5):
        add(world, created=NINE + nth * MINUTE, started=NINE + nth * MINUTE)
    wrong = add(world, created=NINE + 9 * MINUTE, started=odd)
    assert api.look(first_open(MORNING)).id == wrong
    assert len(api.look(every_open(MORNING))) == 6
    assert api.look(count_up_to(MORNING, 1)) == 1


@pytest.mark.parametrize("item", ['{"status":"started"}', '{"id":"x"}', '{"id":"x","status":"paused"}'])
def test_what_is_not_known_to_have_ended_is_open(api: Any, item: str) -> None:
    """Without an id, without a state, in a state that nobody has heard of."""
    api.emulator.faults.add(Fault.body(f'{{"items":[{item}],"has_more":false}}'.encode()))
    assert api.look(first_open(MORNING)).is_open


def test_every_open_conversation_is_named_once(api: Any, world: World) -> None:
    """Over several pages; one that starts in between is in the list of both states."""
    queued = [add(world, created=NINE + n * MINUTE) for n in range(25)]
    started = [add(world, created=NINE, started=NINE + n * MINUTE) for n in range(3)]
    add(world, created=NINE, started=NINE, ended=NINE)

    def start_one(nth: int) -> None:
        if nth == 3:
            change(world, queued[0], started=NINE)

    api.emulator.before_list = start_one
    found = {row.id: row.status for row in api.look(every_open(MORNING))}
    assert found == dict.fromkeys(queued[1:], "queued") | dict.fromkeys([queued[0], *started], "started")


def test_counting_goes_no_further_than_needed(api: Any, world: World) -> None:
    """Whether there is one costs one row; whether there are thirty costs two pages of the connection's size."""
    for minute in range(40):
        add(world, created=NINE + minute * MINUTE)
    assert api.look(count_up_to(MORNING, 1)) == 1
    assert api.asked() == [(None, "1")]
    assert api.look(count_up_to(MORNING, 30)) == 30
    assert api.look(count_up_to(MORNING, 300)) == 40


def _without_filter(api: Any) -> None:
    """Let the server answer as if no state had been asked for."""
    from dataclasses import replace

    real = api.emulator._handle

    def handle(request: Any) -> Any:
        query = "&".join(part for part in request.query_string.split("&") if not part.startswith("status="))
        return real(replace(request, query_string=query))

    api.emulator._handle = handle
