"""Replicas of the world's database; one replica may lag behind.

A lagging replica lists the world as it was `lag` ago: conversations created, inserted or deleted since then, and status
changes since then, are not seen by it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceos_provider.emulator.population import Population
from voiceos_provider.emulator.rng import random_number
from voiceos_provider.emulator.server_model import ReplicaChoice
from voiceos_provider.emulator.timestamps import MICROSECOND, NEVER, to_microseconds
from voiceos_provider.emulator.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """World as one replica shows it to one request."""

    population: Population
    now: int
    """Time for which states are shown, in microseconds."""


class Replicas:
    """Choice of a replica for each list request, and the history that a lagging replica needs.

    :param clock: current time
    :param lag: how far the lagging replica is behind; without a lag, no history is kept
    :param choice: which list requests the lagging replica responds to
    :param seed: seed of the choice
    """

    def __init__(
        self,
        world: World,
        *,
        clock: Callable[[], datetime],
        lag: timedelta,
        choice: ReplicaChoice,
        seed: int,
    ) -> None:
        self._world = world
        self._clock = clock
        self._lag = lag // MICROSECOND
        self._choice = choice
        self._seed = seed
        self._lock = threading.Lock()
        self._versions: list[tuple[int, Population]] = [(-NEVER, world.population)]
        if self._lag:
            world.on_change(self._record)

    def snapshot(self, nth: int) -> Snapshot:
        """Return the world as the nth list request sees it at this moment."""
        now = to_microseconds(self._clock())
        if not self._lag or not self._is_lagging(nth):
            return Snapshot(self._world.population, now)
        now -= self._lag
        with self._lock:
            return Snapshot(self._as_of(now), now)

    def _is_lagging(self, nth: int) -> bool:
        match self._choice:
            case "always":
                return True
            case "alternate":
                return nth % 2 == 0
            case "random":
                return random_number(self._seed, f"replica of request {nth}") % 2 == 0

    def _record(self, population: Population) -> None:
        now = to_microseconds(self._clock())
        with self._lock:
            # Versions that no replica shows any more are dropped: a world may change for weeks.
            oldest = self._as_of(now - self._lag)
            while self._versions[0][1] is not oldest:
                del self._versions[0]
            self._versions.append((now, population))

    def _as_of(self, time: int) -> Population:
        shown = [population for since, population in self._versions if since <= time]
        return shown[-1] if shown else self._versions[0][1]
