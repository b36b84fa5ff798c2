"""Conversations whose states a test decides."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from voiceos_provider.emulator import World
from voiceos_provider.emulator.timestamps import NEVER, to_microseconds


def add(
    world: World, *, created: datetime, started: datetime | None = None, ended: datetime | None = None
) -> str:
    """Add a conversation that starts and ends then, or never."""
    id_ = world.insert(created_at=created)
    change(world, id_, started=started, ended=ended)
    return id_


def change(world: World, id_: str, **instants: datetime | None) -> None:
    """Set when a conversation is `started` or `ended`; None is never."""
    population = world.population
    position = world.find(population, id_)
    assert position is not None
    row = population.take(np.array([position]))
    for name, instant in instants.items():
        getattr(row, name)[0] = NEVER if instant is None else to_microseconds(instant)
    row.priced[0] = row.ended[0]
    # One step, so that no request meets a world without it.
    world._change(population.without(position).with_one(row))


def end(world: World, id_: str, at: datetime) -> None:
    """Let a conversation end at an instant; if it has not started, it starts then."""
    population = world.population
    position = world.find(population, id_)
    assert position is not None
    started = int(population.started[position]) <= to_microseconds(at)
    change(world, id_, **({} if started else {"started": at}), ended=at)
