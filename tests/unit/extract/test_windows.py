"""Into which slices of creation time is a window cut?"""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.slicing import DAY, ORDERS, Answers, a_day, cost, cover, waits

from voiceos_provider.emulator.timestamps import to_microseconds
from voiceos_provider.extract.windows import Slices
from voiceos_provider.interval import TICK, Interval

SECOND = timedelta(seconds=1)


def windows_of(edges: list[int]) -> list[Interval]:
    """Stretches with gaps between them, in ticks after the start of the day."""
    instants = [DAY.start + edge * TICK for edge in sorted(edges)]
    return [Interval(start, end) for start, end in zip(instants[::2], instants[1::2], strict=False)]


class Misleading(Answers):
    """A server whose conversations tell any time at all as that of their start."""

    def page(self, interval: Interval) -> tuple[list[datetime], int, bool]:
        """As it is, but for the times."""
        _, listed, more = super().page(interval)
        width = (interval.end - interval.start) // TICK
        told = [interval.start + self.rng.randrange(-width, 2 * width) * TICK for _ in range(listed)]
        return (
            self.rng.choice([told, [interval.start] * listed, [interval.end - TICK] * listed, []]),
            listed,
            more,
        )


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 2 * 10**9), st.integers(1, 60), st.sampled_from([0, 1, 30, 10**6, 10**8])),
    max_size=8,
)


@given(
    arrivals=ARRIVALS,
    edges=st.lists(st.integers(0, 2 * 10**9), min_size=2, max_size=8, unique=True),
    most=st.integers(1, 30),
    page_size=st.integers(1, 30),
    readers=st.integers(1, 16),
    order=st.sampled_from(ORDERS),
    server=st.sampled_from([Answers, Misleading]),
    seed=st.integers(0, 2**32),
)
@example([(877, 5, 30)], [0, 1_200_000_000], 1, 1, 4, "asc", Answers, 0)
@example([(0, 1, 0), (0, 1, 0)], [0, 11_946_395], 1, 1, 1, "asc", Misleading, 0)
@settings(max_examples=500, deadline=None)
def test_slices_cover_their_windows_without_gap_or_overlap(
    arrivals: list[tuple[int, int, int]],
    edges: list[int],
    most: int,
    page_size: int,
    readers: int,
    order: str,
    server: type[Answers],
    seed: int,
) -> None:
    """Whatever the server holds and says, in whatever order the answers come; and it ends after few requests."""
    rng = random.Random(seed)
    created = sorted(
        to_microseconds(DAY.start) + at + rng.randint(0, spread)
        for at, size, spread in arrivals
        for _ in range(size)
    )
    times = np.array(created, dtype=np.int64)
    there = server(times, times, order, min(most, page_size), rng)
    windows = windows_of(edges)
    covered = cover(windows, there, page_size=page_size, readers=readers, answered=rng.randrange)
    assert joined(interval for interval, _ in covered) == joined(windows)
    # A busy instant in a quiet window is found by halving, and left by growing.
    assert there.requests <= 60 * (len(windows) + readers + len(created))


@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from(ORDERS))
@settings(max_examples=50, deadline=None)
def test_what_is_left_of_a_window_is_covered_whichever_end_of_it_is_read_first(
    seed: int, readers: int, order: str
) -> None:
    """Several stretches at once, and it shows late that the newest of one come first."""
    rng = random.Random(seed)
    windows = windows_of([rng.randrange(86_400) * 10**6 for _ in range(6)])
    created, started = a_day(1_000)
    server = Answers(created, started, order, most=10, rng=rng)
    covered = cover(windows, server, page_size=10, readers=readers, answered=rng.randrange)
    assert joined(interval for interval, _ in covered) == joined(windows)


@given(st.integers(0, 2**32), st.integers(2_000_000, 20_000_000), st.integers(1, 5), st.sampled_from(ORDERS))
@example(42652, 18418399, 1, "asc")
@settings(max_examples=300, deadline=None)
def test_a_window_of_a_few_seconds_is_covered_and_nothing_beyond_it(
    seed: int, width: int, readers: int, order: str
) -> None:
    """Slices meet on whole seconds, and windows need not end there."""
    rng = random.Random(seed)
    start = DAY.start + rng.randrange(10**6) * TICK
    times = np.sort([to_microseconds(start) + rng.randrange(width) for _ in range(rng.randrange(200))])
    window = Interval(start, start + width * TICK)
    server = Answers(times.astype(np.int64), times, order, most=20, rng=rng)
    covered = cover([window], server, page_size=20, readers=readers, answered=rng.randrange)
    assert joined(interval for interval, _ in covered) == [window]


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """The stretches that they cover.

    None may be empty, and no two may overlap.
    """
    found: list[Interval] = []
    for interval in sorted(intervals, key=lambda interval: interval.start):
        assert interval.start < interval.end
        assert not found or found[-1].end <= interval.start
        if found and found[-1].end == interval.start:
            found[-1] = Interval(found[-1].start, interval.end)
        else:
            found.append(interval)
    return found


def test_wide_slices_meet_on_whole_seconds() -> None:
    """So that they meet for a server, too, that does not look at fractions of a second."""
    created, started = a_day(10_000)
    window = Interval(DAY.start, DAY.end - timedelta(microseconds=5))
    for interval, _ in cover([window], Answers(created, started), readers=4):
        if interval.end - interval.start >= 4 * SECOND:
            assert interval.start.microsecond == 0
            assert interval.end.microsecond == 0 or interval.end == window.end


def test_a_window_that_fits_on_a_page_takes_one_request() -> None:
    """A quiet hour costs what it must."""
    created, started = a_day(1_000)
    quiet = Interval(DAY.start, DAY.start + timedelta(minutes=20))
    server = Answers(created, started)
    ((interval, listed),) = cover([quiet], server, readers=16)
    assert (interval, server.requests) == (quiet, 1)
    assert 0 < listed < 100


def test_nobody_gets_a_slice_while_it_is_not_known_how_wide_it_should_be() -> None:
    """The first answer tells; then there is one for each reader."""
    slices = Slices([DAY], page_size=100, lanes=4)
    first = slices.take()
    assert first is not None
    assert slices.take() is None
    slices.overflowed(first, [DAY.start + SECOND * second for second in range(100)], listed=100)
    taken = [slices.take() for _ in range(5)]
    assert [piece is not None for piece in taken] == [True, True, True, True, False]


def test_a_server_that_gives_fewer_than_asked_for_is_noticed() -> None:
    """The next slices are made for what it gives."""
    created, started = a_day(10_000)
    server = Answers(created, started, most=20)
    cover([DAY], server, page_size=100)
    assert server.requests <= 2.2 * 10_000 / 20


@pytest.mark.parametrize(
    "moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC) - SECOND]
)
def test_the_ends_of_time_can_be_read(moment: datetime) -> None:
    """The calendar has a first and a last day."""
    window = Interval(moment, moment + SECOND)
    times = np.array([to_microseconds(moment) + tick * 1_000 for tick in range(50)], dtype=np.int64)
    assert sum(listed for _, listed in cover([window], Answers(times, times, most=10))) == 50


@pytest.mark.parametrize(
    ("conversations", "campaigns", "at_most"),
    [
        (1_000, True, 3.2),  # ten pages: a few requests more are a multiple
        (1_000, False, 2.7),
        (10_000, True, 2.3),
        (10_000, False, 2.1),
        (100_000, True, 1.5),
        (100_000, False, 1.5),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_a_day_takes_few_more_requests_than_its_pages(
    conversations: int, order: str, at_most: float, *, campaigns: bool
) -> None:
    """However the server orders them, and however many readers there are."""
    for readers in (1, 4, 16):
        assert cost(conversations, order=order, readers=readers, campaigns=campaigns) <= at_most


@pytest.mark.parametrize("readers", [1, 16])
def test_a_million_conversations_take_few_more_requests_than_their_pages(readers: int) -> None:
    """13,300 where 10,000 would do."""
    assert cost(1_000_000, order="desc", readers=readers) <= 1.4


@pytest.mark.parametrize(("readers", "at_most"), [(1, 1.0), (4, 1.1), (16, 1.45)])
@pytest.mark.parametrize("order", ORDERS)
def test_readers_seldom_wait_for_each_other(order: str, readers: int, at_most: float) -> None:
    """Before the first answers, and at the end; in between there is a slice for everyone."""
    assert waits(20_000, order=order, readers=readers) <= at_most
