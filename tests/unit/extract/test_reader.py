"""A window is read exactly, or not at all: what lying servers are told, and what a moving token does."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.client.pages import parse_one
from voiceos_provider.client.requests import one_conversation
from voiceos_provider.client.responses import Response
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.emulator.http_messages import Request, json_response
from voiceos_provider.emulator.transport import EmulatorTransport
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSContractError,
    VoiceOSResponseError,
    VoiceOSServerError,
)
from voiceos_provider.interval import TICK, Interval

DAY = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
LONG_AFTER = datetime(2026, 11, 22, tzinfo=UTC)
NOON = DAY.start + timedelta(hours=12)


def emulate(conversations: int = 400, **options: Any) -> Emulator:
    """Four days of conversations, the window the second of them."""
    world = World(
        seed=7,
        conversations=conversations,
        start=DAY.start - timedelta(days=1),
        end=DAY.end + timedelta(days=2),
    )
    return Emulator(world, clock=lambda: LONG_AFTER, **options)


def crowd(size: int, **options: Any) -> Emulator:
    """So many created in one instant."""
    world = World(seed=7, start=DAY.start, end=DAY.end, created=[NOON] * size)
    return Emulator(world, clock=lambda: LONG_AFTER, **options)


def connected(emulator: Emulator, *, page_size: int = 20, **options: Any) -> VoiceOSClient:
    """A client that waits for nothing."""
    retry = Retry(max_attempts=3, base_delay=0.0)
    settings = ClientConfig(
        token=emulator.token, base_url="http://emulator", page_size=page_size, retry=retry
    )
    options = {"transport": emulator.transport(), "sleep": lambda _: None, "rng": random.Random(1)} | options
    return VoiceOSClient(settings, **options)


def listed(emulator: Emulator, *, readers: int = 1, window: Interval = DAY, **options: Any) -> list[str]:
    """The ids that are read."""
    with connected(emulator, **options) as client:
        pages = client.read_windows([window], max_concurrency=readers)
        return [id_ for page in pages for id_ in page.ids if id_]


def truth(emulator: Emulator) -> list[str]:
    """The ids of the window."""
    return sorted(emulator.world.ids(created_after=DAY.start, created_before=DAY.end))


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize(
    "faults",
    [[], [Fault.flag_missing()], [Fault.flag_integer()], [Fault.flag_legacy()],
     [Fault.flag_missing(), Fault.clamp_index()], [Fault.clamp_index()]],
    ids=["as documented", "no flag", "a number", "its old name", "no flag, no end", "no end"],
)  # fmt: skip
@pytest.mark.parametrize("max_limit", [None, 7])
def test_however_the_server_says_that_more_follows(
    faults: list[Fault], max_limit: int | None, readers: int
) -> None:
    """Everything is read once, in any of the ways the flag was seen or is likely to come."""
    for emulator in (emulate(max_limit=max_limit), crowd(50, max_limit=max_limit)):
        for fault in faults:
            emulator.faults.add(fault)
        assert sorted(listed(emulator, readers=readers)) == truth(emulator)


@pytest.mark.parametrize("readers", [1, 4])
def test_a_server_that_says_nothing_and_gives_fewer_is_not_read_by_page_numbers(readers: int) -> None:
    """A second page that lists something else shows it, and conversations may be deleted meanwhile."""
    emulator = emulate(2_000, max_limit=20)
    emulator.faults.add(Fault.flag_missing())
    victims = iter(truth(emulator)[::3])
    emulator.before_list = lambda nth: emulator.world.delete(next(victims)) if nth % 5 == 0 else None
    assert set(listed(emulator, readers=readers, page_size=1_000)) >= set(truth(emulator))
    assert {request.query["index"] for request in emulator.requests if "index" in request.query} == {"1", "2"}


def test_what_a_server_that_says_nothing_costs() -> None:
    """Two passes of a page and an empty one each; one, for every slice, once the server has given more at a time."""
    emulator = emulate(40)
    emulator.faults.add(Fault.flag_missing())
    assert sorted(listed(emulator)) == truth(emulator)
    assert [request.query["index"] for request in emulator.requests] == ["1", "2", "1", "2"]
    emulator = emulate(2_000, max_limit=20)
    emulator.faults.add(Fault.flag_missing())
    assert sorted(listed(emulator, page_size=1_000)) == truth(emulator)
    asked = [tuple(sorted(request.query.items())) for request in emulator.requests]
    assert len(asked) > len(truth(emulator)) / 20 * 2
    assert len(set(asked)) == len(asked)


def test_an_empty_window_takes_one_request() -> None:
    """And brings nothing."""
    emulator = crowd(0)
    assert listed(emulator, readers=4) == []
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("readers", [1, 4])
def test_a_server_that_ignores_the_window_is_found_out(readers: int) -> None:
    """By conversations that started before the window, or that are in every slice."""
    emulator = emulate()
    emulator.faults.add(Fault.ignore_window())
    with pytest.raises(VoiceOSContractError, match=r"The server ignores (created_after|the window)"):
        listed(emulator, readers=readers)


def test_a_server_that_ignores_where_the_window_begins_is_found_out() -> None:
    """Most of what it lists started before."""
    emulator = emulate(order="created_asc")
    emulator.faults.add(Fault.ignore_window("created_after"))
    with pytest.raises(
        VoiceOSContractError, match=r"most of them started before, .* ignores created_after\."
    ):
        listed(emulator)


@pytest.mark.parametrize("bound", ["created_after", "created_before", None])
@pytest.mark.parametrize("order", ["created_asc", "created_desc", "shuffled"])
def test_a_server_that_ignores_a_bound_is_found_out_in_any_order(bound: Any, order: Any) -> None:
    """The same conversation cannot have been created in two slices far from each other."""
    emulator = emulate(order=order)
    emulator.faults.add(Fault.ignore_window(bound))
    with pytest.raises(VoiceOSContractError, match="The server ignores"):
        listed(emulator, readers=2)


def test_an_id_in_two_far_slices_is_named() -> None:
    """With both slices, so that somebody can ask the vendor."""
    emulator = emulate()
    window = Interval(DAY.end - timedelta(hours=6), DAY.end)
    emulator.faults.add(Fault.ignore_window("created_before"))
    with pytest.raises(
        VoiceOSContractError, match=r"'[0-9a-f-]{36}' is listed among .* created in \[.*Z\), and among"
    ):
        listed(emulator, window=window, page_size=300)


def test_a_server_that_ignores_the_end_of_a_window_is_found_out_before_anything_is_read() -> None:
    """It is asked for what was created before there was anything."""
    emulator = emulate()
    with connected(emulator) as client:
        assert client.server_time() == LONG_AFTER
        emulator.faults.add(Fault.ignore_window("created_before"))
        with pytest.raises(
            VoiceOSContractError, match=r"before 2000-01-01T00:00:00Z, and got some\. .* created_before"
        ):
            client.server_time()
    assert emulator.requests[0].query["limit"] == "1"


def test_a_server_that_says_that_more_follows_nothing_is_asked_again_and_then_refused() -> None:
    """Once may be a mishap."""
    emulator = emulate()
    emulator.faults.add(Fault.body(b'{"items": [], "index": 1, "has_more": true}'), at=[1, 2])
    assert sorted(listed(emulator)) == truth(emulator)
    emulator.faults.add(Fault.body(b'{"items": [], "index": 1, "has_more": true}'))
    with pytest.raises(VoiceOSResponseError, match="empty and says that more follows"):
        listed(emulator)


def test_an_empty_page_in_the_middle_of_an_instant_ends_nothing() -> None:
    """If it says that more follows, there may be, and what is not listed would be missed in every pass alike."""
    emulator = crowd(50)

    def answer(request: Request) -> Any:
        if request.query["index"] == "2":
            return json_response(200, {"items": [], "index": 2, "has_more": True})
        return emulator.respond(request)

    with (
        connected(emulator, transport=EmulatorTransport(answer)) as client,
        pytest.raises(VoiceOSResponseError, match="empty and says that more follows"),
    ):
        list(client.read_windows([DAY], max_concurrency=1))


def whole_seconds(emulator: Emulator) -> EmulatorTransport:
    """A server that drops fractions of a second from the bounds."""

    def answer(request: Request) -> Any:
        query = {
            name: value[:19] + "Z" if name.startswith("created_") else value
            for name, value in request.query.items()
        }
        return emulator.respond(replace(request, query_string=urlencode(query)))

    return EmulatorTransport(answer)


@pytest.mark.parametrize("order", ["created_asc", "created_desc", "shuffled"])
@pytest.mark.parametrize("readers", [1, 4])
def test_a_server_that_drops_fractions_of_a_second_can_be_read(order: Any, readers: int) -> None:
    """While no second holds more than a page."""
    emulator = emulate(2_000, order=order)
    assert set(listed(emulator, readers=readers, transport=whole_seconds(emulator))) >= set(truth(emulator))


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("order", ["created_asc", "created_desc", "shuffled"])
def test_it_is_refused_where_a_second_that_holds_more_than_a_page_is_not_read_whole(
    order: Any, *, inclusive: bool
) -> None:
    """What a slice held cannot be in none of its parts, unless it is gone."""
    times = [NOON + timedelta(milliseconds=7 * nth + 1) for nth in range(90)]
    world = World(seed=7, start=DAY.start, end=DAY.end, created=times)
    emulator = Emulator(
        world, clock=lambda: LONG_AFTER, order=order, after_inclusive=inclusive, before_inclusive=inclusive
    )
    refusals = []
    try:
        ids = listed(emulator, transport=whole_seconds(emulator))
    except VoiceOSResponseError as error:
        refusals.append(str(error))
    if refusals:
        assert "fractions of a second" in refusals[0] or "did not agree" in refusals[0]
    else:
        assert sorted(set(ids)) == truth(emulator)


@pytest.mark.parametrize("readers", [1, 4])
def test_what_was_in_a_slice_and_is_in_no_part_of_it_is_asked_for(readers: int) -> None:
    """It may have been deleted; if it is there, it would be missing from the export."""
    times = [NOON + timedelta(milliseconds=7 * nth) for nth in range(90)]
    world = World(seed=7, start=DAY.start, end=DAY.end, created=times)
    emulator = Emulator(world, clock=lambda: LONG_AFTER, order="created_asc")
    with pytest.raises(
        VoiceOSContractError, match=r"in no part of it\. The server ignores fractions of a second"
    ):
        listed(emulator, readers=readers, transport=whole_seconds(emulator))

    still = emulate()
    victims = iter(truth(still)[::3])
    still.before_list = lambda nth: still.world.delete(next(victims)) if 1 < nth < 20 else None
    assert set(listed(still, readers=readers)) >= set(truth(still))
    assert {request.status for request in still.requests if "/conversations/" in request.path} == {404}


@pytest.mark.parametrize("readers", [1, 4])
def test_a_server_that_repeats_its_pages_is_refused(readers: int) -> None:
    """Page 1 for page 2, in every pass alike: two passes that agree prove nothing."""
    emulator = crowd(50)
    emulator.faults.add(Fault.repeat_page())
    with pytest.raises(VoiceOSResponseError, match="6 passes over its pages did not agree"):
        listed(emulator, readers=readers)


def test_an_instant_that_never_holds_still_is_refused() -> None:
    """Better no export than one that may miss a conversation."""
    emulator = crowd(60)
    emulator.before_list = lambda nth: emulator.world.delete(emulator.world.ids()[0]) if nth > 3 else None
    with pytest.raises(VoiceOSResponseError, match=r"holds more than a page.*Nothing was exported\."):
        listed(emulator, page_size=5)


def test_items_without_an_id_are_nobody_who_was_seen_before() -> None:
    """Two that read the same are no sign of a server that ignores the window."""

    def answer(request: Request) -> Any:
        width = datetime.fromisoformat(request.query["created_before"]) - datetime.fromisoformat(
            request.query["created_after"]
        )
        more = width > timedelta(hours=7)
        items = [{"id": None}] if width > timedelta(hours=1) else []
        return json_response(200, {"items": items, "index": 1, "has_more": more})

    with connected(crowd(0), transport=EmulatorTransport(answer)) as client:
        pages = list(client.read_windows([DAY], max_concurrency=1))
    assert sum(page.ids == (None,) for page in pages) > 2


@pytest.mark.parametrize("readers", [1, 4])
def test_conversations_are_read_by_their_ids(readers: int) -> None:
    """Each on a page of its own; of one that is gone, an empty one."""
    emulator = emulate()
    ids = truth(emulator)[:30]
    gone = ids[::10]
    for id_ in gone:
        emulator.world.delete(id_)
    with connected(emulator) as client:
        read = dict(client.read_each(iter(ids), max_concurrency=readers))
    assert {id_: page.ids for id_, page in read.items()} == {
        id_: () if id_ in gone else (id_,) for id_ in ids
    }


def test_an_error_while_ids_are_read_ends_it() -> None:
    """Nothing that is there is taken for gone."""
    emulator = emulate()
    emulator.faults.add(Fault.server_error(500), on="conversation")
    with connected(emulator) as client, pytest.raises(VoiceOSServerError):
        list(client.read_each(truth(emulator)[:5], max_concurrency=2))


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"id": ""}', b'{"id": 5}', b"nonsense", b"\xff", b"[" * 100_000]
)
def test_what_is_no_conversation_is_asked_for_again(body: bytes) -> None:
    """An answer without an id says nothing."""
    with pytest.raises(VoiceOSResponseError, match=r"not (JSON|a conversation with an id)"):
        parse_one(one_conversation("a"), Response(200, {}, body))


def test_one_conversation_is_a_page() -> None:
    """Half a surrogate pair becomes what can be stored, as on any page."""
    page = parse_one(one_conversation("a"), Response(200, {}, b'{"id": "a", "uri": "\\ud83d"}'))
    assert (page.ids, page.has_more, page.replaced) == (("a",), False, 1)
    assert page.items[0].uri == "\ufffd"


class Vault:
    """Where the token is; asked for it, it says the next one."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)
        self.asked = 0
        self._asking = threading.Lock()

    def __call__(self) -> str:
        with self._asking:
            self.asked += 1
            return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


@pytest.mark.parametrize("readers", [1, 4])
def test_a_token_that_is_refused_in_mid_export_is_looked_up_once(readers: int) -> None:
    """All readers go on with the new one."""
    emulator = emulate(4_000)
    vault = Vault("rotated")

    def rotate(nth: int) -> None:
        if nth == 20:
            # The one object that both doors ask.
            object.__setattr__(emulator._handle, "token", "rotated")

    emulator.before_list = rotate
    assert sorted(listed(emulator, readers=readers, renew_token=vault)) == truth(emulator)
    assert vault.asked == 1


def test_a_new_token_that_is_refused_too_is_an_error() -> None:
    """Asked for again, but not for ever."""
    emulator = emulate()
    emulator.faults.add(Fault.unauthorized())
    vault = Vault("another")
    with pytest.raises(VoiceOSAuthError, match="401"):
        listed(emulator, renew_token=vault)
    assert vault.asked == 1
    assert len(emulator.requests) == 2


def test_the_same_token_again_is_an_error_at_once() -> None:
    """The connection still holds what was refused."""
    emulator = emulate()
    emulator.faults.add(Fault.unauthorized())
    with pytest.raises(VoiceOSAuthError, match="401"):
        listed(emulator, renew_token=Vault(emulator.token))
    assert len(emulator.requests) == 1


def test_slices_ask_for_a_tick_more_at_their_beginning() -> None:
    """Whether "after" includes the instant is not documented, so that either reading finds it."""
    emulator = emulate(50)
    listed(emulator)
    assert emulator.requests[0].query["created_after"] == "2026-10-31T23:59:59.999999Z"
    assert emulator.requests[0].query["created_before"] == "2026-11-02T00:00:00.000000Z"
    assert timedelta(microseconds=1) == TICK
