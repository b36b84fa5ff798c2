"""World of conversations: what the emulator lists, and what a test compares against.

A world is a pure function of its seed, its size and its window of time, until a test changes it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from voiceos_provider.emulator.agents import Agent, agents
from voiceos_provider.emulator.content import ConversationWriter, Overrides
from voiceos_provider.emulator.lifecycle import VersionRollout, arrivals, simulate_lifecycles
from voiceos_provider.emulator.population import STATUSES, Population, Status, ids, ordinal
from voiceos_provider.emulator.rng import Integers, below, random_numbers
from voiceos_provider.emulator.timestamps import NEVER, to_datetime, to_microseconds

_RECORDED_PERCENT = 90


class World:
    """Conversations created in `[start, end)`, and their true state at any time.

    By default, the window is the seven days until the end of today in UTC, so part of it is in the future.
    The same seed, size and window give the same conversations in every process and on every platform.

    :param seed: seed of everything in the world
    :param conversations: number of conversations
    :param start: start of the window
    :param end: end of the window
    :param created: creation time of each conversation, inside or outside the window; replaces `conversations`
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        conversations: int = 2_000,
        start: datetime | None = None,
        end: datetime | None = None,
        created: Iterable[datetime] | None = None,
    ) -> None:
        if end is None:
            today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            end = start + timedelta(days=7) if start is not None else today + timedelta(days=1)
        if start is None:
            start = end - timedelta(days=7)
        if start >= end:
            raise ValueError(f"start {start.isoformat()} is not before end {end.isoformat()}.")
        self.seed = seed
        self.start = start
        self.end = end
        self._rollout = VersionRollout(start=to_microseconds(start), end=to_microseconds(end))
        self._agents, self._writer = _cast(seed)
        self._changing = threading.Lock()
        self._deleted: dict[str, int] = {}
        self._soft_deleted: dict[str, Population] = {}
        self._overrides = Overrides()
        self._listeners: list[Callable[[Population], None]] = []
        if created is None:
            times, in_campaign = arrivals(
                seed=seed, count=conversations, start=self._rollout.start, end=self._rollout.end
            )
        else:
            times = np.array(sorted(map(to_microseconds, created)), dtype=np.int64)
            in_campaign = np.zeros(len(times), dtype=np.bool_)
        self._next_ordinal = len(times)
        self._population = simulate_lifecycles(
            seed=seed,
            ordinals=np.arange(len(times), dtype=np.int64),
            created=times,
            in_campaign=in_campaign,
            agents=self._agents,
            rollout=self._rollout,
        )

    def __len__(self) -> int:
        return len(self._population)

    @property
    def population(self) -> Population:
        """All conversations, including those that are created in the future."""
        return self._population

    def ids(
        self,
        *,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        status: Status | None = None,
        now: datetime | None = None,
    ) -> list[str]:
        """Return the ids created in `[created_after, created_before)` and not after `now`, in order of creation.

        Without `now`, everything has happened. Deleted conversations are left out.
        """
        population, at = self._population, _or_never(now)
        first = (
            0
            if created_after is None
            else np.searchsorted(population.created, to_microseconds(created_after))
        )
        last = np.searchsorted(population.created, at, side="right")
        if created_before is not None:
            last = min(last, np.searchsorted(population.created, to_microseconds(created_before)))
        rows = population.take(slice(int(first), int(last)))
        if status is not None:
            rows = rows.take(np.flatnonzero(rows.in_status(status, at)))
        return ids(self.seed, rows.ordinal)

    def conversation(self, id: str, *, now: datetime | None = None) -> dict[str, Any] | None:
        """Return the conversation as the API shows it now; None if it is deleted, not yet created or unknown.

        A conversation that was deleted softly is still shown.
        """
        row, at = self.row(id), _or_never(now)
        if row is None or row.created[0] > at:
            return None
        conversation: dict[str, Any] = json.loads(self.write(row, slice(None), now=at)[0])
        return conversation

    def row(self, id: str) -> Population | None:
        """Return the one row of a conversation, also after a soft deletion; None if there is none."""
        population = self._population
        position = self.find(population, id)
        if position is None:
            return self._soft_deleted.get(id)
        return population.take(slice(position, position + 1))

    def created_at(self, id: str) -> datetime:
        """Return the true creation time, which the API does not show, also of a deleted conversation."""
        if id in self._deleted:
            return to_datetime(self._deleted[id])
        population = self._population
        return to_datetime(int(population.created[_required(self.find(population, id), id)]))

    def is_recorded(self, id: str, *, now: datetime) -> bool:
        """Return whether a conversation exists, has ended and has a recording."""
        row = self.row(id)
        if row is None or row.ended[0] > to_microseconds(now):
            return False
        chance = below(random_numbers(self.seed, "recorded", row.ordinal), 100)
        return bool(chance[0] < _RECORDED_PERCENT)

    def delete(self, id: str, *, soft: bool = False) -> None:
        """Delete a conversation, as the vendor may at any time.

        :param soft: whether a request for this id still returns it; listings never do
        """
        with self._changing:
            position = _required(self.find(self._population, id), id)
            self._deleted[id] = int(self._population.created[position])
            if soft:
                self._soft_deleted[id] = self._population.take(slice(position, position + 1))
            self._change(self._population.without(position))

    def set_status(self, id: str, status: str | None) -> None:
        """Give a conversation an undocumented status, which no status filter selects; None restores the true one."""
        if status in STATUSES:
            raise ValueError(
                f"{status!r} is a documented status; those follow from the conversation's times."
            )
        with self._changing:
            position = _required(self.find(self._population, id), id)
            number = self._overrides.status_number(status)
            self._change(self._population.with_override(position, status=number))

    def set_started_at(self, id: str, text: str | None) -> None:
        """Show this text as `started_at` once a conversation has started; None restores the true time.

        The text may be a naive time, a time in 1970 or no time at all.
        """
        with self._changing:
            position = _required(self.find(self._population, id), id)
            number = self._overrides.start_number(text)
            self._change(self._population.with_override(position, start=number))

    def on_change(self, listener: Callable[[Population], None]) -> None:
        """Call the listener with the new population after each change."""
        self._listeners.append(listener)

    def _change(self, population: Population) -> None:
        self._population = population
        for listener in self._listeners:
            listener(population)

    def insert(self, *, created_at: datetime) -> str:
        """Add a conversation created at any time, also in the past, and return its id."""
        with self._changing:
            ordinals = np.array([self._next_ordinal], dtype=np.int64)
            self._next_ordinal += 1
            row = simulate_lifecycles(
                seed=self.seed,
                ordinals=ordinals,
                created=np.array([to_microseconds(created_at)], dtype=np.int64),
                in_campaign=np.array([False]),
                agents=self._agents,
                rollout=self._rollout,
            )
            self._change(self._population.with_one(row))
        return ids(self.seed, ordinals)[0]

    def write(self, population: Population, positions: Integers | slice, *, now: int) -> list[bytes]:
        """Return the JSON of the conversations at these positions, in this order."""
        rows = population.take(positions)
        return self._overrides.apply(rows, self._writer.write(rows, now=now))

    def find(self, population: Population, id: str) -> int | None:
        """Return the position of the conversation in this population."""
        found = ordinal(self.seed, id)
        return None if found is None else population.position(found)


# Both are immutable and expensive to make, and tests make many small worlds of one seed.
@lru_cache(maxsize=8)
def _cast(seed: int) -> tuple[tuple[Agent, ...], ConversationWriter]:
    cast = agents(seed)
    return cast, ConversationWriter(seed=seed, agents=cast)


def _required(position: int | None, id: str) -> int:
    if position is None:
        raise KeyError(f"There is no conversation {id!r} in this world.")
    return position


def _or_never(now: datetime | None) -> int:
    # One microsecond before NEVER, so that events at NEVER have not happened.
    return NEVER - 1 if now is None else to_microseconds(now)
