"""Faults that can be injected into responses, their schedule, and their form on a command line.

    wrong query       repeat_page  clamp_index  ignore_window  expired_link
    wrong page        flag_missing  flag_legacy  flag_integer  items_missing
    other response    rate_limit  server_error  unauthorized  redirect  body  gzip_bomb
    broken delivery   slow  drip_headers  drip_body  cut_body  wrong_length  truncated_gzip  reset

Faults of different kinds may apply to the same response.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from http.client import responses
from typing import Literal

from voiceos_provider.emulator.http_messages import Broken, Delivery, Response, json_response
from voiceos_provider.emulator.rng import random_number

Endpoint = Literal["list", "conversation", "recording", "audio"]
"""`recording` is the API's own endpoint, which returns a link; `audio` is where the link leads."""

Bound = Literal["created_after", "created_before"]
Misreading = Literal["repeat_page", "clamp_index", "ignore_window", "expired_link"] | Bound
Misshape = Literal["flag_missing", "flag_legacy", "flag_integer", "items_missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one response; create it with a named constructor."""

    name: str
    misreading: Misreading | None = None
    misshape: Misshape | None = None
    flag: int | None = None
    instead: Response | None = None
    half_gzip: bool = False
    delivery: Delivery = Delivery()

    @classmethod
    def rate_limit(cls, retry_after: str | None = None) -> Fault:
        """Respond 429; `retry_after` is sent unchanged: seconds, an HTTP date or any text."""
        response = json_response(429, {"detail": "Too Many Requests"}, *_retry_after(retry_after))
        return cls(name="rate_limit", instead=response)

    @classmethod
    def server_error(cls, status: int = 500, *, html: bool = False, retry_after: str | None = None) -> Fault:
        """Respond with an error: the application's own 500 as plain text, a proxy's as HTML or with an empty body."""
        reason = responses.get(status, "Error")
        body, content_type = b"", "text/plain; charset=utf-8"
        if html:
            page = (
                f"<html><head><title>{status} {reason}</title></head><body><h1>{reason}</h1></body></html>\n"
            )
            body, content_type = page.encode(), "text/html"
        elif status == 500:
            body = reason.encode()
        return cls(
            name="server_error",
            instead=Response(
                status=status, body=body, content_type=content_type, headers=_retry_after(retry_after)
            ),
        )

    @classmethod
    def unauthorized(cls, status: Literal[401, 403] = 401) -> Fault:
        """Refuse the token, as if it had been revoked."""
        return cls(name="unauthorized", instead=json_response(status, {"detail": "Invalid token"}))

    @classmethod
    def redirect(cls, location: str, *, status: int = 307) -> Fault:
        """Redirect the client."""
        return cls(name="redirect", instead=Response(status=status, headers=(("Location", location),)))

    @classmethod
    def body(cls, content: bytes, *, content_type: str = "application/json", status: int = 200) -> Fault:
        """Respond with any body, for example NaN, an error object or a login page."""
        return cls(name="body", instead=Response(status=status, body=content, content_type=content_type))

    @classmethod
    def gzip_bomb(cls, inflated_bytes: int = 1 << 30) -> Fault:
        """Respond with a small body that inflates to this size: a valid, empty page with much white space."""
        headers = (("Content-Encoding", "gzip"),)
        return cls(
            name="gzip_bomb", instead=Response(status=200, body=_bomb(inflated_bytes), headers=headers)
        )

    @classmethod
    def truncated_gzip(cls) -> Fault:
        """Send the first half of a gzip stream with a matching length, also to a client that does not accept gzip."""
        return cls(name="truncated_gzip", half_gzip=True)

    @classmethod
    def cut_body(cls, after_bytes: int = 1_000) -> Fault:
        """Close the connection after this many bytes of the body, although the length is greater."""
        return cls(name="cut_body", delivery=Delivery(stop_after=after_bytes, broken=Broken.CLOSED))

    @classmethod
    def wrong_length(cls, undelivered: int = 1_000) -> Fault:
        """Send the whole body with a length that promises more, and close the connection."""
        return cls(name="wrong_length", delivery=Delivery(undelivered=undelivered, broken=Broken.CLOSED))

    @classmethod
    def reset(cls, after_bytes: int | None = None) -> Fault:
        """Reset the connection without a response, or after this many bytes of the body."""
        return cls(
            name="reset",
            delivery=Delivery(stop_after=after_bytes, without_head=after_bytes is None, broken=Broken.RESET),
        )

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Delay the response."""
        return cls(name="slow", delivery=Delivery(delay=seconds))

    @classmethod
    def drip_headers(cls, bytes_per_second: float) -> Fault:
        """Send the headers slowly, but with no gap long enough for a timeout between reads."""
        return cls(name="drip_headers", delivery=Delivery(head_bytes_per_second=bytes_per_second))

    @classmethod
    def drip_body(cls, bytes_per_second: float) -> Fault:
        """Send the body slowly, but with no gap long enough for a timeout between reads."""
        return cls(name="drip_body", delivery=Delivery(body_bytes_per_second=bytes_per_second))

    @classmethod
    def repeat_page(cls) -> Fault:
        """Send the page before the requested one, with that page's number."""
        return cls(name="repeat_page", misreading="repeat_page")

    @classmethod
    def clamp_index(cls) -> Fault:
        """Send the last page for every request beyond it, with the last page's number."""
        return cls(name="clamp_index", misreading="clamp_index")

    @classmethod
    def ignore_window(cls, bound: Bound | None = None) -> Fault:
        """Ignore all filters, or one bound of the window."""
        if bound not in (None, "created_after", "created_before"):
            raise ValueError(f"{bound!r} is not a bound of the window; use created_after or created_before.")
        return cls(name="ignore_window", misreading=bound or "ignore_window")

    @classmethod
    def expired_link(cls) -> Fault:
        """Return a link to a recording that has expired already."""
        return cls(name="expired_link", misreading="expired_link")

    @classmethod
    def flag_missing(cls) -> Fault:
        """Leave out the flag that says whether another page follows."""
        return cls(name="flag_missing", misshape="flag_missing")

    @classmethod
    def flag_legacy(cls) -> Fault:
        """Name the flag `has_next`, as an earlier version of the API did."""
        return cls(name="flag_legacy", misshape="flag_legacy")

    @classmethod
    def flag_integer(cls, value: int | None = None) -> Fault:
        """Make `has_more` an integer: this value, or the total that the vendor's page wrongly describes."""
        return cls(name="flag_integer", misshape="flag_integer", flag=value)

    @classmethod
    def items_missing(cls) -> Fault:
        """Leave out the items."""
        return cls(name="items_missing", misshape="items_missing")


def _retry_after(value: str | None) -> tuple[tuple[str, str], ...]:
    return () if value is None else (("Retry-After", value),)


@lru_cache(maxsize=4)
def _bomb(inflated_bytes: int) -> bytes:
    before, after = b'{"items":[],"index":1,', b'"has_more":false}'
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [deflate.compress(before)]
    padding = max(0, inflated_bytes - len(before) - len(after))
    space = b" " * (1 << 20)
    for _ in range(padding // len(space)):
        parts.append(deflate.compress(space))
    parts += [deflate.compress(space[: padding % len(space)]), deflate.compress(after), deflate.flush()]
    return b"".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    fault: Fault
    endpoint: Endpoint
    at: frozenset[int] | None
    probability: float


class Schedule:
    """Rules for which requests a fault applies to, and the number of requests per endpoint."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._rules: list[_Rule] = []
        self._counted: Counter[Endpoint] = Counter()
        self._counting = threading.Lock()

    def add(
        self,
        fault: Fault,
        *,
        at: Iterable[int] | None = None,
        probability: float | None = None,
        on: Endpoint = "list",
    ) -> None:
        """Add a rule; without `at` and `probability`, the fault applies to every request of the endpoint.

        :param at: numbers of the requests, counted from 1 for each endpoint
        :param probability: seeded chance for each request
        :param on: endpoint
        """
        if at is not None and probability is not None:
            raise ValueError("Give at or probability, not both.")
        if probability is not None and not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; it must lie between 0 and 1.")
        numbers = None if at is None else frozenset(at)
        self._rules.append(
            _Rule(
                fault=fault, endpoint=on, at=numbers, probability=1.0 if probability is None else probability
            )
        )

    def clear(self) -> None:
        """Remove all rules; the numbers of requests are kept."""
        self._rules.clear()

    def count(self, endpoint: Endpoint) -> int:
        """Count one more request of this endpoint and return its number."""
        with self._counting:
            self._counted[endpoint] += 1
            return self._counted[endpoint]

    def due(self, endpoint: Endpoint, nth: int) -> list[Fault]:
        """Return the faults of the nth request of this endpoint; they depend on the seed and the number only."""
        return [
            rule.fault
            for number, rule in enumerate(list(self._rules))
            if rule.endpoint == endpoint
            and (nth in rule.at if rule.at is not None else self._by_chance(rule, number, nth))
        ]

    def _by_chance(self, rule: _Rule, number: int, nth: int) -> bool:
        return (
            random_number(self._seed, f"fault {number} at {rule.endpoint} {nth}") < rule.probability * 2**64
        )


ARGUMENTS: dict[str, Callable[[str], object] | None] = {
    "rate_limit": str,
    "server_error": int,
    "unauthorized": int,
    "redirect": str,
    "body": str.encode,
    "gzip_bomb": int,
    "slow": float,
    "drip_headers": float,
    "drip_body": float,
    "cut_body": int,
    "wrong_length": int,
    "truncated_gzip": None,
    "reset": int,
    "repeat_page": None,
    "clamp_index": None,
    "ignore_window": str,
    "expired_link": None,
    "flag_missing": None,
    "flag_legacy": None,
    "flag_integer": int,
    "items_missing": None,
}
"""Type of the argument that each fault takes."""


def parse_fault(text: str) -> tuple[Fault, float]:
    """Return the fault and its probability from NAME[:ARG]@PROBABILITY, or raise ValueError with the reason."""
    fault, _, chance = text.rpartition("@")
    name, _, argument = fault.partition(":")
    name = name.replace("-", "_")
    if name not in ARGUMENTS:
        raise ValueError(f"{text!r} is not NAME[:ARG]@PROBABILITY with a name among {', '.join(ARGUMENTS)}")
    try:
        probability = float(chance)
    except ValueError:
        raise ValueError(f"{chance!r} in {text!r} is not a probability") from None
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability in {text!r} must lie between 0 and 1")
    constructor, reads = getattr(Fault, name), ARGUMENTS[name]
    try:
        if not argument:
            return constructor(), probability
        if reads is None:
            raise TypeError(name)
        return constructor(reads(argument)), probability
    except (TypeError, ValueError):
        raise ValueError(f"the argument in {text!r} is missing, not understood, or one too many") from None
