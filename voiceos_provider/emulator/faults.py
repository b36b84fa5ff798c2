"""What goes wrong with an answer?

    asked wrongly     repeat_page  clamp_index  ignore_window
    shaped wrongly    flag_missing  flag_legacy  flag_integer  items_missing
    another answer    rate_limit  server_error  unauthorized  redirect  body  gzip_bomb
    travels badly     slow  drip_headers  drip_body  cut_body  truncated_gzip  reset

Faults of different kinds may meet in one answer, and then all of them act.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from http.client import responses
from typing import Literal

from voiceos_provider.emulator.delivery import Broken, Delivery
from voiceos_provider.emulator.exchange import Answer, json_answer

Bound = Literal["created_after", "created_before"]
Misreading = Literal["repeat_page", "clamp_index", "ignore_window"] | Bound
Misshape = Literal["flag_missing", "flag_legacy", "flag_integer", "items_missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong with one answer; made by its named constructors."""

    name: str
    misreading: Misreading | None = None
    misshape: Misshape | None = None
    flag: int | None = None
    instead: Answer | None = None
    half_gzip: bool = False
    delivery: Delivery = Delivery()

    @classmethod
    def rate_limit(cls, retry_after: str | None = None) -> Fault:
        """429; `retry_after` is sent as it is, be it seconds, an HTTP date or nonsense."""
        answer = json_answer(429, {"detail": "Too Many Requests"}, *_retry_after(retry_after))
        return cls(name="rate_limit", instead=answer)

    @classmethod
    def server_error(cls, status: int = 500, *, html: bool = False, retry_after: str | None = None) -> Fault:
        """The application's own 500 in plain text; a proxy's 502, 503 or 504 as HTML or with an empty body."""
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
            instead=Answer(
                status=status, body=body, content_type=content_type, headers=_retry_after(retry_after)
            ),
        )

    @classmethod
    def unauthorized(cls, status: Literal[401, 403] = 401) -> Fault:
        """The token is refused, as if it had been revoked."""
        return cls(name="unauthorized", instead=json_answer(status, {"detail": "Invalid token"}))

    @classmethod
    def redirect(cls, location: str, *, status: int = 307) -> Fault:
        """Sends the client elsewhere."""
        return cls(name="redirect", instead=Answer(status=status, headers=(("Location", location),)))

    @classmethod
    def body(cls, content: bytes, *, content_type: str = "application/json", status: int = 200) -> Fault:
        """Any body at all: NaN, an error object, a login page."""
        return cls(name="body", instead=Answer(status=status, body=content, content_type=content_type))

    @classmethod
    def gzip_bomb(cls, inflated_bytes: int = 1 << 30) -> Fault:
        """A small body that inflates to this size; what comes out is a valid, empty page with much white space."""
        headers = (("Content-Encoding", "gzip"),)
        return cls(name="gzip_bomb", instead=Answer(status=200, body=_bomb(inflated_bytes), headers=headers))

    @classmethod
    def truncated_gzip(cls) -> Fault:
        """The first half of a gzip stream, whole by its length, even to a client that did not ask for gzip."""
        return cls(name="truncated_gzip", half_gzip=True)

    @classmethod
    def cut_body(cls, after_bytes: int = 1_000) -> Fault:
        """The connection is closed after so many bytes of the body, though the length promised more."""
        return cls(name="cut_body", delivery=Delivery(stop_after=after_bytes, broken=Broken.CLOSED))

    @classmethod
    def reset(cls, after_bytes: int | None = None) -> Fault:
        """The connection is reset with no answer at all, or after so many bytes of the body."""
        return cls(
            name="reset",
            delivery=Delivery(stop_after=after_bytes, without_head=after_bytes is None, broken=Broken.RESET),
        )

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Nothing happens for so long, then the answer."""
        return cls(name="slow", delivery=Delivery(delay=seconds))

    @classmethod
    def drip_headers(cls, bytes_per_second: float) -> Fault:
        """The headers arrive drop by drop, none of them late enough for a timeout between reads."""
        return cls(name="drip_headers", delivery=Delivery(head_bytes_per_second=bytes_per_second))

    @classmethod
    def drip_body(cls, bytes_per_second: float) -> Fault:
        """The body arrives drop by drop, none of them late enough for a timeout between reads."""
        return cls(name="drip_body", delivery=Delivery(body_bytes_per_second=bytes_per_second))

    @classmethod
    def repeat_page(cls) -> Fault:
        """Answers the page before the one asked for, under that page's number."""
        return cls(name="repeat_page", misreading="repeat_page")

    @classmethod
    def clamp_index(cls) -> Fault:
        """Answers the last page to whoever asks beyond it, under the last page's number."""
        return cls(name="clamp_index", misreading="clamp_index")

    @classmethod
    def ignore_window(cls, bound: Bound | None = None) -> Fault:
        """Answers as if no filter had been sent, or as if one bound of the window had not."""
        if bound not in (None, "created_after", "created_before"):
            raise ValueError(f"{bound!r} is no bound of the window.")
        return cls(name="ignore_window", misreading=bound or "ignore_window")

    @classmethod
    def flag_missing(cls) -> Fault:
        """The page does not say whether there is another."""
        return cls(name="flag_missing", misshape="flag_missing")

    @classmethod
    def flag_legacy(cls) -> Fault:
        """The flag has its earlier name, `has_next`."""
        return cls(name="flag_legacy", misshape="flag_legacy")

    @classmethod
    def flag_integer(cls, value: int | None = None) -> Fault:
        """`has_more` is an integer: the total that the vendor's page wrongly calls it, or this value."""
        return cls(name="flag_integer", misshape="flag_integer", flag=value)

    @classmethod
    def items_missing(cls) -> Fault:
        """A page without its items."""
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
