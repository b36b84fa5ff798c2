"""Responses to list requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from voiceos_provider.emulator import Emulator, World

_MICROSECOND = timedelta(microseconds=1)


def _ids(pages: list[list[dict[str, Any]]]) -> list[str]:
    return [item["id"] for page in pages for item in page]


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_pages_cover_exactly_what_there_is(send: Any, world: World, read_all: Callable[..., Any]) -> None:
    """Every conversation once, newest first, a hundred a page, the last page the only short one."""
    pages = read_all(send)
    assert _ids(pages) == world.ids()[::-1]
    assert [len(page) for page in pages] == [100] * 7 + [30]


def test_a_page_has_the_documented_keys(send: Any) -> None:
    """`items`, `index` and `has_more`, and no total."""
    example = json.loads((Path(__file__).parent / "examples" / "page_empty_last.json").read_text())
    page = send("/conversations", params={"index": 9}).json()
    assert list(page) == list(example)
    assert page == {"items": [], "index": 9, "has_more": False}


def test_an_item_of_a_page_is_the_object_itself(send: Any, world: World, long_after: datetime) -> None:
    """A listing and a request by id return the same object."""
    item = send("/conversations", params={"limit": 1}).json()["items"][0]
    assert item == world.conversation(item["id"], now=long_after)
    assert send(f"/conversations/{item['id']}").json() == item
    assert send(item["uri"]).json() == item


@pytest.mark.parametrize("limit", [1, 7, 100, 730, 10_000])
def test_any_limit_lists_the_same(send: Any, world: World, limit: int) -> None:
    """Pages may be of any size; the flag says whether another follows."""
    first = send("/conversations", params={"limit": limit}).json()
    assert [item["id"] for item in first["items"]] == world.ids()[::-1][:limit]
    assert first["has_more"] is (limit < 730)


def test_max_limit_clamps_silently(
    world: World, long_after: datetime, connect: Any, read_all: Callable[..., Any]
) -> None:
    """Pages are shorter than requested, and paging by the flag still covers everything."""
    send = connect(Emulator(world, clock=lambda: long_after, max_limit=50))
    pages = read_all(send, limit=400)
    assert max(map(len, pages)) == 50
    assert sorted(_ids(pages)) == sorted(world.ids())


def test_far_beyond_the_last_page_is_empty(send: Any) -> None:
    """The index may be very large."""
    page = send("/conversations", params={"index": 10**17, "limit": 10**17}).json()
    assert page == {"items": [], "index": 10**17, "has_more": False}


@pytest.mark.parametrize("status", ["queued", "started", "ended"])
def test_a_status_filter_selects_by_status(
    world: World, start: datetime, connect: Any, read_all: Callable[..., Any], status: Any
) -> None:
    """As of the clock, in the middle of a busy hour, together with a window."""
    now = start + timedelta(days=2, hours=14)
    for nth in range(40):
        world.insert(created_at=now - timedelta(seconds=5 * nth))
    send = connect(Emulator(world, clock=lambda: now))
    assert _ids(read_all(send, status=status, limit=7)) == world.ids(status=status, now=now)[::-1]
    window = {"created_after": _text(now - timedelta(hours=1)), "created_before": _text(now)}
    within = world.ids(created_after=now - timedelta(hours=1), created_before=now, status=status, now=now)[
        ::-1
    ]
    assert _ids(read_all(send, status=status, **window)) == within


def test_a_status_filter_is_current_on_every_request(
    world: World, start: datetime, connect: Any, read_all: Callable[..., Any]
) -> None:
    """A cached selection is not reused after a conversation has changed its status."""
    since = start + timedelta(days=1, hours=9)
    until = since + timedelta(minutes=1)
    for second in range(20):
        world.insert(created_at=since + timedelta(seconds=second + 1))
    now = until
    send = connect(Emulator(world, clock=lambda: now))
    window = {"created_after": _text(since), "created_before": _text(until)}
    counts = []
    while now < until + timedelta(minutes=5):
        listed = _ids(read_all(send, status="ended", **window))
        assert listed == world.ids(created_after=since, created_before=until, status="ended", now=now)[::-1]
        counts.append(len(listed))
        now += timedelta(seconds=7)
    assert counts == sorted(counts)
    assert len(set(counts)) > 8


@pytest.mark.parametrize("after_inclusive", [False, True])
@pytest.mark.parametrize("before_inclusive", [False, True])
def test_each_bound_may_be_inclusive(
    world: World, long_after: datetime, connect: Any, *, after_inclusive: bool, before_inclusive: bool
) -> None:
    """Whether the bounds are inclusive is undocumented, so both are possible."""
    everyone = world.ids()
    send = connect(
        Emulator(
            world,
            clock=lambda: long_after,
            after_inclusive=after_inclusive,
            before_inclusive=before_inclusive,
            order="created_asc",
        )
    )
    bounds = {
        "created_after": _text(world.created_at(everyone[10])),
        "created_before": _text(world.created_at(everyone[20])),
    }
    listed = [item["id"] for item in send("/conversations", params=bounds).json()["items"]]
    assert listed == everyone[10 if after_inclusive else 11 : 21 if before_inclusive else 20]


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-05T12:00:00Z",
        "2026-11-05T12:00:00.000000Z",
        "2026-11-05T12:00:00.0Z",
        "2026-11-05t12:00:00z",
        "2026-11-05T14:00:00+02:00",
        "2026-11-05T07:30:00.000-04:30",
    ],
)
def test_a_bound_may_have_any_documented_format(send: Any, world: World, text: str) -> None:
    """With or without a fraction, in UTC or with an offset that is percent-encoded."""
    moment = datetime.fromisoformat("2026-11-05T12:00:00+00:00")
    page = send("/conversations", params={"created_after": text, "limit": 1_000}).json()
    assert [item["id"] for item in page["items"]] == world.ids(created_after=moment + _MICROSECOND)[::-1]


def test_a_window_from_later_to_earlier_is_empty(send: Any) -> None:
    """It is not an error."""
    bounds = {"created_after": "2026-11-05T00:00:00Z", "created_before": "2026-11-04T00:00:00Z"}
    assert send("/conversations", params=bounds).json()["items"] == []


def test_unknown_parameters_are_ignored(send: Any) -> None:
    """There is no filter by agent."""
    assert len(send("/conversations", params={"agent_id": "unknown"}).json()["items"]) == 100


@pytest.mark.parametrize("order", ["created_asc", "created_desc", "updated_desc", "shuffled"])
def test_every_order_lists_all_conversations(
    world: World, long_after: datetime, connect: Any, read_all: Callable[..., Any], order: Any
) -> None:
    """On one page, where no order can matter, the listing is complete whatever its order."""
    send = connect(Emulator(world, clock=lambda: long_after, order=order))
    listed = _ids(read_all(send, limit=1_000))
    assert sorted(listed) == sorted(world.ids())
    if order.startswith("created"):
        assert listed == world.ids()[:: 1 if order == "created_asc" else -1]
    else:
        assert listed not in (world.ids(), world.ids()[::-1])


def test_the_latest_change_comes_first_when_ordered_by_update(
    world: World, start: datetime, connect: Any
) -> None:
    """Creation, start, end and the arrival of costs are changes."""
    now = start + timedelta(days=4)
    send = connect(Emulator(world, clock=lambda: now, order="updated_desc"))
    items = send("/conversations", params={"limit": 1_000}).json()["items"]
    ends = [item["ended_at"] for item in items if item["status"] == "ended"]
    assert ends != sorted(ends, reverse=True)
    assert max(ends) in ends[:20]
    assert len(items) == len(world.ids(now=now))


def test_shuffled_order_differs_between_requests(world: World, long_after: datetime, connect: Any) -> None:
    """Two equal requests have different orders, and an equal emulator repeats both orders."""
    runs = []
    for _ in range(2):
        send = connect(Emulator(world, clock=lambda: long_after, order="shuffled", seed=3))
        runs.append([[item["id"] for item in send("/conversations").json()["items"]] for _ in range(2)])
    assert runs[0][0] != runs[0][1]
    assert runs[0] == runs[1]


def test_a_conversation_becomes_visible_late(world: World, connect: Any) -> None:
    """A conversation is neither listed nor found until the visibility delay has passed."""
    everyone = world.ids()
    now = world.created_at(everyone[200])
    send = connect(Emulator(world, clock=lambda: now, visible_after=timedelta(hours=1)))
    visible = world.ids(created_before=now - timedelta(hours=1) + _MICROSECOND)
    assert 0 < len(visible) < 200
    listed = send("/conversations", params={"limit": 1_000}).json()["items"]
    assert [item["id"] for item in listed] == visible[::-1]
    assert send(f"/conversations/{visible[-1]}").status_code == 200
    assert send(f"/conversations/{everyone[200]}").status_code == 404


def test_the_future_is_not_listed(world: World, connect: Any) -> None:
    """A conversation appears at the time of its creation."""
    everyone = world.ids()
    now = world.created_at(everyone[30]) - _MICROSECOND
    send = connect(Emulator(world, clock=lambda: now))
    assert len(send("/conversations").json()["items"]) == 30
    now += _MICROSECOND
    assert len(send("/conversations").json()["items"]) == 31


def test_a_deletion_during_paging_makes_simple_paging_miss_one(
    emulator: Emulator, world: World, send: Any, read_all: Callable[..., Any]
) -> None:
    """The listing changes between two pages, as the real one may."""
    everyone = world.ids()[::-1]
    asked = []

    def delete_the_first(nth: int) -> None:
        asked.append(nth)
        if nth == 2:
            world.delete(everyone[0])

    emulator.before_list = delete_the_first
    listed = _ids(read_all(send))
    assert asked == list(range(1, 9))
    assert set(everyone) - set(listed) == {everyone[100]}


def test_an_insertion_during_paging_makes_simple_paging_repeat_one(
    emulator: Emulator, world: World, send: Any, read_all: Callable[..., Any], end: datetime
) -> None:
    """An insertion on an earlier page moves one conversation to the next page."""
    everyone = world.ids()[::-1]

    def insert_one(nth: int) -> None:
        if nth == 2:
            world.insert(created_at=end)

    emulator.before_list = insert_one
    assert _ids(read_all(send)) == [*everyone[:100], *everyone[99:]]


def test_deep_pages_of_a_large_world_are_fast(start: datetime, long_after: datetime) -> None:
    """A status filter over 200,000 conversations is not computed again for each page."""
    world = World(conversations=200_000, start=start)
    emulator = Emulator(world, clock=lambda: long_after)
    ended = world.ids(status="ended")[::-1]
    with httpx.Client(
        transport=emulator.transport(),
        base_url="http://emulator",
        headers={"Authorization": "Bearer emulator-token"},
    ) as client:
        for index in range(1, 1_990, 20):
            page = client.get("/conversations", params={"status": "ended", "index": index}).json()
            assert [item["id"] for item in page["items"]] == ended[100 * (index - 1) : 100 * index]
