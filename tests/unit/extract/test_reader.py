"""The exact reader against servers with faults and deviations: it reads exactly or raises an error."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import pytest

from tests.support.changing_world import GRAINS
from voiceos_provider.client import ClientConfig, RawPage, Retry, VoiceOSClient
from voiceos_provider.client.pages import parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.emulator.http_messages import Request, json_response
from voiceos_provider.emulator.timestamps import Precision, quantize, to_microseconds
from voiceos_provider.emulator.transport import EmulatorTransport
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSContractError,
    VoiceOSResponseError,
    VoiceOSResponseTooLargeError,
)
from voiceos_provider.extract.reader import read_pages, read_windows
from voiceos_provider.extract.window_reader import UnstableWindowError
from voiceos_provider.interval import TICK, Interval

DAY = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
LONG_AFTER = datetime(2026, 11, 22, tzinfo=UTC)
NOON = DAY.start + timedelta(hours=12)
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)

workers_1_and_4 = pytest.mark.parametrize("workers", [1, 4])


def emulate(conversations: int = 400, **model: Any) -> Emulator:
    """Return an emulator with four days of conversations; `DAY` is the second."""
    start, end = DAY.start - timedelta(days=1), DAY.end + timedelta(days=2)
    world = World(seed=7, conversations=conversations, start=start, end=end)
    return Emulator(world, clock=lambda: LONG_AFTER, **model)


def created(times: Iterable[datetime], **model: Any) -> Emulator:
    """Return an emulator with conversations created at these times."""
    world = World(seed=7, start=DAY.start, end=DAY.end, created=times)
    return Emulator(world, clock=lambda: LONG_AFTER, **model)


def connected(emulator: Emulator, *, page_size: int = 20, **options: Any) -> VoiceOSClient:
    """Return a client that does not wait."""
    retry = Retry(max_attempts=3, base_delay=0.0)
    limits = {name: options.pop(name) for name in ("max_body_bytes",) if name in options}
    config = ClientConfig(
        token=emulator.token, base_url="http://emulator", page_size=page_size, retry=retry, **limits
    )
    options = {"transport": emulator.transport(), "sleep": lambda _: None, "rng": random.Random(1)} | options
    return VoiceOSClient(config, **options)


def read(emulator: Emulator, *, workers: int = 1, interval: Interval = DAY, **options: Any) -> list[RawPage]:
    """Return the pages of an interval."""
    with connected(emulator, **options) as client:
        return list(read_windows(client, interval, max_concurrency=workers))


def ids(emulator: Emulator, **options: Any) -> list[str]:
    """Return the sorted ids that are read."""
    return sorted(id_ for page in read(emulator, **options) for id_ in page.ids if id_)


def truth(emulator: Emulator, interval: Interval = DAY) -> list[str]:
    """Return the sorted ids of an interval."""
    return sorted(emulator.world.ids(created_after=interval.start, created_before=interval.end))


# Precision of times, and batches that share one.


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("apart", [TICK, MILLISECOND, 4 * MILLISECOND, 30 * MILLISECOND])
@pytest.mark.parametrize("precision", get_args(Precision))
@workers_1_and_4
def test_bursts_in_quick_succession_are_read_despite_truncated_bounds(
    precision: Precision, apart: timedelta, workers: int, *, inclusive: bool
) -> None:
    """No window ends at a time that the server cannot distinguish."""
    bursts = [NOON + at * apart for at in range(12) for _ in range(56)]
    others = [DAY.start + at * timedelta(seconds=172.8) for at in range(500)]
    emulator = created(
        bursts + others,
        order="created_asc",
        stored_precision=precision,
        bound_precision=precision,
        after_inclusive=inclusive,
        before_inclusive=inclusive,
    )
    assert ids(emulator, workers=workers, page_size=100) == truth(emulator)


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("precision", ["microseconds", "milliseconds", "seconds"])
def test_bulk_insert_with_one_timestamp_is_read(
    precision: Literal["microseconds", "milliseconds", "seconds"], *, inclusive: bool
) -> None:
    """The server may return fewer conversations per page than share the timestamp."""
    emulator = created(
        [NOON] * 150,
        max_limit=50,
        stored_precision=precision,
        bound_precision=precision,
        after_inclusive=inclusive,
        before_inclusive=inclusive,
    )
    assert ids(emulator, page_size=1_000) == truth(emulator)


@workers_1_and_4
def test_dense_conversations_are_read_in_windows_of_tenths(workers: int) -> None:
    """Of windows of four seconds that meet on whole seconds, a fourth would be listed again."""
    times = [NOON + at * timedelta(milliseconds=99) for at in range(6_000)]
    emulator = created(times, stored_precision="milliseconds", bound_precision="milliseconds")
    hour = Interval(NOON, NOON + timedelta(hours=1))
    assert ids(emulator, workers=workers, page_size=50, interval=hour) == truth(emulator, hour)
    assert len(emulator.requests) <= 1.7 * len(times) / 50


@pytest.mark.parametrize("precision", ["milliseconds", "seconds"])
@workers_1_and_4
def test_dense_conversations_are_read_from_a_server_that_refuses_equal_bounds(
    precision: Precision, workers: int
) -> None:
    """Bounds a microsecond apart are equal once they are rounded, so that probe requests are refused."""
    times = [NOON + at * timedelta(milliseconds=99) for at in range(2_000)]
    emulator = created(times, stored_precision=precision, bound_precision=precision)

    def respond(request: Request) -> Any:
        bounds = (
            to_microseconds(datetime.fromisoformat(request.query[f"created_{at}"]))
            for at in ("after", "before")
        )
        after, before = (quantize(bound, precision=precision, rounding="floor") for bound in bounds)
        return emulator.respond(request) if after < before else json_response(422, {"detail": "reversed"})

    hour = Interval(NOON, NOON + timedelta(hours=1))
    options: dict[str, Any] = {"page_size": 50, "transport": EmulatorTransport(respond)}
    assert ids(emulator, workers=workers, interval=hour, **options) == truth(emulator, hour)


@pytest.mark.parametrize("order", ["created_asc", "shuffled"])
@workers_1_and_4
def test_burst_of_some_milliseconds_is_read_in_any_order(order: Any, workers: int) -> None:
    """Where the order changes with each request, no two passes agree, so windows must get short enough."""
    burst = [NOON + at * timedelta(microseconds=97) for at in range(400)]
    emulator = created([*burst, *(DAY.start + at * timedelta(minutes=10) for at in range(144))], order=order)
    assert ids(emulator, workers=workers, page_size=100) == truth(emulator)


def test_two_full_seconds_take_a_bounded_number_of_requests() -> None:
    """The server compares whole seconds and includes both bounds."""
    emulator = created(
        [NOON + at * SECOND for at in range(2) for _ in range(60)],
        stored_precision="seconds",
        bound_precision="seconds",
        after_inclusive=True,
        before_inclusive=True,
    )
    assert ids(emulator, page_size=100) == truth(emulator)
    assert len(emulator.requests) < 60


@pytest.mark.parametrize("rounding", ["floor", "round", "ceil"])
@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("edge", [timedelta(0), timedelta(milliseconds=500, microseconds=1)])
def test_adjacent_intervals_lose_nothing_at_their_edge(
    edge: timedelta,
    precision: Precision,
    rounding: Literal["floor", "round", "ceil"],
    *,
    inclusive: bool,
) -> None:
    """The edge may be rounded and compared in any way; both may contain a conversation on it."""
    middle = NOON + edge
    emulator = created(
        [middle + at * unit for at in range(-3, 4) for unit in (SECOND, MILLISECOND, TICK)],
        stored_precision=precision,
        bound_precision=precision,
        after_rounding=rounding,
        before_rounding=rounding,
        after_inclusive=inclusive,
        before_inclusive=inclusive,
    )
    first = ids(emulator, interval=Interval(DAY.start, middle))
    second = ids(emulator, interval=Interval(middle, DAY.end))
    assert sorted({*first, *second}) == truth(emulator)
    assert len(first) == len(set(first))
    assert len(second) == len(set(second))
    grain = GRAINS[precision]
    both = set(first) & set(second)
    assert all(abs(emulator.stored_at(id_) - middle) <= grain for id_ in both)


def test_conversations_just_before_the_interval_are_not_exported() -> None:
    """Windows are requested a second early, and many conversations may be in it."""
    early = [DAY.start - at * MILLISECOND for at in range(1, 900)]
    emulator = created([*early, DAY.start, NOON])
    assert ids(emulator, page_size=1) == truth(emulator)
    assert len(truth(emulator)) == 2


def test_bounds_have_six_digits_and_start_a_second_early() -> None:
    """Servers that compare text misorder instants with a varying number of digits."""
    emulator = emulate(50, bound_comparison="text")
    assert ids(emulator) == truth(emulator)
    whole = [request for request in emulator.requests if request.query["limit"] == "20"][-1]
    assert whole.query["created_after"].endswith(".000000Z")
    assert emulator.requests[1].query["created_after"] == "2026-10-31T23:59:59.000000Z"


# The flag that says whether a page follows.


@pytest.mark.parametrize(
    "has_more",
    [
        "correct",
        "missing",
        "legacy_name",
        "integer",
        "total",
        "requested_limit",
        "applied_limit",
        "stale_total",
    ],
)
@pytest.mark.parametrize("max_limit", [None, 1, 7])
@pytest.mark.parametrize("repeats_last_page", [True, False])
def test_every_flag_is_read_exactly(has_more: Any, max_limit: int | None, *, repeats_last_page: bool) -> None:
    """Flags have any known or likely form, with any page size limit and any response beyond the last page."""
    for emulator in (
        emulate(200, has_more=has_more, max_limit=max_limit),
        created([NOON] * 50, has_more=has_more, max_limit=max_limit),
    ):
        if repeats_last_page:
            emulator.faults.add(Fault.clamp_index())
        assert ids(emulator) == truth(emulator)


@workers_1_and_4
def test_flag_computed_from_the_requested_limit_is_ignored_on_a_clamped_page(workers: int) -> None:
    """It is false on every page."""
    emulator = emulate(2_000, has_more="requested_limit", max_limit=100)
    assert ids(emulator, workers=workers, page_size=1_000) == truth(emulator)


@pytest.mark.parametrize("has_more", ["requested_limit", "missing"])
@pytest.mark.parametrize("at", range(1, 8))
def test_deletion_before_any_request_hides_nothing_behind_a_clamped_page(
    has_more: Literal["requested_limit", "missing"], at: int
) -> None:
    """A deletion among eleven conversations empties the second page of ten."""
    emulator = created([NOON] * 11, has_more=has_more, max_limit=10)
    newest = emulator.world.ids()[-1]
    emulator.before_list = lambda nth: emulator.world.delete(newest) if nth == at else None
    assert set(ids(emulator)) >= set(truth(emulator))


@pytest.mark.parametrize("has_more", ["requested_limit", "missing"])
def test_shuffled_second_page_does_not_count_as_a_repeated_first_one(
    has_more: Literal["requested_limit", "missing"],
) -> None:
    """If each second has another order, two passes seldom agree, and the reader raises an error."""
    for seed in range(10):
        emulator = created([NOON] * 11, has_more=has_more, max_limit=10, order="shuffled", seed=seed)
        with suppress(UnstableWindowError):
            assert ids(emulator) == truth(emulator)


def test_missing_flag_costs_two_requests_per_window() -> None:
    """An empty page follows each page."""
    emulator = emulate(8_000, has_more="missing")
    assert ids(emulator) == truth(emulator)
    assert len(emulator.requests) <= 2 * 2.2 * len(truth(emulator)) / 20


@pytest.mark.parametrize("items", ["array", "null"])
def test_empty_page_with_a_true_flag_is_harmless(items: Literal["array", "null"]) -> None:
    """Its items may be an empty list or null."""
    emulator = emulate(empty_page_has_more=True, empty_items=items)
    assert ids(emulator) == truth(emulator)
    empty = created([], empty_page_has_more=True, empty_items=items)
    assert ids(empty) == []
    assert len(empty.requests) < 10


def test_empty_first_page_before_others_is_not_the_end() -> None:
    """A server may filter a page after cutting it."""
    emulator = created([NOON + at * SECOND for at in range(60)])

    def respond(request: Request) -> Any:
        response = emulator.respond(request)
        page = json.loads(response.body) if request.query else {}
        if request.query.get("index") == "1" and page.get("has_more"):
            return json_response(200, page | {"items": []})
        return response

    assert ids(emulator, transport=EmulatorTransport(respond)) == truth(emulator)


@workers_1_and_4
@pytest.mark.parametrize("size", [1, 10, 20, 40, 50])
def test_server_that_repeats_each_page_is_read_exactly_or_rejected(size: int, workers: int) -> None:
    """It sends page 1 for page 2 as well; pages of one conversation may be equal by chance."""
    emulator = created([NOON] * size)
    emulator.faults.add(Fault.repeat_page())
    with pytest.raises(UnstableWindowError) if size == 1 else nullcontext():
        assert ids(emulator, workers=workers) == truth(emulator)


def test_second_that_keeps_changing_is_rejected_retryably() -> None:
    """An error is better than an export that may miss a conversation."""
    emulator = created([NOON] * 60)
    emulator.before_list = lambda nth: emulator.world.delete(emulator.world.ids()[0]) if nth > 3 else None
    with pytest.raises(
        VoiceOSResponseError, match=r"holds more than a page.*Nothing was exported\."
    ) as raised:
        ids(emulator, page_size=5)
    assert raised.value.retryable


# Servers that refuse what is wide, and pages that are too large.


@pytest.mark.parametrize("status", [422, 504])
@pytest.mark.parametrize("longest", [timedelta(minutes=10), timedelta(hours=5)])
@workers_1_and_4
def test_server_that_rejects_wide_windows_is_read_in_narrow_ones(
    status: Literal[422, 504], longest: timedelta, workers: int
) -> None:
    """The error comes from the server or from a gateway that timed out."""
    emulator = emulate(max_window=longest, max_window_status=status)
    assert ids(emulator, workers=workers) == truth(emulator)


def test_ten_empty_years_are_read_in_narrow_windows() -> None:
    """Requests that the server makes necessary do not count as a fault."""
    years = Interval(DAY.start - timedelta(days=3_650), DAY.end)
    emulator = created([NOON], max_window=timedelta(days=2), max_window_status=504)
    assert ids(emulator, interval=years) == truth(emulator)
    assert len(emulator.requests) > 1_800


def test_ten_years_with_one_conversation_take_few_requests() -> None:
    """One request reads the years, and another confirms the end."""
    emulator = created([NOON])
    assert ids(emulator, interval=Interval(DAY.start - timedelta(days=3_650), DAY.end)) == truth(emulator)
    assert len(emulator.requests) <= 4


def test_short_outage_of_a_gateway_does_not_narrow_all_later_windows() -> None:
    """Sixteen rejected requests prove nothing about ten years."""
    years = Interval(DAY.start - timedelta(days=3_650), DAY.end)
    times = [years.start + at * timedelta(days=3_650 / 2_000) for at in range(2_000)]
    emulator = created(times)
    emulator.faults.add(Fault.server_error(504), at=range(20, 36))
    assert len(ids(emulator, interval=years)) == 2_000
    assert len(emulator.requests) < 500


def test_request_rejected_at_any_width_fails_with_the_server_s_message() -> None:
    """Narrower windows are requested first."""
    emulator = emulate()
    body = b'{"detail": [{"loc": ["query", "limit"], "msg": "too large", "type": "x"}]}'
    emulator.faults.add(Fault.body(body, status=422), at=range(2, 100))
    with pytest.raises(VoiceOSBadRequestError, match="too large"):
        ids(emulator)
    assert len(emulator.requests) < 20


def test_ignored_limit_with_a_too_large_body_narrows_the_windows() -> None:
    """They may be shorter than a minute."""
    times = [NOON + at * 50 * MILLISECOND for at in range(300)]
    emulator = created(times, fixed_limit="all")
    assert ids(emulator, max_body_bytes=200_000) == truth(emulator)


def test_second_that_is_too_large_for_a_body_fails() -> None:
    """It cannot be split."""
    emulator = created([NOON] * 300, fixed_limit="all")
    with pytest.raises(VoiceOSResponseTooLargeError):
        ids(emulator, max_body_bytes=100_000)


def test_first_day_of_the_calendar_can_be_read() -> None:
    """No bound is before year 1."""
    first = datetime.min.replace(tzinfo=UTC)
    emulator = created([NOON])
    assert ids(emulator, interval=Interval(first, first + timedelta(days=1))) == []


# Data that is odd and harmless.


def test_old_rows_and_invalid_start_times_are_exported_as_sent() -> None:
    """The server's filter decides, and not `started_at`, which may be hours off or without a zone."""
    emulator = emulate()
    expected = truth(emulator)
    for id_, text in zip(
        expected,
        [
            "1970-01-01T00:00:00Z",
            "2026-10-20T05:00:00Z",
            "2026-11-01T09:00:00",
            "yesterday",
            "2031-01-01T00:00:00Z",
        ],
        strict=False,
    ):
        emulator.world.set_started_at(id_, text)
    assert ids(emulator) == expected


@pytest.mark.parametrize("soft", [True, False])
@workers_1_and_4
def test_deletions_during_reading_lose_nothing_else(workers: int, *, soft: bool) -> None:
    """They are hard or soft."""
    emulator = emulate(2_000)
    victims = iter(truth(emulator)[::3])
    emulator.before_list = lambda nth: emulator.world.delete(next(victims), soft=soft) if nth < 40 else None
    assert set(ids(emulator, workers=workers)) >= set(truth(emulator))


@pytest.mark.parametrize("status", [403, 500])
def test_conversation_deleted_from_an_overflowing_window_is_unreadable(status: int) -> None:
    """Its state is not known, so it stays pending."""
    emulator = emulate(2_000)
    victim = truth(emulator)[0]
    first = emulator.world.ids(created_before=DAY.end)[-1]
    emulator.before_list = lambda nth: (
        emulator.world.delete(first) if nth == 3 and first in emulator.world.ids() else None
    )
    emulator.set_conversation_status(first, status)
    pages = read(emulator)
    assert [id_ for page in pages for id_ in page.unreadable] == [first]
    assert victim in {id_ for page in pages for id_ in page.ids}


def test_items_without_an_id_are_not_compared_between_windows() -> None:
    """Two equal ones do not prove that the server ignores the bounds."""

    def respond(request: Request) -> Any:
        bounds = [datetime.fromisoformat(request.query[name]) for name in ("created_after", "created_before")]
        width = bounds[1] - bounds[0]
        items = [{"id": None}] if width > timedelta(hours=1) else []
        more = width > timedelta(hours=7)
        return json_response(200, {"items": items, "index": 1, "has_more": more})

    pages = read(created([]), transport=EmulatorTransport(respond))
    assert all(id_ is None for page in pages for id_ in page.ids)


def test_conversation_whose_creation_time_changes_is_exported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its second listing triggers a check of the server and no error."""
    emulator = emulate()
    moved = emulator.world.ids(created_after=DAY.start)[0]
    item = emulator.world.conversation(moved)

    def respond(request: Request) -> Any:
        response = emulator.respond(request)
        page = json.loads(response.body)
        query = request.query
        if query["created_before"] > "2026-11-01T23" and "limit" in query and query["limit"] == "20":
            page["items"] = [item, *page["items"][:19]] if len(page["items"]) > 19 else [item, *page["items"]]
        return json_response(200, page)

    with caplog.at_level(logging.WARNING):
        read_ = ids(emulator, transport=EmulatorTransport(respond), page_size=20)
    assert read_.count(moved) == 1


# Servers that ignore a bound.


@pytest.mark.parametrize("bound", ["created_after", "created_before", None])
@pytest.mark.parametrize("order", ["created_asc", "created_desc"])
def test_ignored_bound_is_an_error_with_proof(bound: Any, order: Any) -> None:
    """The server lists conversations created after one instant and before an earlier one."""
    emulator = emulate(order=order)
    emulator.faults.add(Fault.ignore_window(bound))
    with pytest.raises(VoiceOSContractError, match=r"The server ignores created_after or created_before\."):
        ids(emulator, workers=2)
    proof = [
        request
        for request in emulator.requests
        if request.query["created_after"] > request.query["created_before"]
    ]
    assert proof


def test_endless_pages_end_in_bounded_time() -> None:
    """Each page has other conversations."""
    numbers = iter(range(10**9))
    lock = threading.Lock()

    def respond(request: Request) -> Any:
        with lock:
            items = [{"id": f"c{next(numbers)}"}] if request.query["limit"] == "20" else []
        return json_response(200, {"items": items, "index": 1, "has_more": True})

    emulator = created([])
    with connected(emulator, transport=EmulatorTransport(respond)) as client:
        client.config = replace(client.config, max_pages=1_000)
        with pytest.raises(VoiceOSContractError, match=r"no end|brought only"):
            list(read_windows(client, DAY, max_concurrency=1))


# Resuming, and tokens.


@workers_1_and_4
def test_every_list_request_is_counted_once(workers: int) -> None:
    """The pages carry the count for the receipt, also with `read_strategy="pages"`."""
    emulator = emulate(4_000)
    assert sum(page.requests for page in read(emulator, workers=workers)) == len(emulator.requests)
    before = len(emulator.requests)
    with connected(emulator) as client:
        pages = list(read_pages(client, DAY))
    assert sum(page.requests for page in pages) == len(emulator.requests) - before
    assert sorted(id_ for page in pages for id_ in page.ids if id_) == truth(emulator)


@workers_1_and_4
def test_row_on_a_page_in_flight_is_read_again_after_a_kill(workers: int) -> None:
    """A worker that read the overlap of a later window may die before it delivers it."""
    emulator = emulate(4_000)
    for pages in (1, 5, 20, 40):
        with connected(emulator) as client:
            reading = read_windows(client, DAY, max_concurrency=workers)
            before = [page for page, _ in zip(reading, range(pages), strict=False)]
            reading.close()
            remaining = DAY.without([page.covers for page in before if page.covers])
            after = list(read_windows(client, DAY, remaining=remaining, max_concurrency=workers))
        assert {id_ for page in (*before, *after) for id_ in page.ids} == set(truth(emulator))


class Tokens:
    """Successive tokens of a connection."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)
        self.requested = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.requested += 1
            return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


@workers_1_and_4
def test_rejected_token_is_renewed_once(workers: int) -> None:
    """All workers continue with the new one."""
    emulator = emulate(4_000)
    tokens = Tokens("rotated")

    def rotate(nth: int) -> None:
        if nth == 20:
            object.__setattr__(emulator._handle, "token", "rotated")

    emulator.before_list = rotate
    assert ids(emulator, workers=workers, renew_token=tokens) == truth(emulator)
    assert tokens.requested == 1


def test_token_that_expires_twice_during_one_request_is_renewed_twice() -> None:
    """Another worker renewed it while this one waited for the end of an outage."""
    emulator = emulate()
    emulator.faults.add(Fault.server_error(), at=[1])

    def rotate(token: str) -> None:
        object.__setattr__(emulator._handle, "token", token)

    client = connected(emulator, renew_token=lambda: "third", sleep=lambda _: others_renew())

    def others_renew() -> None:
        client._token = "second"
        rotate("third")

    with client:
        assert client.send(Listing().page(1), parse_page).items
        assert client._token == "third"


@pytest.mark.parametrize(("token", "requests"), [("another", 2), ("emulator-token", 1)])
def test_token_that_stays_rejected_is_an_error(token: str, requests: int) -> None:
    """The error comes at once if the connection still holds the rejected one."""
    emulator = emulate()
    emulator.faults.add(Fault.unauthorized())
    tokens: Callable[[], str] = Tokens(token)
    with pytest.raises(VoiceOSAuthError, match="401"):
        ids(emulator, renew_token=tokens)
    assert len(emulator.requests) == requests


def test_shifting_pages_yield_each_conversation_once() -> None:
    """New conversations move others to the next page, where they are listed again."""
    emulator = emulate(400)
    expected = truth(emulator)
    read: list[str] = []
    with connected(emulator) as client:
        for page in read_pages(client, DAY):
            if len(read) < 60:
                emulator.world.insert(created_at=DAY.end - TICK * (len(read) + 1))
            read += [id_ for id_ in page.ids if id_]
    assert len(read) == len(set(read))
    assert set(expected) <= set(read)
