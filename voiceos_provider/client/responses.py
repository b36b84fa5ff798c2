"""What does an answer mean: the content that was asked for, or which error?"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import msgspec

from voiceos_provider.client.requests import LISTING, Request
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSConnectionError,
    VoiceOSContractError,
    VoiceOSNotFoundError,
    VoiceOSRateLimitError,
    VoiceOSResponseError,
    VoiceOSServerError,
)

_REQUEST_ID_HEADERS = ("x-request-id", "x-correlation-id", "request-id", "cf-ray")
_PHONE_NUMBER = re.compile(r"\+\d[\d ().-]{5,}\d|\(?\b\d{3}\)?[ .-]?\d{3}[ .-]?\d{4}\b|\b\d{10,}\b")
_LONGEST_DETAIL = 500

_OK, _MULTIPLE_CHOICES, _NOT_FOUND, _UNAVAILABLE, _SERVER_ERROR = 200, 300, 404, 503, 500
_AUTH, _RATE_LIMITED, _TIMED_OUT = (401, 403), 429, (408, 425)


@dataclass(frozen=True, slots=True)
class Response:
    """One whole HTTP answer: status, headers with lower-case names, decompressed body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        """Whether the status says that the body is what was asked for."""
        return _OK <= self.status < _MULTIPLE_CHOICES

    @property
    def request_id(self) -> str | None:
        """The server's name for the request, if it gives one."""
        return next((self.headers[name] for name in _REQUEST_ID_HEADERS if name in self.headers), None)


def raise_for_status(request: Request, answer: Response, *, secret: str = "") -> None:
    """Raise the error that the answer's status stands for; return if it is a success.

    :param secret: a text that no message may repeat, even if the server does
    """
    status = answer.status
    if answer.is_success:
        return
    wait = retry_after(answer.headers)
    hint = ""
    kind: type[VoiceOSAPIError]
    if status in _AUTH:
        kind = VoiceOSAuthError
        hint = " Check the token in the connection's password field."
    elif status == _NOT_FOUND:
        kind = VoiceOSNotFoundError
        if request.path == LISTING:  # which every VoiceOS API has
            hint = " Check the base URL in the connection's host field."
    elif status == _RATE_LIMITED or (status == _UNAVAILABLE and wait is not None):
        kind = VoiceOSRateLimitError
    elif status >= _SERVER_ERROR or status in _TIMED_OUT:
        kind = VoiceOSServerError
    else:
        kind = VoiceOSBadRequestError
        if status < 400:
            hint = (
                f" It redirects to {_origin(answer.headers.get('location', ''))}; redirects are not followed."
            )
    detail = _detail(answer, secret)
    message = f"{request}: {status}{': ' + detail if detail else ''}{_reference(answer)}.{hint}"
    request_id = answer.request_id and _without(secret, answer.request_id)
    raise kind(_without(secret, message), status, request_id, wait)


def malformed(request: Request, answer: Response, why: str) -> VoiceOSResponseError:
    """The error for a success whose body is not what the API documents."""
    return VoiceOSResponseError(
        f"{request}: {answer.status}, but {why}{_reference(answer)}.", answer.status, answer.request_id, None
    )


def _reference(answer: Response) -> str:
    return f" (request id {answer.request_id})" if answer.request_id else ""


def _detail(answer: Response, secret: str) -> str:
    """The API's own `detail`: a text, a list of findings, absent, or not JSON at all."""
    try:
        detail = msgspec.json.decode(answer.body, type=dict[str, object]).get("detail")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if isinstance(detail, list):
        detail = "; ".join(_finding(entry) for entry in detail)
    if not isinstance(detail, str):
        return ""
    # First of all the secret: it may look like a number, or be cut in two at the end.
    shown = _PHONE_NUMBER.sub("[number]", " ".join(_without(secret, detail).split())).rstrip(".")
    return shown if len(shown) <= _LONGEST_DETAIL else shown[:_LONGEST_DETAIL] + "…"


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "***") if secret else text


def _finding(entry: object) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    where = entry.get("loc")
    place = ".".join(str(step) for step in where) if isinstance(where, list) else ""
    return f"{place}: {entry.get('msg', '')}".removeprefix(": ")


def _origin(location: str) -> str:
    try:
        parts = urlsplit(location)
    except ValueError:
        return "what is no URL"
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "another path of the same host"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait: `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).

    A date is held against the answer's own `Date`, so that our clock does not matter. Nonsense counts as absent.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal() and value.isascii():
        return float(value)
    moment, now = http_date(value), http_date(headers.get("date", "")) or datetime.now(UTC)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def http_date(value: str) -> datetime | None:
    """The instant that a header names, if it names one (RFC 9110, 5.6.7)."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


ACCEPT_ENCODING = "gzip"
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Body:
    """Collects the chunks of one answer, decompressed.

    httpx decodes without a bound and takes a truncated gzip stream for a short body, so it is done here.

    :param what: the request, for messages
    :param encoding: the answer's `Content-Encoding`
    :param limit: bytes allowed after decompression
    """

    def __init__(self, what: str, encoding: str, *, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._size = 0
        self._chunks: list[bytes] = []
        self._bits: int | None = None
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity"):
            if encoding not in _WINDOW_BITS:
                raise VoiceOSResponseError(f"{what}: unknown Content-Encoding {encoding!r}.")
            self._bits = _WINDOW_BITS[encoding]
            self._inflate = zlib.decompressobj(self._bits)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes off the wire.

        :raises VoiceOSContractError: once the body is larger than allowed
        :raises VoiceOSConnectionError: if it does not decompress
        """
        if self._bits is None:
            self._keep(chunk)
            return
        while chunk:
            if self._inflate.eof:  # a gzip stream may have several members
                self._inflate = zlib.decompressobj(self._bits)
            try:
                piece = self._inflate.decompress(chunk, self._limit - self._size + 1)
            except zlib.error:
                raise VoiceOSConnectionError(f"{self._what}: the compressed body is damaged.") from None
            self._keep(piece)
            chunk = self._inflate.unconsumed_tail or self._inflate.unused_data

    def finish(self) -> bytes:
        """The whole body.

        :raises VoiceOSConnectionError: if the compressed stream ends too early
        """
        if self._bits is not None and not self._inflate.eof:
            raise VoiceOSConnectionError(f"{self._what}: the compressed body ends too early.")
        return b"".join(self._chunks)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise VoiceOSContractError(
                f"{self._what}: the body is larger than {self._limit:,} bytes; ask for a smaller page."
            )
        self._chunks.append(piece)
