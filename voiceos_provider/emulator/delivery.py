"""How do the bytes of one answer travel: at once, late, drop by drop, or not to the end?

A journey is told without I/O, as steps; each door walks them in its own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum

_DRIP_INTERVAL = 0.02
_PIECE = 65_536
"""As much as one read from a socket brings, at most."""


class Broken(Enum):
    """How a journey ends before its end."""

    CLOSED = "the connection is closed, orderly but early"
    RESET = "the connection is reset"


Step = float | bytes | Broken
"""Wait so many seconds, send these bytes, or break."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What is unusual about a journey; by default, nothing."""

    delay: float = 0.0
    head_bytes_per_second: float | None = None
    body_bytes_per_second: float | None = None
    stop_after: int | None = None
    """How much of the body arrives."""
    broken: Broken | None = None
    without_head: bool = False

    def __or__(self, other: Delivery) -> Delivery:
        """Both at once: delays add up, and of anything else the other's wins."""
        both = {
            field.name: getattr(other, field.name)
            if getattr(other, field.name) != field.default
            else getattr(self, field.name)
            for field in fields(self)
        }
        return Delivery(**(both | {"delay": self.delay + other.delay}))


def journey(head: bytes, body: bytes, delivery: Delivery) -> Iterator[Step]:
    """The steps on which the head and then the body arrive."""
    if delivery.delay:
        yield float(delivery.delay)
    if not delivery.without_head:
        yield from _sent(head, delivery.head_bytes_per_second)
        yield from _sent(body[: delivery.stop_after], delivery.body_bytes_per_second)
    # A client that has the whole body will not notice what happens to the connection.
    is_whole = not delivery.without_head and (delivery.stop_after is None or delivery.stop_after >= len(body))
    if delivery.broken is not None and not is_whole:
        yield delivery.broken


def _sent(content: bytes, bytes_per_second: float | None) -> Iterator[Step]:
    if bytes_per_second is None:
        for at in range(0, len(content), _PIECE):
            yield content[at : at + _PIECE]
        return
    drop = max(1, int(bytes_per_second * _DRIP_INTERVAL))
    for at in range(0, len(content), drop):
        yield drop / bytes_per_second
        yield content[at : at + drop]
