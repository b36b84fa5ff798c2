"""How instants are held: as whole microseconds since 1970, so that no arithmetic ever rounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

NEVER = 2**63 - 1
"""Later than every instant: when a conversation that is stuck will go on."""


def to_microseconds(instant: datetime) -> int:
    """Exact; a naive instant is refused, since it names no instant."""
    if instant.utcoffset() is None:
        raise ValueError(f"{instant!r} has no time zone; give it one, for instance tzinfo=timezone.utc.")
    return (instant - EPOCH) // MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """Exact, in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)
