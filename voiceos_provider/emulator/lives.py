"""How does each conversation go: held by which agent, started, ended and priced when?

A status at a time is a pure function of these instants and of the time, so a life never goes backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voiceos_provider.emulator.agents import VERSIONS, Agent
from voiceos_provider.emulator.dice import Integers, LogNormal, below, choose, roll
from voiceos_provider.emulator.instants import MINUTE, NEVER, SECOND
from voiceos_provider.emulator.population import Population

_QUEUED_FOR = LogNormal(median_seconds=12, sigma=1.1)
_LONGEST_QUEUE = 20 * MINUTE
_DIALLING_A_CAMPAIGN_TAKES = 5 * MINUTE

_LASTS = LogNormal(median_seconds=125, sigma=0.85)
_SHORTEST = 2 * SECOND
_HANGS_UP_AT_ONCE_PERCENT = 6

_PRICED_AFTER = LogNormal(median_seconds=15, sigma=1.0)
_SOONEST_PRICE = 2 * SECOND
_LATEST_PRICE = 10 * MINUTE

_STUCK_PER_10_000 = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The stretch of time over which the agents went from their first version to their last."""

    start: int
    end: int


def lead_lives(
    *,
    seed: int,
    ordinals: Integers,
    created: Integers,
    in_campaign: NDArray[np.bool_],
    agents: Sequence[Agent],
    rollout: Rollout,
) -> Population:
    """The whole lives of these conversations, from their creation to the day their costs are known."""
    agent = _agents(seed, ordinals, created, in_campaign, agents, rollout)
    outbound = np.array([agent.kind == "outbound_phone_call" for agent in agents])[agent]
    by_phone = np.array([agent.kind != "web_call" for agent in agents])[agent]

    queued_for = np.minimum(_QUEUED_FOR.spans(roll(seed, "queued for", ordinals)), _LONGEST_QUEUE)
    queued_for += in_campaign * below(
        roll(seed, "place in the campaign", ordinals), _DIALLING_A_CAMPAIGN_TAKES
    )
    started = np.where(outbound, created + queued_for, created)

    limits = [
        NEVER if agent.max_duration_seconds is None else agent.max_duration_seconds * SECOND
        for agent in agents
    ]
    lasts = _LASTS.spans(roll(seed, "lasts", ordinals))
    short = by_phone & (below(roll(seed, "hangs up at once", ordinals), 100) < _HANGS_UP_AT_ONCE_PERCENT)
    lasts = np.where(short, lasts % (7 * SECOND), lasts)
    ended = started + np.clip(lasts, _SHORTEST, np.array(limits, dtype=np.int64)[agent])
    # The telephone company tells the end of a call in whole seconds, begun seconds counting.
    ended = np.where(by_phone, -(-ended // SECOND) * SECOND, ended)

    priced_after = _SOONEST_PRICE + _PRICED_AFTER.spans(roll(seed, "priced after", ordinals))
    priced = ended + np.minimum(priced_after, _LATEST_PRICE)

    stuck = roll(seed, "stuck", ordinals)
    is_stuck = below(stuck, 10_000) < _STUCK_PER_10_000
    in_queue = is_stuck & outbound & ((stuck >> np.uint64(63)) == 1)
    return Population(
        ordinal=ordinals.astype(np.int32),
        created=created,
        started=np.where(in_queue, NEVER, started),
        ended=np.where(is_stuck, NEVER, ended),
        priced=np.where(is_stuck, NEVER, priced),
        agent=agent.astype(np.int8),
        status_override=np.zeros(len(ordinals), dtype=np.int8),
        start_override=np.zeros(len(ordinals), dtype=np.int8),
    )


def _agents(
    seed: int,
    ordinals: Integers,
    created: Integers,
    in_campaign: NDArray[np.bool_],
    agents: Sequence[Agent],
    rollout: Rollout,
) -> Integers:
    newest = agents[::VERSIONS]
    rolls = roll(seed, "agent", ordinals)
    line = choose(rolls, [agent.weight for agent in newest])
    dialled = choose(rolls, [agent.weight * (agent.kind == "outbound_phone_call") for agent in newest])
    line = np.where(in_campaign, dialled, line)
    # Each agent is brought up to date a little later than the one before it.
    span = rollout.end - rollout.start
    since = created - rollout.start - span * line // (6 * len(newest))
    version = np.clip(since * VERSIONS // span, 0, VERSIONS - 1)
    agent: Integers = line * VERSIONS + version
    return agent
