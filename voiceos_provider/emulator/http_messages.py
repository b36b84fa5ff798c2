"""Requests and responses as values, and the way in which the bytes of a response travel.

The in-process transport and the server on a port both send a response along the same steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from http.client import responses
from typing import Any
from urllib.parse import parse_qsl

_DRIP_INTERVAL = 0.02
_CHUNK = 65_536
"""Largest number of bytes that one read from a socket returns."""


class Broken(Enum):
    """How a delivery ends too early."""

    CLOSED = "the connection is closed in an orderly way"
    RESET = "the connection is reset"


Step = float | bytes | Broken
"""Seconds to wait, bytes to send, or the end of the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Delays and breaks of one delivery; none by default."""

    delay: float = 0.0
    head_bytes_per_second: float | None = None
    body_bytes_per_second: float | None = None
    stop_after: int | None = None
    """Number of bytes of the body that arrive."""
    broken: Broken | None = None
    without_head: bool = False
    undelivered: int = 0
    """Bytes that the content length promises beyond the body."""

    def __or__(self, other: Delivery) -> Delivery:
        """Return the combination: delays add up, and the other's values replace all else."""
        both = {
            field.name: getattr(other, field.name)
            if getattr(other, field.name) != field.default
            else getattr(self, field.name)
            for field in fields(self)
        }
        return Delivery(**(both | {"delay": self.delay + other.delay}))


def delivery_steps(head: bytes, body: bytes, delivery: Delivery) -> Iterator[Step]:
    """Yield the steps in which the head and then the body arrive."""
    if delivery.delay:
        yield float(delivery.delay)
    if not delivery.without_head:
        yield from _sent(head, delivery.head_bytes_per_second)
        yield from _sent(body[: delivery.stop_after], delivery.body_bytes_per_second)
    # A client that has the whole body does not notice what happens to the connection.
    is_whole = (
        not delivery.without_head
        and not delivery.undelivered
        and (delivery.stop_after is None or delivery.stop_after >= len(body))
    )
    if delivery.broken is not None and not is_whole:
        yield delivery.broken


def _sent(content: bytes, bytes_per_second: float | None) -> Iterator[Step]:
    if bytes_per_second is None:
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]
        return
    size = max(1, int(bytes_per_second * _DRIP_INTERVAL))
    for start in range(0, len(content), size):
        yield size / bytes_per_second
        yield content[start : start + size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    """As sent, percent-encoded."""
    query_string: str
    headers: Mapping[str, str]

    @property
    def query(self) -> dict[str, str]:
        """Decoded parameters; the last one counts if a name is repeated."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """Request that the emulator received, and the status of its response."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response, and how its bytes are delivered."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    """Headers other than the content's type and length."""
    delivery: Delivery = Delivery()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """All headers, as sent."""
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body) + self.delivery.undelivered)),
            *self.headers,
        ]

    @property
    def head(self) -> bytes:
        """Status line and headers in HTTP/1.1."""
        reason = responses.get(self.status, "")
        lines = [
            f"HTTP/1.1 {self.status} {reason}",
            *(f"{name}: {value}" for name, value in self.all_headers),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def with_headers(self, *headers: tuple[str, str]) -> Response:
        """Return the same response with these headers after its own."""
        return replace(self, headers=self.headers + headers)


def json_response(status: int, content: Any, *headers: tuple[str, str]) -> Response:
    """Return a response with compact JSON, as the API sends it."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status=status, body=body, headers=headers)
