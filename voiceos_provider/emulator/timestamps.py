"""Points in time as whole microseconds since 1970, and how a server rounds them.

Integers make every comparison exact. A server that stores or compares times with less precision is modelled by
`quantize`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

NEVER = 2**63 - 1
"""Later than every point in time: when a conversation that is stuck continues."""

Precision = Literal["microseconds", "milliseconds", "three_hundredths", "hundredths", "tenths", "seconds"]
Rounding = Literal["floor", "round", "ceil"]

_PER_SECOND: dict[Precision, int] = {
    "microseconds": SECOND,
    "milliseconds": 1_000,
    "three_hundredths": 300,  # as `datetime` of SQL Server
    "hundredths": 100,
    "tenths": 10,
    "seconds": 1,
}
_Times = TypeVar("_Times", int, NDArray[np.int64])


def to_microseconds(time: datetime) -> int:
    """Return the exact number of microseconds since 1970; raise ValueError if `time` has no time zone."""
    if time.utcoffset() is None:
        raise ValueError(f"{time!r} has no time zone; give it one, for instance tzinfo=timezone.utc.")
    return (time - EPOCH) // MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """Return the same point in time as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def to_text(microseconds: int) -> str:
    """Return RFC 3339 text in UTC, always with six fractional digits."""
    return f"{to_datetime(microseconds):%Y-%m-%dT%H:%M:%S.%f}Z"


def quantize(times: _Times, *, precision: Precision, rounding: Rounding) -> _Times:
    """Return the times as multiples of the precision's unit, in whole microseconds.

    :param times: one time or an array of times, in microseconds
    :param precision: unit that the result is a multiple of
    :param rounding: `floor` (towards the past), `ceil` (towards the future) or `round` (nearest, half up)
    """
    units = _PER_SECOND[precision]
    if units == SECOND:
        return times
    # Integer arithmetic floors towards the past for times before 1970, too.
    offset = {"floor": 0, "round": SECOND // 2, "ceil": SECOND - 1}[rounding]
    return (times * units + offset) // SECOND * SECOND // units
