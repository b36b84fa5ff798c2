"""Creation times and lifecycles of conversations.

Conversations are created more often by day than by night, and in campaigns many at once. A status at a given time is
a pure function of the times of a conversation, so a lifecycle never goes backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voiceos_provider.emulator.agents import VERSIONS, Agent
from voiceos_provider.emulator.population import Population
from voiceos_provider.emulator.rng import Integers, LogNormal, below, random_numbers, weighted_choice
from voiceos_provider.emulator.timestamps import DAY, HOUR, MINUTE, NEVER, SECOND

_BY_HOUR = np.array(
    [6, 4, 3, 3, 4, 8, 18, 40, 75, 95, 100, 98, 90, 92, 96, 94, 88, 76, 60, 48, 36, 26, 16, 10],
    dtype=np.int64,
)
_BY_WEEKDAY = np.array([10, 10, 10, 10, 9, 4, 3], dtype=np.int64)

_BUCKET = 5 * MINUTE
_MOST_BUCKETS = 20_000
_CAMPAIGNS_PER_DAY = 2
_CAMPAIGN_LASTS = 45 * SECOND
_IN_A_CAMPAIGN_PERCENT = 12

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


def arrivals(*, seed: int, count: int, start: int, end: int) -> tuple[Integers, NDArray[np.bool_]]:
    """Return creation times in [start, end), ascending, and which of them belong to an outbound campaign."""
    ordinals = np.arange(count, dtype=np.int64)
    times = _by_load(seed, "arrival", ordinals, start, end)

    in_campaign = below(random_numbers(seed, "in a campaign", ordinals), 100) < _IN_A_CAMPAIGN_PERCENT
    members = ordinals[in_campaign]
    campaigns = _CAMPAIGNS_PER_DAY * max(1, (end - start) // DAY)
    width = min(_CAMPAIGN_LASTS, end - start)
    opened = _by_load(seed, "campaign", np.arange(campaigns, dtype=np.int64), start, end)
    opened = np.minimum(opened, end - width)
    chosen = below(random_numbers(seed, "campaign of", members), campaigns)
    times[in_campaign] = opened[chosen] + below(random_numbers(seed, "within campaign", members), width)

    order = np.argsort(times, kind="stable")
    return times[order], in_campaign[order]


def _by_load(seed: int, purpose: str, ordinals: Integers, start: int, end: int) -> Integers:
    buckets = max(1, min(_MOST_BUCKETS, (end - start) // _BUCKET))
    width = (end - start) // buckets
    opens = start + width * np.arange(buckets, dtype=np.int64)
    widths = np.full(buckets, width, dtype=np.int64)
    widths[-1] = end - int(opens[-1])
    # 1970 began on a Thursday, three days into the week.
    weights = _BY_HOUR[opens % DAY // HOUR] * _BY_WEEKDAY[(opens // DAY + 3) % 7]
    bucket = weighted_choice(random_numbers(seed, purpose, ordinals), weights)
    times: Integers = opens[bucket] + below(
        random_numbers(seed, f"{purpose}, within its bucket", ordinals), widths[bucket]
    )
    return times


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRollout:
    """Period in which the agents change from their first version to their last."""

    start: int
    end: int


def simulate_lifecycles(
    *,
    seed: int,
    ordinals: Integers,
    created: Integers,
    in_campaign: NDArray[np.bool_],
    agents: Sequence[Agent],
    rollout: VersionRollout,
) -> Population:
    """Return the conversations with all their times, from creation until the costs are known."""
    agent = _agents(seed, ordinals, created, in_campaign, agents, rollout)
    outbound = np.array([agent.kind == "outbound_phone_call" for agent in agents])[agent]
    by_phone = np.array([agent.kind != "web_call" for agent in agents])[agent]

    queued_for = np.minimum(
        _QUEUED_FOR.durations(random_numbers(seed, "queued for", ordinals)), _LONGEST_QUEUE
    )
    queued_for += in_campaign * below(
        random_numbers(seed, "place in the campaign", ordinals), _DIALLING_A_CAMPAIGN_TAKES
    )
    started = np.where(outbound, created + queued_for, created)

    limits = [
        NEVER if agent.max_duration_seconds is None else agent.max_duration_seconds * SECOND
        for agent in agents
    ]
    lasts = _LASTS.durations(random_numbers(seed, "lasts", ordinals))
    short = by_phone & (
        below(random_numbers(seed, "hangs up at once", ordinals), 100) < _HANGS_UP_AT_ONCE_PERCENT
    )
    lasts = np.where(short, lasts % (7 * SECOND), lasts)
    ended = started + np.clip(lasts, _SHORTEST, np.array(limits, dtype=np.int64)[agent])
    # A telephone provider reports the end of a call in whole seconds, rounded up.
    ended = np.where(by_phone, -(-ended // SECOND) * SECOND, ended)

    priced_after = _SOONEST_PRICE + _PRICED_AFTER.durations(random_numbers(seed, "priced after", ordinals))
    priced = ended + np.minimum(priced_after, _LATEST_PRICE)

    stuck = random_numbers(seed, "stuck", ordinals)
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
    rollout: VersionRollout,
) -> Integers:
    newest = agents[::VERSIONS]
    numbers = random_numbers(seed, "agent", ordinals)
    line = weighted_choice(numbers, [agent.weight for agent in newest])
    dialled = weighted_choice(
        numbers, [agent.weight * (agent.kind == "outbound_phone_call") for agent in newest]
    )
    line = np.where(in_campaign, dialled, line)
    # Each agent changes its version a little later than the one before it.
    span = rollout.end - rollout.start
    since = created - rollout.start - span * line // (6 * len(newest))
    version = np.clip(since * VERSIONS // span, 0, VERSIONS - 1)
    agent: Integers = line * VERSIONS + version
    return agent
