"""Requests for open conversations, and the listing of a window."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.lifecycles import add, change
from voiceos_provider.emulator import Fault, World
from voiceos_provider.exceptions import VoiceOSContractError
from voiceos_provider.interval import Interval
from voiceos_provider.polling.polling_client import run

DAY = datetime(2026, 11, 2, tzinfo=UTC)
MORNING = Interval(DAY + timedelta(hours=8), DAY + timedelta(hours=10))
NINE = DAY + timedelta(hours=9)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def test_interval_without_open_conversations_costs_two_requests(api: Any, world: World) -> None:
    """One row of queued ones is requested, then one of started ones."""
    add(world, created=NINE, started=NINE, ended=NINE + MINUTE)
    assert run(api.polling().first_open(MORNING)) is None
    assert api.sent() == [("queued", "1"), ("started", "1")]


def test_queued_conversation_is_found_by_the_first_request(api: Any, world: World) -> None:
    """No second one is needed."""
    id_ = add(world, created=NINE)
    found = run(api.polling().first_open(MORNING))
    assert (found.id, found.status) == (id_, "queued")
    assert str(found) == f"conversation {id_} is queued"
    assert api.sent() == [("queued", "1")]


def test_conversation_that_starts_between_the_requests_is_found(api: Any, world: World) -> None:
    """The order of the requests ensures it."""
    id_ = add(world, created=NINE)

    def start_it(nth: int) -> None:
        if nth == 1:  # the last moment at which the first request could miss it
            change(world, id_, started=DAY + timedelta(hours=12))

    api.emulator.before_list = start_it
    found = run(api.polling().first_open(MORNING))
    assert (found.id, found.status) == (id_, "started")


@pytest.mark.parametrize("query", ["first_open", "first_open_listed"])
@pytest.mark.parametrize("created", [MORNING.start - MINUTE, MORNING.end, MORNING.end + MINUTE])
def test_conversation_of_another_interval_is_not_waited_for(
    api: Any, world: World, created: datetime, query: str
) -> None:
    """The end of an interval is exclusive."""
    add(world, created=created)
    assert run(getattr(api.polling(), query)(MORNING)) is None


@pytest.mark.parametrize("query", ["first_open", "first_open_listed"])
@pytest.mark.parametrize("inclusive", [True, False])
def test_first_instant_belongs_to_the_interval_on_every_server(
    serve: Callable[..., Any], world: World, query: str, *, inclusive: bool
) -> None:
    """The documentation does not say whether bounds are inclusive."""
    id_ = add(world, created=MORNING.start)
    assert run(getattr(serve(after_inclusive=inclusive).polling(), query)(MORNING)).id == id_


@pytest.mark.parametrize("item", ['{"status":"started"}', '{"id":"x"}', '{"id":"x","status":"paused"}', "[]"])
def test_item_that_is_not_known_to_have_ended_is_open(api: Any, item: str) -> None:
    """It may have no id, no documented state, or not be a conversation."""
    api.emulator.faults.add(Fault.body(f'{{"items":[{item}],"has_more":false}}'.encode()))
    assert run(api.polling().first_open(MORNING)).is_open
    assert run(api.polling().first_open_listed(MORNING)).is_open


def test_undocumented_state_is_found_in_the_listing(api: Any, world: World) -> None:
    """The two requests for documented states do not return it."""
    for minute in range(30):
        add(world, created=NINE + minute * MINUTE, started=NINE, ended=NINE)
    paused = b'{"items":[{"id":"a","status":"ended"},{"id":"p","status":"paused"}],"has_more":false}'
    api.emulator.faults.add(Fault.body(paused), at=[4])
    assert run(api.polling().first_open(MORNING)) is None
    assert run(api.polling().first_open_listed(MORNING)).id == "p"


def test_server_that_ignores_the_interval_is_detected(api: Any, world: World) -> None:
    """A probe lists conversations of the far future."""
    add(world, created=DAY, started=DAY)
    api.emulator.faults.add(Fault.ignore_window())
    for query in ("first_open", "first_open_listed"):
        with pytest.raises(VoiceOSContractError, match=r"ignores created_after\. It was sent 2200-"):
            run(getattr(api.polling(), query)(MORNING))


@pytest.mark.parametrize(
    "odd", [datetime(1970, 1, 1, tzinfo=UTC), DAY - timedelta(days=30), MORNING.start - 6 * 60 * MINUTE]
)
def test_unusual_starts_fail_no_wait(api: Any, world: World, odd: datetime) -> None:
    """Epoch zero, an import or a naive local time may be in all rows; the probe lists nothing."""
    ids = [add(world, created=NINE + nth * MINUTE, started=odd) for nth in range(45)]
    assert run(api.polling().first_open(MORNING)).is_open
    assert len(api.sent()) == 3
    assert {row.id for row in run(api.polling().list_interval(MORNING))} == set(ids)
    assert len(run(api.polling().list_interval(MORNING, enough=1))) == 1


def test_counting_stops_once_the_minimum_is_reached(api: Any, world: World) -> None:
    """A minimum of one costs one row."""
    for minute in range(40):
        add(world, created=NINE + minute * MINUTE)
    assert len(run(api.polling().list_interval(MORNING, enough=1))) == 1
    assert api.sent() == [(None, "1")]
    assert len(run(api.polling().list_interval(MORNING, enough=30))) == 30
    assert len(run(api.polling().list_interval(MORNING, enough=300))) == 40


SERVERS: list[dict[str, Any]] = [
    {},
    {"max_limit": 7},
    {"max_limit": 7, "has_more": "requested_limit"},
    {"has_more": "missing"},
    {"order": "created_asc", "after_inclusive": True, "before_inclusive": True},
    {"stored_precision": "milliseconds", "bound_precision": "milliseconds"},
    {"stored_precision": "seconds", "bound_precision": "seconds", "max_limit": 7},
]


@pytest.mark.parametrize("server", SERVERS, ids=str)
def test_window_is_read_completely_on_every_kind_of_server(
    serve: Callable[..., Any], world: World, server: Any
) -> None:
    """It has 300 conversations, 60 of them in one second, with pages of 20."""
    ids = [add(world, created=MORNING.start + n * 29 * SECOND) for n in range(240)]
    ids += [add(world, created=NINE + n * timedelta(milliseconds=10)) for n in range(60)]
    api = serve(**server)
    rows = run(api.polling().list_interval(MORNING))
    assert {row.id for row in rows} == set(ids)
    assert len(rows) == len(ids)


@pytest.mark.parametrize("order", ["created_desc", "created_asc"])
def test_deletion_between_two_requests_hides_no_other_row(
    serve: Callable[..., Any], world: World, order: str
) -> None:
    """With page numbers, the first row of page two would move to page one, which has been read."""
    ids = [add(world, created=MORNING.start + n * MINUTE) for n in range(100)]
    api = serve(order=order)

    def delete_one(nth: int) -> None:
        if nth > 1 and nth % 2 == 0 and len(ids) > 60:
            world.delete(ids.pop(0))
            world.delete(ids.pop())

    api.emulator.before_list = delete_one
    assert {row.id for row in run(api.polling().list_interval(MORNING))} >= set(ids)
