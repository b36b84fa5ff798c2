"""How many requests do slices take? A server of nothing but creation times, which any order of its pages can hide."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from voiceos_provider.emulator import World
from voiceos_provider.emulator.timestamps import NEVER, to_datetime, to_microseconds
from voiceos_provider.extract.windows import Slice, Slices
from voiceos_provider.interval import Interval

DAY = Interval(datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC))
ORDERS = ("asc", "desc", "shuffled")


DAYS = {1_000: 8, 10_000: 3}
"""Over how many days the mean is taken: of few conversations, one day says little."""


@lru_cache(maxsize=16)
def a_day(conversations: int, *, campaigns: bool = True, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """When so many conversations of one day are created, in microseconds, and when they start.

    More by day than by night; and with campaigns an eighth of them within two stretches of 45 seconds.
    """
    world = World(seed=seed, conversations=conversations, start=DAY.start, end=DAY.end)
    created, started = world.population.created, world.population.started
    if not campaigns:
        width = np.timedelta64(5, "m") // np.timedelta64(1, "us")
        counts = np.bincount((created - created[0]) // width)
        crowded = np.isin((created - created[0]) // width, np.argsort(counts)[-2:])
        created, started = created[~crowded], started[~crowded]
    return created, started


@dataclass
class Answers:
    """A server that lists by creation time, a page at a time.

    :param created: ascending, in microseconds
    :param started: about the same; what a page tells
    """

    created: np.ndarray
    started: np.ndarray
    order: str = "desc"
    most: int = 100
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    requests: int = 0

    def page(self, interval: Interval) -> tuple[list[datetime], int, bool]:
        """What the conversations of a page say of when they started, how many they are, and whether more follow."""
        self.requests += 1
        first, last = np.searchsorted(
            self.created, [to_microseconds(interval.start), to_microseconds(interval.end)]
        )
        found = int(last - first)
        size = min(found, self.most)
        if self.order == "asc":
            at = np.arange(first, first + size)
        elif self.order == "desc":
            at = np.arange(last - 1, last - size - 1, -1)
        else:
            at = np.array(self.rng.sample(range(int(first), int(last)), size), dtype=np.int64)
        times = [to_datetime(int(time)) for time in self.started[at] if time != NEVER]
        return times, size, found > size


def cover(
    windows: Iterable[Interval],
    server: Answers,
    *,
    page_size: int = 100,
    readers: int = 1,
    answered: Callable[[int], int] = lambda waiting: 0,
) -> list[tuple[Interval, int]]:
    """Read the windows; what was accepted, and how many each held. A tick that overflows is taken as it is.

    :param answered: which of so many requests under way is answered next; the one that was sent first, by default
    """
    slices = Slices(windows, page_size=page_size, lanes=readers)
    under_way: list[Slice] = []
    covered: list[tuple[Interval, int]] = []
    while not slices.done:
        while len(under_way) < readers and (piece := slices.take()):
            under_way.append(piece)
        piece = under_way.pop(answered(len(under_way)))
        times, listed, more = server.page(piece.interval)
        if more and not piece.is_tick:
            slices.overflowed(piece, times, listed=listed)
        else:
            covered.append((piece.interval, listed))
            slices.accept(piece, listed)
    assert not under_way
    return covered


def cost(conversations: int, *, order: str, readers: int, campaigns: bool = True) -> float:
    """Requests for a day of so many conversations, as a multiple of the fewest that could do; the mean of some days."""
    pages = requests = 0
    for seed in range(7, 7 + DAYS.get(conversations, 1)):
        created, started = a_day(conversations, campaigns=campaigns, seed=seed)
        server = Answers(created, started, order)
        cover([DAY], server, readers=readers)
        requests += server.requests
        pages += -(-len(created) // server.most)
    return requests / pages


def waits(conversations: int, *, order: str, readers: int) -> float:
    """How long a day takes, as a multiple of its requests shared out evenly, if every answer takes the same time."""
    server = Answers(*a_day(conversations), order)
    slices = Slices([DAY], page_size=100, lanes=readers)
    under_way: list[tuple[int, int, Slice]] = []
    now = number = 0
    while not slices.done:
        while len(under_way) < readers and (piece := slices.take()):
            number += 1
            heapq.heappush(under_way, (now + 1, number, piece))
        now, _, piece = heapq.heappop(under_way)
        times, listed, more = server.page(piece.interval)
        if more and not piece.is_tick:
            slices.overflowed(piece, times, listed=listed)
        else:
            slices.accept(piece, listed)
    return now / (server.requests / readers)
