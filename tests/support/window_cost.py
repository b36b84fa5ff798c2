"""Requests that the exact reader takes, as a multiple of the fewest: conversations / page size. No HTTP.

The server is an array of creation times, as a server that compares microseconds stores them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import numpy as np

from voiceos_provider.client.pages import PageSizes, RawPage
from voiceos_provider.emulator import World
from voiceos_provider.emulator.timestamps import to_microseconds
from voiceos_provider.extract.window_reader import WindowRead, read_window
from voiceos_provider.extract.windows import HUNDREDTH, MILLISECOND, SECOND, TENTH, Window, WindowPlanner
from voiceos_provider.interval import Interval

DAY = Interval(datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC))
_SECONDS = 86_400
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class _Listing:
    """The part of a page that the reader uses."""

    keys: list[int]
    has_more: bool

    @property
    def items(self) -> list[int]:
        return self.keys


@dataclass
class Server:
    """A server that lists by creation time, a page at a time.

    :param created: creation times, ascending, in microseconds
    :param clamp: most conversations on a page
    """

    created: np.ndarray
    clamp: int = 10_000
    requests: int = 0

    def page(self, window: Window, index: int, limit: int) -> RawPage:
        """Return a page of what was created between the bounds of a window, both exclusive."""
        self.requests += 1
        first = int(np.searchsorted(self.created, to_microseconds(window.created_after), side="right"))
        last = int(np.searchsorted(self.created, to_microseconds(window.end), side="left"))
        size = min(limit, self.clamp)
        start = first + (index - 1) * size
        stop = min(last, start + size)
        return cast(RawPage, _Listing(list(range(start, stop)), stop < last))


def read(server: Server, *, page_size: int = 100, workers: int = 4, interval: Interval = DAY) -> set[int]:
    """Read an interval as workers do that take turns, and return the positions of what was read."""
    planner, sizes = WindowPlanner([interval], page_size=page_size), PageSizes(page_size)
    brought: set[int] = set()
    busy: list[tuple[Window, Generator[int, RawPage, WindowRead], int, int]] = []
    finer = {SECOND: TENTH, TENTH: HUNDREDTH, HUNDREDTH: MILLISECOND}

    def emit(page: RawPage) -> None:
        brought.update(page.keys)

    while not planner.done:
        while len(busy) < workers and (window := planner.take()):
            steps = read_window(
                window.interval,
                sizes,
                emit,
                can_be_cut=window.can_be_cut or window.unit > MILLISECOND,
                max_pages=100_000,
                worth_paging=planner.worth_paging,
            )
            busy.append((window, steps, next(steps), 0))
        window, steps, index, requests = busy.pop(0)
        page = server.page(window, index, page_size)
        sizes.see(page)
        try:
            busy.append((window, steps, steps.send(page), requests + 1))
        except StopIteration as end:
            result: WindowRead = end.value
            if result.complete:
                planner.accept(window, listed=result.listed, requests=requests + 1)
            is_too_coarse = planner.is_coarse or not (result.complete or window.can_be_cut)
            if is_too_coarse and (unit := finer.pop(window.unit, None)):
                server.requests += 2  # to find out
                planner.refine(unit)
            if not result.complete:
                planner.put_back(window, requests=requests + 1, page_size=sizes.longest)
    return brought


def uniform(count: int, rng: random.Random) -> list[int]:
    """Return creation times of a day, in microseconds after its start, any time alike."""
    return [rng.randrange(_SECONDS * _SECOND) for _ in range(count)]


def diurnal(count: int, rng: random.Random) -> list[int]:
    """Return creation times of a day, many by day and few by night."""
    created = World(
        seed=rng.randrange(2**31), conversations=count, start=DAY.start, end=DAY.end
    ).population.created
    width = _SECOND * 300
    offsets = created - to_microseconds(DAY.start)
    busiest = np.argsort(np.bincount(offsets // width, minlength=288))[-2:]
    return [int(offset) for offset in offsets if offset // width not in busiest]


def bursts(count: int, rng: random.Random) -> list[int]:
    """Return creation times of a day, half of them within 20 bursts of 30 seconds."""
    starts = [rng.randrange((_SECONDS - 30) * _SECOND) for _ in range(20)]
    half = [rng.choice(starts) + rng.randrange(30 * _SECOND) for _ in range(count // 2)]
    return half + uniform(count - count // 2, rng)


def one_minute(count: int, rng: random.Random) -> list[int]:
    """Return creation times of a day, nine of ten within one minute."""
    start = rng.randrange((_SECONDS - 60) * _SECOND)
    return [start + rng.randrange(60 * _SECOND) for _ in range(count * 9 // 10)] + uniform(count // 10, rng)


def one_timestamp(count: int, rng: random.Random) -> list[int]:
    """Return creation times of a day, nine of ten the same."""
    return [rng.randrange(_SECONDS * _SECOND)] * (count * 9 // 10) + uniform(count // 10, rng)


def batches(count: int, rng: random.Random) -> list[int]:
    """Return creation times of a day, in batches of 150 that share one."""
    return [time for _ in range(max(1, count // 150)) for time in [rng.randrange(_SECONDS * _SECOND)] * 150]


DAYS: dict[str, Callable[[int, random.Random], list[int]]] = {
    "uniform": uniform,
    "diurnal": diurnal,
    "bursts": bursts,
    "90 % in a minute": one_minute,
    "90 % in one timestamp": one_timestamp,
    "batches of 150": batches,
}


def cost(
    kind: str, count: int, *, page_size: int = 100, clamp: int = 10_000, workers: int = 4, seed: int = 7
) -> float:
    """Return the requests for a day of conversations, as a multiple of the fewest that could do."""
    days = 4 if count <= 1_000 else 2 if count <= 10_000 else 1
    requests = fewest = 0
    for day in range(days):
        offsets = DAYS[kind](count, random.Random(seed + day))
        created = np.sort(np.array(offsets, np.int64)) + to_microseconds(DAY.start)
        server = Server(created, clamp)
        assert len(read(server, page_size=page_size, workers=workers)) == len(created)
        requests += server.requests
        fewest += -(-len(created) // min(page_size, clamp))
    return requests / fewest
