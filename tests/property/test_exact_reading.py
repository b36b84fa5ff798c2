"""Exact reading as a property: each conversation of an interval once, on every kind of server.

Hypothesis draws a server of the stated model (docs/exact-reading.md), a world, and a schedule of what happens before
each request: between two pages that a reader hands over, several workers send any number of requests.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import islice, pairwise
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.changing_world import READABLE, WINDOW, ChangingWorld, Setting, settings
from tests.support.exporting import export_pages
from voiceos_provider.client.pages import RawPage
from voiceos_provider.emulator.server_model import ServerModel
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSResponseError
from voiceos_provider.extract.reader import read_pages, read_windows
from voiceos_provider.interval import TICK
from voiceos_provider.load.memory import MemoryDestination

WORLDS = int(os.environ.get("VOICEOS_WORLDS", "5000"))
"""Number of worlds, half of them static; a higher number searches further."""

_MILLISECOND, _SECOND = 1_000, 1_000_000


def in_windows(moving: ChangingWorld) -> list[RawPage]:
    """Read windows, as exports do."""
    with moving.client() as client:
        return list(read_windows(client, WINDOW, max_concurrency=moving.setting.workers))


def by_page_number(moving: ChangingWorld) -> list[RawPage]:
    """Read numbered pages, with the same tolerance at the bounds of the interval."""
    with moving.client() as client:
        return list(read_pages(client, WINDOW))


def truncating(precision: str, **model: object) -> ServerModel:
    """Return a server that stores and compares times in milliseconds or seconds, as BSON dates and epoch keys do."""
    return ServerModel(stored_precision=precision, bound_precision=precision, order="created_asc", **model)  # type: ignore[arg-type]


def bursts(*each: int, apart: int, start: int = 600 * _SECOND) -> tuple[int, ...]:
    """Return creation times: a number of conversations at one instant, and the next number later."""
    return tuple(start + number * apart for number, count in enumerate(each) for _ in range(count))


LOST_IN_TRUNCATED_MILLISECONDS = Setting(
    created=(*bursts(56, 56, 56, apart=_MILLISECOND), *range(0, 1_200 * _SECOND, 2_400_000)),
    model=truncating("milliseconds"),
    page_size=100,
    workers=1,
)
ONE_TIMESTAMP = Setting(
    created=bursts(150, apart=1), model=truncating("milliseconds"), page_size=100, workers=1
)
ONE_SECOND = replace(
    ONE_TIMESTAMP, model=truncating("seconds", after_inclusive=True, before_inclusive=True), workers=4
)
TWO_FULL_SECONDS = replace(ONE_SECOND, created=bursts(60, 60, apart=_SECOND), workers=1)
CLAMPED_AND_WRONG = Setting(
    created=tuple(range(0, 1_000 * _SECOND, 2 * _SECOND)),
    model=ServerModel(max_limit=10, has_more="requested_limit"),
    page_size=100,
    workers=2,
)
ROUNDED_EDGE = Setting(
    created=bursts(3, 3, apart=_SECOND, start=0),
    model=ServerModel(
        stored_precision="seconds", bound_precision="seconds", after_rounding="round", before_rounding="round"
    ),
    page_size=10,
    workers=1,
)
DELETED_BEHIND_A_WRONG_FLAG = Setting(
    created=bursts(11, apart=1),
    model=ServerModel(max_limit=10, has_more="requested_limit"),
    page_size=100,
    workers=1,
    deletions={3: 10},  # between the first page and the second one, which is empty then
)
SHUFFLED_BEHIND_A_WRONG_FLAG = replace(
    DELETED_BEHIND_A_WRONG_FLAG, model=replace(CLAMPED_AND_WRONG.model, order="shuffled"), deletions={}
)

ONE_ON_A_PAGE_BY_CHANCE = Setting(
    created=(0, 0), model=ServerModel(order="shuffled", has_more="missing"), page_size=1, workers=1
)


@hypothesis_settings(max_examples=max(1, WORLDS // 2))
@given(settings(moving=False))
@example(LOST_IN_TRUNCATED_MILLISECONDS)
@example(ONE_TIMESTAMP)
@example(ONE_SECOND)
@example(TWO_FULL_SECONDS)
@example(CLAMPED_AND_WRONG)
@example(ROUNDED_EDGE)
def test_static_world_is_read_exactly(setting: Setting) -> None:
    """Every server is read without loss, duplicate or error."""
    moving = ChangingWorld(setting)
    if not setting.is_static:
        moving = ChangingWorld(replace(setting, model=replace(setting.model, order="created_desc")))
    pages = in_windows(moving)
    require_exact(moving, pages)


@hypothesis_settings(max_examples=max(1, WORLDS // 2))
@given(settings())
@example(DELETED_BEHIND_A_WRONG_FLAG)
@example(SHUFFLED_BEHIND_A_WRONG_FLAG)
@example(ONE_ON_A_PAGE_BY_CHANCE)
def test_changing_world_is_read_exactly_or_fails_retryably(setting: Setting) -> None:
    """Only a change causes an error, and its message says that a retry may help."""
    moving = ChangingWorld(setting)
    try:
        pages = in_windows(moving)
    except VoiceOSContractError:
        raise
    except VoiceOSResponseError:
        assert not setting.is_static
        return
    require_exact(moving, pages)


def require_exact(moving: ChangingWorld, pages: Iterable[RawPage]) -> None:
    """Compare what was read with what existed throughout."""
    pages = list(pages)
    listed = [id_ for page in pages for id_ in page.ids if id_]
    assert moving.required <= set(listed)
    assert all(moving.may_be_listed(id_) for id_ in listed)
    assert not [id_ for id_, times in Counter(listed).items() if times > 1]
    assert sum(page.requests for page in pages) == moving.requests
    covered = sorted((page.covers.start, page.covers.end) for page in pages if page.covers)
    assert covered[0][0] == WINDOW.start
    assert covered[-1][1] == WINDOW.end
    assert all(end == start for (_, end), (start, _) in pairwise(covered))


@hypothesis_settings(max_examples=max(1, WORLDS // 10))
@given(settings(), st.integers(0, 20))
@example(TWO_FULL_SECONDS, 1)
def test_retry_after_a_kill_reads_the_missing_conversations(setting: Setting, pages: int) -> None:
    """The pages before the kill and those of the retry cover the interval."""
    moving = ChangingWorld(setting)
    try:
        with moving.client() as client:
            reading = read_windows(client, WINDOW, max_concurrency=setting.workers)
            before = list(islice(reading, pages))
            reading.close()
            remaining = WINDOW.without([page.covers for page in before if page.covers])
            after = list(read_windows(client, WINDOW, remaining=remaining, max_concurrency=setting.workers))
    except VoiceOSContractError:
        raise
    except VoiceOSResponseError:
        assert not setting.is_static
        return
    listed = {id_ for page in (*before, *after) for id_ in page.ids if id_}
    assert moving.required <= listed
    assert all(map(moving.may_be_listed, listed))


@hypothesis_settings(max_examples=max(1, WORLDS // 20))
@given(settings())
def test_each_conversation_is_exported_or_pending(setting: Setting) -> None:
    """Counters add up, whatever changes during the export."""
    moving = ChangingWorld(setting)
    destination = MemoryDestination(columns=["id"])
    try:
        receipt = export_pages(
            in_windows(moving), interval=WINDOW, statuses=["ended"], exported_at=READABLE, target=destination
        )
    except VoiceOSResponseError:
        assert not setting.is_static
        return
    assert destination.table is not None
    exported = destination.table.column("id").to_pylist()
    assert len(exported) == len(set(exported)) == receipt.exported
    assert moving.required <= {*exported, *receipt.pending_ids}
    assert moving.required & moving.ended_before <= set(exported)
    assert set(exported).isdisjoint(receipt.pending_ids)
    assert receipt.pending == len(receipt.pending_ids)
    assert receipt.listed == (
        receipt.exported + receipt.duplicates + receipt.filtered + receipt.pending + receipt.rejected
    )
    assert receipt.requests == moving.requests


@pytest.mark.parametrize(
    ("order", "deletions", "step"),
    [("created_desc", 4, 0.0), ("created_asc", 4, 0.0), ("updated_desc", 0, 20.0), ("shuffled", 0, 0.0)],
)
def test_page_numbers_lose_conversations_where_windows_do_not(
    order: str, deletions: int, step: float
) -> None:
    """The same worlds and changes show that this harness can fail."""
    losses = 0
    for seed in range(20):
        rng = Random(seed)
        setting = Setting(
            created=tuple(sorted(rng.randrange((WINDOW.end - WINDOW.start) // TICK) for _ in range(60))),
            model=ServerModel(order=order),  # type: ignore[arg-type]
            page_size=10,
            workers=1 + seed % 4,
            step=step,
            deletions={rng.randint(4, 8): rng.randrange(60) for _ in range(deletions)},
        )
        losses += bool(lost(setting, by_page_number))
        assert not lost(setting, in_windows)
    assert losses >= 5


def lost(setting: Setting, read: Callable[[ChangingWorld], Iterable[RawPage]]) -> set[str]:
    """Return the conversations that existed throughout and were not read."""
    moving = ChangingWorld(setting)
    listed = {id_ for page in read(moving) for id_ in page.ids if id_}
    return moving.throughout - listed


def test_requests_are_bounded_where_two_seconds_overflow() -> None:
    """The server compares whole seconds, includes both bounds, and has more than a page in each second."""
    moving = ChangingWorld(TWO_FULL_SECONDS)
    in_windows(moving)
    assert moving.requests < 60


def test_lagging_replicas_lose_nothing_within_the_visibility_delay() -> None:
    """The lag of a replica equals the visibility delay."""
    model = ServerModel(replica_lag=timedelta(seconds=30), replica_choice="alternate")
    setting = Setting(
        created=tuple(range(0, 1_200 * _SECOND, 12 * _SECOND)), model=model, page_size=10, workers=2, step=1.0
    )
    assert not lost(setting, in_windows)
