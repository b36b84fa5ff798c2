"""Which conversations does a list request select, in which order, and which of them are on the page?"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

import numpy as np

from voiceos_provider.emulator.dice import Integers, roll
from voiceos_provider.emulator.instants import MICROSECOND
from voiceos_provider.emulator.population import Population
from voiceos_provider.emulator.query import ListQuery

Order = Literal["created_desc", "created_asc", "updated_desc", "shuffled"]
ORDERS: tuple[Order, ...] = get_args(Order)

_REMEMBERED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How this server reads what the API leaves open."""

    order: Order = "created_desc"
    after_inclusive: bool = False
    before_inclusive: bool = False
    visible_after: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Everything that a query selects, in order."""

    total: int
    _positions: Callable[[int, int], Integers]

    def last_index(self, limit: int) -> int:
        """The last page that is not empty, or 1."""
        return max(1, -(-self.total // limit))

    def page(self, index: int, limit: int) -> Integers:
        """The positions on this page; none, beyond the last."""
        start = min((index - 1) * limit, self.total)
        return self._positions(start, min(start + limit, self.total))

    def has_more(self, index: int, limit: int) -> bool:
        """Whether there is a page after this one."""
        return index * limit < self.total


@dataclass(frozen=True, slots=True, eq=False)
class _Remembered:
    population: Population
    selection: Selection
    since: int
    until: int


class Listing:
    """Selects; and remembers the last few selections for as long as nothing in them changes."""

    def __init__(self, reading: Reading, *, seed: int) -> None:
        self._reading = reading
        self._seed = seed
        self._remembered: OrderedDict[tuple[int, int, str | None], _Remembered] = OrderedDict()
        self._remembering = threading.Lock()

    def select(self, population: Population, query: ListQuery, *, now: int, nth: int) -> Selection:
        """What the nth list request selects; the number only matters to a server that shuffles every time."""
        first, last = self._window(population, query, now)
        if self._reading.order == "shuffled":
            positions = _matching(population, query, first, last, now)
            return _listed(positions[np.argsort(roll(self._seed, f"order of request {nth}", positions))])
        if query.status is None and self._reading.order == "created_asc":
            return Selection(last - first, lambda start, stop: np.arange(first + start, first + stop))
        if query.status is None and self._reading.order == "created_desc":
            return Selection(
                last - first, lambda start, stop: np.arange(last - 1 - start, last - 1 - stop, -1)
            )

        key = (first, last, query.status)
        with self._remembering:
            known = self._remembered.get(key)
        if known is not None and known.population is population and known.since <= now < known.until:
            return known.selection
        selection = _listed(self._ordered(population, _matching(population, query, first, last, now), now))
        until = population.take(slice(first, last)).next_change(now)
        with self._remembering:
            self._remembered[key] = _Remembered(population, selection, now, until)
            self._remembered.move_to_end(key)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return selection

    def is_visible(self, population: Population, position: int, *, now: int) -> bool:
        """Whether the API knows of this conversation yet."""
        return bool(population.created[position] <= self._newest(now))

    def _newest(self, now: int) -> int:
        return now - self._reading.visible_after // MICROSECOND

    def _window(self, population: Population, query: ListQuery, now: int) -> tuple[int, int]:
        created = population.created
        first, last = 0, int(np.searchsorted(created, self._newest(now), side="right"))
        if query.created_after is not None:
            side: Literal["left", "right"] = "left" if self._reading.after_inclusive else "right"
            first = int(np.searchsorted(created, query.created_after, side=side))
        if query.created_before is not None:
            side = "right" if self._reading.before_inclusive else "left"
            last = min(last, int(np.searchsorted(created, query.created_before, side=side)))
        return first, max(first, last)

    def _ordered(self, population: Population, positions: Integers, now: int) -> Integers:
        match self._reading.order:
            case "created_asc":
                return positions
            case "created_desc":
                return positions[::-1]
            case _:
                updated = population.take(positions).updated(now)
                return positions[::-1][np.argsort(-updated[::-1], kind="stable")]


def _matching(population: Population, query: ListQuery, first: int, last: int, now: int) -> Integers:
    if query.status is None:
        return np.arange(first, last)
    matches = population.take(slice(first, last)).in_status(query.status, now)
    return first + np.flatnonzero(matches)


def _listed(positions: Integers) -> Selection:
    return Selection(len(positions), lambda start, stop: positions[start:stop])
