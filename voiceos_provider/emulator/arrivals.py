"""When are conversations created? By day more than by night, and in campaigns all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voiceos_provider.emulator.dice import Integers, below, choose, roll
from voiceos_provider.emulator.instants import DAY, HOUR, MINUTE, SECOND

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


def arrivals(*, seed: int, count: int, start: int, end: int) -> tuple[Integers, NDArray[np.bool_]]:
    """The creation times in [start, end), ascending, and which of them belong to an outbound campaign."""
    ordinals = np.arange(count, dtype=np.int64)
    times = _by_load(seed, "arrival", ordinals, start, end)

    in_campaign = below(roll(seed, "in a campaign", ordinals), 100) < _IN_A_CAMPAIGN_PERCENT
    members = ordinals[in_campaign]
    campaigns = _CAMPAIGNS_PER_DAY * max(1, (end - start) // DAY)
    width = min(_CAMPAIGN_LASTS, end - start)
    opened = _by_load(seed, "campaign", np.arange(campaigns, dtype=np.int64), start, end)
    opened = np.minimum(opened, end - width)
    chosen = below(roll(seed, "campaign of", members), campaigns)
    times[in_campaign] = opened[chosen] + below(roll(seed, "within campaign", members), width)

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
    bucket = choose(roll(seed, purpose, ordinals), weights)
    times: Integers = opens[bucket] + below(
        roll(seed, f"{purpose}, within its bucket", ordinals), widths[bucket]
    )
    return times
