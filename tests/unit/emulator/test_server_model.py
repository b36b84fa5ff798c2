"""Servers that behave differently where the API contract leaves it open."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.emulator.server_model import ServerModel, ServerOptions, parse_option

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=30)


def at(microseconds: int) -> datetime:
    """Return the time at this offset from noon."""
    return NOON + timedelta(microseconds=microseconds)


def world_at(*microseconds: int) -> World:
    """Return a world with one conversation at each offset from noon."""
    return World(created=[at(offset) for offset in microseconds], start=NOON - timedelta(days=1))


def client(emulator: Emulator) -> httpx.Client:
    """Return a client of the emulator, with the right token."""
    return httpx.Client(
        transport=emulator.transport(),
        base_url="http://emulator",
        headers={"Authorization": f"Bearer {emulator.token}"},
    )


def page(emulator: Emulator, **parameters: Any) -> dict[str, Any]:
    """Return the response body of one list request."""
    body: dict[str, Any] = client(emulator).get("/conversations", params=parameters).raise_for_status().json()
    return body


def listed(emulator: Emulator, **parameters: Any) -> list[str]:
    """Return the ids of one page."""
    return [item["id"] for item in page(emulator, **parameters)["items"]]


def text(time: datetime) -> str:
    """Return the time as this provider sends it."""
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("precision", "rounding", "stored"),
    [
        ("microseconds", "ceil", [1_499, 1_500, 499_999, 500_000]),
        ("milliseconds", "floor", [1_000, 1_000, 499_000, 500_000]),
        ("milliseconds", "round", [1_000, 2_000, 500_000, 500_000]),
        ("milliseconds", "ceil", [2_000, 2_000, 500_000, 500_000]),
        ("three_hundredths", "floor", [0, 0, 496_666, 500_000]),
        ("three_hundredths", "round", [0, 0, 500_000, 500_000]),
        ("three_hundredths", "ceil", [3_333, 3_333, 500_000, 500_000]),
        ("hundredths", "ceil", [10_000, 10_000, 500_000, 500_000]),
        ("tenths", "floor", [0, 0, 400_000, 500_000]),
        ("seconds", "floor", [0, 0, 0, 0]),
        ("seconds", "round", [0, 0, 0, 1_000_000]),
        ("seconds", "ceil", [1_000_000] * 4),
    ],
)
def test_creation_times_are_stored_with_a_precision(precision: Any, rounding: Any, stored: list[int]) -> None:
    """Bounds are compared with the stored time, not with the true one."""
    world = world_at(1_499, 1_500, 499_999, 500_000)
    emulator = Emulator(
        world,
        clock=lambda: LATER,
        stored_precision=precision,
        stored_rounding=rounding,
        after_inclusive=True,
        before_inclusive=True,
    )
    assert [emulator.stored_at(id) for id in world.ids()] == [at(offset) for offset in stored]
    for id, offset in zip(world.ids(), stored, strict=True):
        exact = text(at(offset))
        assert id in listed(emulator, created_after=exact, created_before=exact)
        assert id not in listed(emulator, created_after=text(at(offset + 1)))
        assert id not in listed(emulator, created_before=text(at(offset - 1)))


def test_a_deletion_does_not_leave_old_stored_times() -> None:
    """Stored times are those of the present conversations."""
    world = world_at(100, 2_000, 3_000)
    emulator = Emulator(world, clock=lambda: LATER, stored_precision="milliseconds", order="created_asc")
    assert len(listed(emulator, created_after=text(at(1_000)))) == 2
    world.delete(world.ids()[1])
    assert listed(emulator, created_after=text(at(1_000))) == world.ids()[1:]


@pytest.mark.parametrize(
    ("precision", "rounding", "compared"),
    [
        ("microseconds", "floor", 1_500),
        ("milliseconds", "floor", 1_000),
        ("milliseconds", "round", 2_000),
        ("milliseconds", "ceil", 2_000),
        ("seconds", "floor", 0),
        ("seconds", "round", 0),
        ("seconds", "ceil", 1_000_000),
    ],
)
def test_each_bound_is_rounded_before_the_comparison(precision: Any, rounding: Any, compared: int) -> None:
    """Each bound has a rounding of its own."""
    world = world_at(compared - 1, compared, compared + 1)
    first, middle, last = world.ids()
    after = Emulator(world, clock=lambda: LATER, bound_precision=precision, after_rounding=rounding)
    before = Emulator(world, clock=lambda: LATER, bound_precision=precision, before_rounding=rounding)
    bound = text(at(1_500))
    assert listed(after, created_after=bound) == [last]
    assert listed(before, created_before=bound) == [first]
    both = Emulator(
        world,
        clock=lambda: LATER,
        bound_precision=precision,
        after_rounding=rounding,
        before_rounding=rounding,
        after_inclusive=True,
        before_inclusive=True,
    )
    assert listed(both, created_after=bound, created_before=bound) == [middle]


def test_times_before_1970_are_rounded_like_all_others() -> None:
    """Floor means towards the past, also for negative numbers."""
    created = datetime(1969, 12, 31, 23, 59, 59, 999_400, tzinfo=UTC)
    world = World(created=[created], start=NOON)
    for rounding, offset in (("floor", -400), ("round", -400), ("ceil", 600)):
        emulator = Emulator(world, stored_precision="milliseconds", stored_rounding=rounding)  # type: ignore[arg-type]
        assert emulator.stored_at(world.ids()[0]) == created + timedelta(microseconds=offset)


def test_bounds_compared_as_text_misorder_fractions_of_another_length() -> None:
    """Only bounds with six fractional digits in UTC are compared correctly."""
    world = world_at(0, 500_000, 1_000_000)
    emulator = Emulator(world, clock=lambda: LATER, bound_comparison="text", order="created_asc")
    first, middle, last = world.ids()
    assert listed(emulator, created_after="2026-11-05T12:00:00.000000Z") == [middle, last]
    # "Z" sorts after "." and after every digit.
    assert listed(emulator, created_after="2026-11-05T12:00:00Z") == [last]
    assert listed(emulator, created_before="2026-11-05T12:00:00Z") == [first, middle]
    assert listed(emulator, created_before="2026-11-05T12:00:00.5Z") == [first, middle]
    assert listed(emulator, created_after="2026-11-05T12:00:00.500000Z") == [last]
    assert listed(emulator, created_after="2026-11-05T14:00:00.000000+02:00") == []
    inclusive = Emulator(world, clock=lambda: LATER, bound_comparison="text", after_inclusive=True)
    assert len(listed(inclusive, created_after="2026-11-05T12:00:00.500000Z")) == 2


@pytest.mark.parametrize("offset", ["+0000", "-0000", "+0200", "-0430"])
def test_an_offset_may_lack_its_colon(offset: str) -> None:
    """The vendor's own client sends offsets in this form."""
    world = world_at(-1, 0, 1)
    local = NOON.astimezone(datetime.strptime(offset, "%z").tzinfo)
    bound = f"{local:%Y-%m-%dT%H:%M:%S}{offset}"
    assert listed(Emulator(world, clock=lambda: LATER), created_after=bound) == world.ids()[2:]


@pytest.mark.parametrize(("fixed_limit", "sizes"), [("all", [250, 0]), (200, [200, 50])])
def test_the_requested_limit_may_be_ignored(fixed_limit: Any, sizes: list[int]) -> None:
    """Pages have a fixed size, or one page has every row."""
    emulator = Emulator(world_at(*range(250)), clock=lambda: LATER, fixed_limit=fixed_limit)
    for limit in (1, 100, 1_000):
        pages = [page(emulator, limit=limit, index=index) for index in (1, 2)]
        assert [len(one["items"]) for one in pages] == sizes
        assert [one["has_more"] for one in pages] == [sizes[1] > 0, False]


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        ("correct", [True, True, False]),
        ("integer", [1, 1, 0]),
        ("total", [12, 12, 12]),
        ("requested_limit", [False, False, False]),
        ("applied_limit", [True, True, True]),
        ("stale_total", [True, True, False]),
    ],
)
def test_has_more_comes_from_a_source(mode: Any, flags: list[Any]) -> None:
    """Twelve rows on pages of four, though ten are requested."""
    emulator = Emulator(world_at(*range(12)), clock=lambda: LATER, max_limit=4, has_more=mode)
    pages = [page(emulator, index=index, limit=10) for index in (1, 2, 3)]
    assert [one["has_more"] for one in pages] == flags
    assert [type(one["has_more"]) for one in pages] == [type(flag) for flag in flags]


def test_has_more_may_be_missing_or_have_its_earlier_name() -> None:
    """As in the faults of the same kind, but for every page."""
    world = world_at(0, 1)
    assert list(page(Emulator(world, clock=lambda: LATER, has_more="missing"))) == ["items", "index"]
    legacy = page(Emulator(world, clock=lambda: LATER, has_more="legacy_name"), limit=1)
    assert list(legacy) == ["items", "index", "has_next"]
    assert legacy["has_next"] is True


def test_a_stale_total_is_counted_before_the_world_changes() -> None:
    """The flag is wrong in both directions."""
    world = world_at(*range(5))
    emulator = Emulator(world, clock=lambda: LATER, has_more="stale_total")
    emulator.before_list = lambda _: world.delete(world.ids()[0])
    first = page(emulator, limit=4)
    assert (len(first["items"]), first["has_more"]) == (4, True)
    assert page(emulator, limit=4, index=2)["items"] == []

    def insert(_: int) -> None:
        world.insert(created_at=at(100))

    emulator.before_list = insert
    assert (len(world), page(emulator, limit=3)["has_more"]) == (3, False)
    assert len(world) == 4


@pytest.mark.parametrize(("mode", "flag"), [("correct", True), ("integer", 1), ("applied_limit", True)])
def test_an_empty_page_may_claim_that_another_follows(mode: Any, flag: Any) -> None:
    """Pages with rows keep the flag of their mode."""
    emulator = Emulator(world_at(0), clock=lambda: LATER, empty_page_has_more=True, has_more=mode)
    assert page(emulator)["has_more"] in (False, 0)
    for index in (2, 3, 100):
        assert page(emulator, index=index) == {"items": [], "index": index, "has_more": flag}


def test_an_empty_page_may_have_null_or_no_items() -> None:
    """Pages with rows are not affected."""
    world = world_at(0)
    null = Emulator(world, clock=lambda: LATER, empty_items="null")
    assert page(null, index=2) == {"items": None, "index": 2, "has_more": False}
    assert len(page(null)["items"]) == 1
    missing = Emulator(world, clock=lambda: LATER, empty_items="missing")
    assert page(missing, index=2) == {"index": 2, "has_more": False}


def test_the_first_page_may_be_number_zero() -> None:
    """Numbers in requests and responses count from 0, and negative ones are refused."""
    world = world_at(*range(5))
    emulator = Emulator(world, clock=lambda: LATER, first_index=0, order="created_asc")
    pages = [page(emulator, index=index, limit=2) for index in (0, 1, 2)]
    assert [item["id"] for one in pages for item in one["items"]] == world.ids()
    assert [one["index"] for one in pages] == [0, 1, 2]
    assert [one["has_more"] for one in pages] == [True, True, False]
    assert page(emulator)["index"] == 0
    refused = client(emulator).get("/conversations", params={"index": -1})
    assert refused.status_code == 422
    assert "equal to 0" in refused.json()["detail"][0]["msg"]


@pytest.mark.parametrize("status", [422, 504])
def test_a_window_may_be_too_long(status: Any) -> None:
    """The limit itself is allowed, and a missing end means now."""
    emulator = Emulator(
        world_at(0), clock=lambda: LATER, max_window=timedelta(days=31), max_window_status=status
    )
    http = client(emulator)
    window = {"created_after": text(LATER - timedelta(days=31)), "created_before": text(LATER)}
    assert http.get("/conversations", params=window).status_code == 200
    assert http.get("/conversations", params={"created_after": window["created_after"]}).status_code == 200
    assert http.get("/conversations").status_code == 200
    window["created_after"] = text(LATER - timedelta(days=31, microseconds=1))
    for parameters in (window, {"created_after": window["created_after"]}):
        response = http.get("/conversations", params=parameters)
        assert response.status_code == status
        if status == 422:
            assert response.json() == {"detail": "created_before - created_after must not exceed 31 days"}


def test_the_date_header_may_be_off() -> None:
    """The server's clock differs from the true time."""
    emulator = Emulator(world_at(0), clock=lambda: LATER, clock_skew=-timedelta(minutes=7))
    date = client(emulator).get("/").headers["Date"]
    assert date == f"{LATER - timedelta(minutes=7):%a, %d %b %Y %H:%M:%S} GMT"


def test_every_field_of_the_model_is_a_keyword_of_the_emulator() -> None:
    """The typed keywords and the dataclass name the same options."""
    names = {field.name for field in fields(ServerModel)}
    assert names == set(ServerOptions.__annotations__)
    assert len(names) == 24


@pytest.mark.parametrize(
    "options",
    [
        {"has_more": "sometimes"},
        {"stored_precision": "days"},
        {"fixed_limit": "most"},
        {"fixed_limit": 0},
        {"max_limit": 0},
        {"first_index": 2},
        {"max_window": timedelta(0)},
        {"replica_lag": timedelta(seconds=-1)},
    ],
)
def test_an_impossible_server_is_refused(options: dict[str, Any]) -> None:
    """The error names the option."""
    (name,) = options
    with pytest.raises(ValueError, match=name):
        Emulator(world_at(0), **options)


@pytest.mark.parametrize(
    ("option", "parsed"),
    [
        ("stored_precision=seconds", ("stored_precision", "seconds")),
        ("has-more=applied_limit", ("has_more", "applied_limit")),
        ("fixed_limit=all", ("fixed_limit", "all")),
        ("fixed_limit=500", ("fixed_limit", 500)),
        ("first_index=0", ("first_index", 0)),
        ("max_window=3600", ("max_window", timedelta(hours=1))),
        ("max_window_status=504", ("max_window_status", 504)),
        ("replica_lag=0.5", ("replica_lag", timedelta(milliseconds=500))),
        ("after_inclusive=true", ("after_inclusive", True)),
        ("empty_page_has_more=false", ("empty_page_has_more", False)),
    ],
)
def test_an_option_can_be_given_on_the_command_line(option: str, parsed: Any) -> None:
    """Durations are in seconds."""
    assert parse_option(option) == parsed


@pytest.mark.parametrize(
    "option",
    ["", "has_more", "nothing=1", "has_more=maybe", "first_index=2", "replica_lag=long", "replica_lag=-1",
     "after_inclusive=yes", "fixed_limit=0", "max_limit=-5"],
)  # fmt: skip
def test_a_wrong_option_is_refused(option: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(ValueError, match=r"NAME=VALUE|not valid"):
        parse_option(option)
