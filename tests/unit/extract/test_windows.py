"""The planner of windows: coverage, whole units and few requests."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.window_cost import DAY, Server, cost, read
from voiceos_provider.emulator.timestamps import to_microseconds
from voiceos_provider.extract.windows import (
    HUNDREDTH,
    MILLISECOND,
    SECOND,
    TENTH,
    Window,
    WindowPlanner,
    floor,
    minus,
)
from voiceos_provider.interval import TICK, Interval

EARLIEST = datetime.min.replace(tzinfo=UTC)
FINER = {SECOND: TENTH, TENTH: HUNDREDTH, HUNDREDTH: MILLISECOND}


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the covered ranges; none may be empty, and no two may overlap."""
    found: list[Interval] = []
    for interval in sorted(intervals, key=lambda interval: interval.start):
        assert interval.start < interval.end
        assert not found or found[-1].end <= interval.start
        if found and found[-1].end == interval.start:
            found[-1] = Interval(found[-1].start, interval.end)
        else:
            found.append(interval)
    return found


@given(
    edges=st.lists(st.integers(0, 2 * 10**9), min_size=2, max_size=8, unique=True),
    page_size=st.integers(1, 30),
    workers=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300)
def test_windows_cover_their_ranges_without_gap_or_overlap(
    edges: list[int], page_size: int, workers: int, seed: int
) -> None:
    """Contents of windows and the order in which workers finish are random."""
    rng = random.Random(seed)
    bounds = [DAY.start + edge * TICK for edge in sorted(edges)]
    ranges = [Interval(start, end) for start, end in zip(bounds[::2], bounds[1::2], strict=False)]
    planner = WindowPlanner(ranges, page_size=page_size)
    busy: list[Window] = []
    accepted: list[Window] = []
    refusals = 200
    while not planner.done:
        while len(busy) < workers and (window := planner.take()):
            busy.append(window)
        window = busy.pop(rng.randrange(len(busy)))
        if refusals and window.can_be_cut and rng.random() < 0.6:
            refusals -= 1
            if rng.random() < 0.5:
                planner.refuse(window)
            else:
                planner.put_back(window, requests=1, page_size=page_size)
        elif refusals and not window.can_be_cut and window.unit in FINER and rng.random() < 0.3:
            planner.refine(FINER[window.unit])
            planner.put_back(window, requests=1, page_size=page_size)
        else:
            accepted.append(window)
            planner.accept(window, listed=rng.randrange(page_size + 1), requests=1)
    assert joined(window.interval for window in accepted) == joined(ranges)
    inner = {window.start for window in accepted} - {each.start for each in ranges}
    assert all(start.microsecond % 1_000 == 0 for start in inner)


def test_windows_meet_on_whole_seconds() -> None:
    """Every server compares them alike."""
    planner = WindowPlanner([Interval(DAY.start + TICK, DAY.start + 9 * SECOND)], page_size=10)
    planner.put_back(_taken(planner), requests=1, page_size=10)
    while (window := planner.take()) is not None:
        assert window.end.microsecond == 0
        planner.accept(window, listed=1, requests=1)
    assert planner.done


def test_window_is_requested_one_unit_early() -> None:
    """Rounded or exclusive bounds then omit nothing that was created at its start."""
    half = DAY.start + timedelta(seconds=10, milliseconds=500, microseconds=3)
    assert Window(half, DAY.end).created_after == DAY.start + 9 * SECOND
    assert Window(half, DAY.end, HUNDREDTH).created_after == half - 3 * TICK - HUNDREDTH
    assert Window(DAY.start, DAY.end).created_after == DAY.start - SECOND


def test_window_of_one_unit_cannot_be_split() -> None:
    """It contains no other multiple of the unit."""
    assert not Window(DAY.start, DAY.start + SECOND).can_be_cut
    assert Window(DAY.start, DAY.start + SECOND + TICK).can_be_cut
    assert Window(DAY.start + 50 * HUNDREDTH, DAY.start + SECOND + TICK).can_be_cut
    assert Window(DAY.start, DAY.start + SECOND, HUNDREDTH).can_be_cut


@pytest.mark.parametrize("unit", [SECOND, TENTH, HUNDREDTH, MILLISECOND])
def test_first_instant_of_the_calendar_has_bounds(unit: timedelta) -> None:
    """No earlier instant can be requested."""
    assert Window(EARLIEST, EARLIEST + SECOND, unit).created_after == EARLIEST
    assert minus(EARLIEST + TICK, SECOND) == EARLIEST
    assert floor(EARLIEST + TICK, SECOND) == EARLIEST


def test_single_window_is_in_progress_until_the_arrival_rate_is_known() -> None:
    """Early estimates are inaccurate, and each costs a request."""
    planner = WindowPlanner([DAY], page_size=100)
    for _ in range(8):
        planner.put_back(_taken(planner), requests=1, page_size=100)
    for _ in range(8):
        window = _taken(planner)
        assert planner.take() is None
        planner.accept(window, listed=90, requests=1)
    assert [planner.take() is not None for _ in range(3)] == [True, True, False]


def test_width_that_a_server_rejects_is_requested_again_later() -> None:
    """A gateway timeout may be temporary."""
    planner = WindowPlanner([Interval(DAY.start, DAY.start + timedelta(days=3_650))], page_size=100)
    for _ in range(12):
        planner.refuse(_taken(planner))
    assert planner.is_capped_by_server
    narrow = _taken(planner)
    planner.accept(narrow, listed=0, requests=1)
    for _ in range(40):
        window = _taken(planner)
        planner.accept(window, listed=0, requests=1)
    assert window.width > 16 * narrow.width


def _taken(planner: WindowPlanner) -> Window:
    window = planner.take()
    assert window is not None
    return window


def test_range_with_few_conversations_takes_one_request() -> None:
    """A second one confirms it."""
    created = np.array([to_microseconds(DAY.start) + at for at in range(0, 10**9, 10**7)], np.int64)
    server = Server(created[:60])
    assert len(read(server, page_size=100)) == 60
    assert server.requests <= 3  # the only page is also the longest, so its end is confirmed


@pytest.mark.parametrize(("workers", "at_most"), [(1, 1.6), (4, 1.7)])
@pytest.mark.parametrize("kind", ["uniform", "diurnal"])
@pytest.mark.parametrize("count", [10_000, 100_000])
def test_day_takes_few_more_requests_than_it_has_pages(
    kind: str, count: int, workers: int, at_most: float
) -> None:
    """`python -m benchmarks.window_cost` writes these figures into docs/exact-reading.md."""
    assert cost(kind, count, workers=workers) <= at_most


@pytest.mark.parametrize("workers", [1, 4])
def test_dense_hour_takes_few_more_requests_than_it_has_pages(workers: int) -> None:
    """Of windows of four seconds that meet on whole seconds, a fourth would be listed again."""
    rng = random.Random(7)
    start = to_microseconds(DAY.start)
    created = start + np.sort(np.array([rng.randrange(3_600_000_000) for _ in range(72_000)], np.int64))
    server = Server(created)
    hour = Interval(DAY.start, DAY.start + timedelta(hours=1))
    assert len(read(server, workers=workers, interval=hour)) == 72_000
    assert server.requests <= 1.45 * 720


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("count", [10_000, 100_000])
def test_batches_that_share_a_timestamp_take_few_more_requests(count: int, workers: int) -> None:
    """A bulk import or a dialer writes them."""
    assert cost("batches of 150", count, workers=workers) <= 3


@pytest.mark.parametrize("count", [10_000, 100_000])
@pytest.mark.parametrize("kind", ["uniform", "diurnal", "batches of 150"])
def test_clamped_page_size_is_detected(kind: str, count: int) -> None:
    """Later windows are planned for the page size that the server returns."""
    assert cost(kind, count, clamp=50) <= 3


@pytest.mark.parametrize("kind", ["bursts", "90 % in a minute", "90 % in one timestamp"])
def test_bursts_are_read_at_a_bounded_cost(kind: str) -> None:
    """Most conversations of a day may be in one burst."""
    assert cost(kind, 100_000) <= 5
