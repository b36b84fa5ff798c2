"""The garbage collector's thresholds belong to the whole process, so an export leaves them as they were."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from voiceos_provider.pipeline.gc_threshold import fewer_collections

USUAL = (700, 10, 10)


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    """Begin with thresholds that are known, and restore the others afterwards."""
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    usual = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    assert usual[:2] == USUAL[:2]


def test_an_export_that_fails_leaves_the_thresholds_as_they_were() -> None:
    """The same holds for one that succeeds."""
    before = gc.get_threshold()
    export = fewer_collections()
    export.__enter__()
    assert gc.get_threshold()[0] > before[0]
    export.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert gc.get_threshold() == before


def test_last_of_two_concurrent_exports_restores_the_thresholds() -> None:
    """The order of their starts does not matter."""
    before = gc.get_threshold()
    first, second = fewer_collections(), fewer_collections()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold()[0] > before[0]
    second.__exit__(None, None, None)
    assert gc.get_threshold() == before


@pytest.mark.parametrize("first", [0, 1_000_000])
def test_a_collector_that_is_off_or_rarer_stays_so(first: int) -> None:
    """Zero turns automatic collections off."""
    gc.set_threshold(first, 10, 10)
    before = gc.get_threshold()
    with fewer_collections():
        assert gc.get_threshold() == before
    assert gc.get_threshold() == before


def test_thresholds_that_others_set_during_an_export_stay() -> None:
    """They have decided later than the export."""
    with fewer_collections():
        gc.set_threshold(5_000, 10, 10)
    assert gc.get_threshold()[0] == 5_000
