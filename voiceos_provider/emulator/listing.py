"""Selection, order and paging of a list request."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from voiceos_provider.emulator.population import Population
from voiceos_provider.emulator.query import Bound, ListQuery
from voiceos_provider.emulator.rng import Integers, random_numbers
from voiceos_provider.emulator.server_model import ServerModel
from voiceos_provider.emulator.timestamps import MICROSECOND, Rounding, quantize, to_text

_MAX_CACHED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """All conversations that a query selects, in order."""

    total: int
    _positions: Callable[[int, int], Integers]

    def last_page(self, limit: int) -> int:
        """Return the number of the last page that is not empty, or 1."""
        return max(1, -(-self.total // limit))

    def page(self, number: int, limit: int) -> Integers:
        """Return the positions on this page, counted from 1; none beyond the last."""
        start = min((number - 1) * limit, self.total)
        return self._positions(start, min(start + limit, self.total))

    def has_more(self, number: int, limit: int) -> bool:
        """Return whether there is a page after this one."""
        return number * limit < self.total


@dataclass(frozen=True, slots=True, eq=False)
class _CachedSelection:
    population: Population
    selection: Selection
    since: int
    until: int


class Listing:
    """Selections of one server; the last few are cached until something in them changes."""

    def __init__(self, model: ServerModel, *, seed: int) -> None:
        self._model = model
        self._seed = seed
        self._cached: OrderedDict[tuple[int, int, str | None], _CachedSelection] = OrderedDict()
        self._lock = threading.Lock()
        self._stored: tuple[Population, Integers] | None = None

    def select(self, population: Population, query: ListQuery, *, now: int, nth: int) -> Selection:
        """Return what the nth list request selects; the number only matters to a server that shuffles every time."""
        first, last = self._window(population, query, now)
        if self._model.order == "shuffled":
            positions = _matching(population, query, first, last, now)
            return _listed(
                positions[np.argsort(random_numbers(self._seed, f"order of request {nth}", positions))]
            )
        if query.status is None and self._model.order == "created_asc":
            return Selection(last - first, lambda start, stop: np.arange(first + start, first + stop))
        if query.status is None and self._model.order == "created_desc":
            return Selection(
                last - first, lambda start, stop: np.arange(last - 1 - start, last - 1 - stop, -1)
            )

        key = (first, last, query.status)
        with self._lock:
            known = self._cached.get(key)
        if known is not None and known.population is population and known.since <= now < known.until:
            return known.selection
        selection = _listed(self._ordered(population, _matching(population, query, first, last, now), now))
        until = population.take(slice(first, last)).next_change(now)
        with self._lock:
            self._cached[key] = _CachedSelection(population, selection, now, until)
            self._cached.move_to_end(key)
            while len(self._cached) > _MAX_CACHED:
                self._cached.popitem(last=False)
        return selection

    def is_visible(self, created: int, *, now: int) -> bool:
        """Return whether the API already knows a conversation that was created at this time."""
        return created <= self._newest(now)

    def stored(self, population: Population) -> Integers:
        """Return the creation times as the server stores them."""
        if self._model.stored_precision == "microseconds":
            return population.created
        cached = self._stored
        if cached is None or cached[0] is not population:
            times = quantize(
                population.created,
                precision=self._model.stored_precision,
                rounding=self._model.stored_rounding,
            )
            self._stored = cached = (population, times)
        return cached[1]

    def _newest(self, now: int) -> int:
        return now - self._model.visible_after // MICROSECOND

    def _window(self, population: Population, query: ListQuery, now: int) -> tuple[int, int]:
        model, stored = self._model, self.stored(population)
        first, last = 0, int(np.searchsorted(population.created, self._newest(now), side="right"))
        if query.created_after is not None:
            side: Literal["left", "right"] = "left" if model.after_inclusive else "right"
            first = self._position(stored, query.created_after, model.after_rounding, side)
        if query.created_before is not None:
            side = "right" if model.before_inclusive else "left"
            last = min(last, self._position(stored, query.created_before, model.before_rounding, side))
        return first, max(first, last)

    def _position(
        self, stored: Integers, bound: Bound, rounding: Rounding, side: Literal["left", "right"]
    ) -> int:
        """Return where the bound divides the stored times."""
        if self._model.bound_comparison == "text":
            # Text of a fixed width sorts as the times do, so the rows need not be formatted to be searched.
            bisect = bisect_left if side == "left" else bisect_right
            return bisect(stored, bound.text, key=lambda time: to_text(int(time)))
        time = quantize(bound.time, precision=self._model.bound_precision, rounding=rounding)
        return int(np.searchsorted(stored, time, side=side))

    def _ordered(self, population: Population, positions: Integers, now: int) -> Integers:
        match self._model.order:
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
