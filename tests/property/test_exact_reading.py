"""Is every conversation of a window read, and none twice, while the collection moves?

Hypothesis draws worlds with a schedule of what happens before each request, rather than the steps of a state machine:
between two pages that a reader hands over it sends any number of requests, of several readers, and the world has to
move between those.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from tests.support.moving import SETTLED, WINDOW, Moving, Setting, settings_that_move
from voiceos_provider.client.pages import RawPage
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSResponseError
from voiceos_provider.interval import TICK
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.pipeline.run import export
from voiceos_provider.transform.schema import CONVERSATIONS

FEW = int(os.environ.get("VOICEOS_WORLDS", "2000"))
"""Worlds that are read; more of them for whoever has the time."""


@hypothesis_settings(max_examples=FEW, deadline=None)
@given(settings_that_move())
def test_everything_that_is_there_throughout_is_read(setting: Setting) -> None:
    """Nothing is missed, nothing else is brought, and a refusal only comes where no answer holds an instant."""
    moving = Moving(setting)
    with moving.client() as client:
        try:
            pages = list(client.read_windows([WINDOW], max_concurrency=setting.readers))
        except VoiceOSResponseError as refusal:
            require_right(refusal, setting)
            return
    listed = [id_ for page in pages for id_ in page.ids]
    assert moving.throughout <= set(listed)
    assert all(id_ and moving.may_be_listed(id_) for id_ in listed)
    assert all(on_an_edge(moving, id_, pages) for id_, times in Counter(listed).items() if times > 1)
    assert sum(page.requests for page in pages) == moving.requests


def require_right(refusal: VoiceOSResponseError, setting: Setting) -> None:
    """Nobody lies in these worlds; all that may be refused is an instant that no answer holds, and that keeps moving.

    Of six passes over it, two deletions spoil four at most.
    """
    assert not isinstance(refusal, VoiceOSContractError)
    assert setting.fullest_tick > setting.largest_page
    assert setting.order in ("updated_desc", "shuffled") or len(setting.deletions) > 2


def on_an_edge(moving: Moving, id_: str | None, pages: Iterable[RawPage]) -> bool:
    """Whether it was created where two slices meet, which either reading of a bound may list in both."""
    assert id_ is not None
    created = moving.world.created_at(id_)
    edges = {edge for page in pages if page.covers for edge in (page.covers.start, page.covers.end)}
    return bool(edges & {created - TICK, created, created + TICK})


@hypothesis_settings(max_examples=max(1, FEW // 20), deadline=None)
@given(settings_that_move())
def test_everything_is_exported_once_and_the_numbers_add_up(setting: Setting) -> None:
    """Ended, or waiting to end: each conversation is in one place only, whatever became of it meanwhile."""
    moving = Moving(setting)
    target = MemoryDestination(columns=["id"])
    with moving.client() as client:
        try:
            receipt = export(
                client.read_windows([WINDOW], max_concurrency=setting.readers),
                target,
                interval=WINDOW,
                statuses=("ended",),
                exported_at=SETTLED,
                tables=[CONVERSATIONS],
            )
        except VoiceOSResponseError as refusal:
            require_right(refusal, setting)
            return
    assert target.table is not None
    exported = target.table.column("id").to_pylist()
    assert len(exported) == len(set(exported)) == receipt.exported
    assert moving.throughout <= {*exported, *receipt.pending_ids}
    assert moving.throughout & moving.ended_before <= set(exported)
    assert all(map(moving.may_be_listed, exported))
    assert receipt.listed == (
        receipt.exported + receipt.duplicates + receipt.filtered + receipt.pending + receipt.rejected
    )
    assert receipt.requests == moving.requests


def lost(setting: Setting, read: Callable[[Moving], Iterable[RawPage]]) -> set[str]:
    """Who was there throughout, and was not read."""
    moving = Moving(setting)
    listed = {id_ for page in read(moving) for id_ in page.ids if id_}
    return moving.throughout - listed


def by_page_number(moving: Moving) -> Iterable[RawPage]:
    """As one pages through an API: page 1, page 2, ..."""
    with moving.client() as client:
        yield from client.list_raw(created_after=WINDOW.created_after, created_before=WINDOW.created_before)


def in_slices(moving: Moving) -> Iterable[RawPage]:
    """As exports read."""
    with moving.client() as client:
        yield from client.read_windows([WINDOW], max_concurrency=moving.setting.readers)


@pytest.mark.parametrize(
    ("order", "deletions", "step"),
    [("created_desc", 4, 0.0), ("created_asc", 4, 0.0), ("updated_desc", 0, 20.0), ("shuffled", 0, 0.0)],
)
def test_counting_pages_loses_conversations_where_slices_do_not(
    order: str, deletions: int, step: float
) -> None:
    """The same worlds, the same moves: so this harness can fail, and what it is about does happen."""
    losses = 0
    for seed in range(20):
        rng = Random(seed)
        setting = Setting(
            created=tuple(sorted(rng.randrange((WINDOW.end - WINDOW.start) // TICK) for _ in range(60))),
            order=order,  # type: ignore[arg-type]
            after_inclusive=False,
            before_inclusive=False,
            visible_after=timedelta(0),
            max_limit=None,
            page_size=10,
            readers=1 + seed % 4,
            step=step,
            deletions={rng.randint(2, 6): rng.randrange(60) for _ in range(deletions)},
            insertions=frozenset(),
        )
        losses += bool(lost(setting, by_page_number))
        assert not lost(setting, in_slices)
    assert losses >= 5
