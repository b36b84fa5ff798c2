"""HTTP responses: complete bodies, their character encoding, and the errors for statuses."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import msgspec

from voiceos_provider.client.json_faults import json_fault
from voiceos_provider.client.requests import LISTING, Request
from voiceos_provider.client.values import loads
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSConnectionError,
    VoiceOSNotFoundError,
    VoiceOSRateLimitError,
    VoiceOSResponseError,
    VoiceOSResponseTooLargeError,
    VoiceOSServerError,
)

ACCEPT_ENCODING = "gzip"
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}

_REQUEST_ID_HEADERS = ("x-request-id", "x-correlation-id", "request-id", "cf-ray")
_PHONE_NUMBER = re.compile(r"\+\d[\d ().-]{5,}\d|\(?\b\d{3}\)?[ .-]?\d{3}[ .-]?\d{4}\b|\b\d{10,}\b")
_LONGEST_DETAIL = 500
_LONGEST_HEADER = 100

_OK, _MULTIPLE_CHOICES, _NOT_FOUND, _UNAVAILABLE, _SERVER_ERROR = 200, 300, 404, 503, 500
_AUTH, _RATE_LIMITED, _TIMED_OUT = (401, 403), 429, (408, 425)


@dataclass(frozen=True, slots=True)
class Response:
    """One complete HTTP response.

    :param headers: with lower-case names
    :param body: decompressed
    :param secret: the token, which no message may repeat even if the server does
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    secret: str = field(default="", repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the body is what was requested."""
        return _OK <= self.status < _MULTIPLE_CHOICES

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, if it sends one."""
        sent = next((self.headers[name] for name in _REQUEST_ID_HEADERS if name in self.headers), "")
        return self.show(sent) or None

    @property
    def retry_after(self) -> float | None:
        """The seconds the server asks to wait: `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).

        A date is compared with the response's own `Date`, so that this machine's clock does not matter. An invalid
        value counts as absent.
        """
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal() and value.isascii():
            return float(value)
        moment, now = http_date(value), http_date(self.headers.get("date", "")) or datetime.now(UTC)
        return None if moment is None else max(0.0, (moment - now).total_seconds())

    @property
    def is_rate_limit(self) -> bool:
        """Whether the server asks to send less: 429, or 503 with `Retry-After`."""
        return self.status == _RATE_LIMITED or (self.status == _UNAVAILABLE and self.retry_after is not None)

    @property
    def content_type(self) -> str:
        """The declared content type, as messages show it."""
        return self.show(self.headers.get("content-type", "")) or "no content type"

    def show(self, text: str, *, limit: int = _LONGEST_HEADER) -> str:
        """Return text that the server sent as a message may show it; see `printable`."""
        # The secret first: it may look like something else, or be cut in two at the end.
        return printable(text.replace(self.secret, "***") if self.secret else text, limit=limit)

    @property
    def text(self) -> bytes:
        """The body in UTF-8, without a byte order mark.

        A body that is neither UTF-8, nor marked, nor in the declared charset is returned as it is.
        """
        for mark, encoding in _BYTE_ORDER_MARKS.items():
            if self.body.startswith(mark):
                return _transcoded(self.body.removeprefix(mark), encoding)
        charset = _declared_charset(self.headers.get("content-type", ""))
        # UTF-16 and UTF-32 of English text are valid UTF-8 that is full of NULs.
        if charset.startswith(("utf-16", "utf-32")) or not (charset in ("", "utf-8") or _is_utf8(self.body)):
            return _transcoded(self.body, charset)
        return self.body


def printable(text: str, *, limit: int) -> str:
    """Return text from a server as a message may show it: one line, no control characters, not too long."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return shown if len(shown) <= limit else shown[:limit] + "…"


def raise_for_status(request: Request, response: Response) -> None:
    """Raise the error for the status, or return if it is a success."""
    status = response.status
    if response.is_success:
        return
    hint = ""
    kind: type[VoiceOSAPIError]
    if status in _AUTH:
        kind = VoiceOSAuthError
        hint = " Check the token in the connection's password field."
    elif status == _NOT_FOUND:
        kind = VoiceOSNotFoundError
        if request.path == LISTING:  # every VoiceOS API has it
            hint = " Check the base URL in the connection's host field."
    elif response.is_rate_limit:
        kind = VoiceOSRateLimitError
    elif status >= _SERVER_ERROR or status in _TIMED_OUT:
        kind = VoiceOSServerError
    else:
        kind = VoiceOSBadRequestError
        if status < 400:
            hint = f" It redirects to {_origin(response)}; redirects are not followed."
    detail = _detail(response)
    message = f"{request}: {status}{': ' + detail if detail else ''}{_reference(response)}.{hint}"
    raise kind(message, status, response.request_id, response.retry_after, detail=detail)


def malformed(request: Request, response: Response, why: str) -> VoiceOSResponseError:
    """Return the error for a success whose body is not what the API documents."""
    message = f"{request}: {response.status}, but {why}{_reference(response)}."
    return VoiceOSResponseError(message, response.status, response.request_id)


def not_json(request: Request, response: Response) -> VoiceOSResponseError:
    """Return the error for a body that is not JSON, with the cause and the byte it is at."""
    shown = f"{response.content_type}, {len(response.body):,} bytes"
    return malformed(request, response, f"the body is not JSON: {json_fault(response.text)} ({shown})")


def find_recording_url(request: Request, response: Response) -> str | None:
    """Return the URL of a recording; None if the body says that there is none, with null (inferred).

    :raises VoiceOSResponseError: if the body is not as documented
    """
    try:
        content = loads(response.text)
    except (ValueError, RecursionError):
        raise not_json(request, response) from None
    url = content.get("recording_url", False) if isinstance(content, dict) else False
    if not isinstance(url, str | None):
        raise malformed(request, response, "the body has no 'recording_url'")
    return url


def parse_recording_url(request: Request, response: Response) -> str:
    """Return the URL of a recording.

    :raises VoiceOSResponseError: if the body has none
    """
    url = find_recording_url(request, response)
    if url is None:
        raise malformed(request, response, "the body has no 'recording_url'")
    return url


def parse_nothing(request: Request, response: Response) -> None:
    """Accept any success."""


def parse_date(request: Request, response: Response) -> datetime | None:
    """Return the server's time of any success, or None if it does not send it."""
    return http_date(response.headers.get("date", ""))


def http_date(value: str) -> datetime | None:
    """Return the instant in a header, or None if there is none (RFC 9110, 5.6.7)."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _reference(response: Response) -> str:
    return f" (request id {response.request_id})" if response.request_id else ""


def _detail(response: Response) -> str:
    """Return the API's own `detail`: a text or a list of findings; empty if it is absent or not JSON."""
    try:
        detail = msgspec.json.decode(response.text, type=dict[str, object]).get("detail")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if isinstance(detail, list):
        detail = "; ".join(_finding(entry) for entry in detail)
    if not isinstance(detail, str):
        return ""
    shown = response.show(detail, limit=4 * _LONGEST_DETAIL)
    return printable(_PHONE_NUMBER.sub("[number]", shown).rstrip("."), limit=_LONGEST_DETAIL)


def _finding(entry: object) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    path = entry.get("loc")
    place = ".".join(str(step) for step in path) if isinstance(path, list) else ""
    return f"{place}: {entry.get('msg', '')}".removeprefix(": ")


def _origin(response: Response) -> str:
    try:
        parts = urlsplit(response.headers.get("location", ""))
    except ValueError:
        return "an invalid URL"
    if not parts.hostname:
        return "another path of the same host"
    return response.show(f"{parts.scheme}://{parts.hostname}")


_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_CHARSETS = re.compile(
    r"ascii|utf-(8|(16|32)(-[lb]e)?)|iso8859-\d+|cp125\d|koi8-[ru]|big5|euc[_-].*|gb.*|shift_jis.*"
)
"""Charsets that a JSON body may declare. Python supports more, such as `punycode` and `unicode_escape`."""


def _declared_charset(content_type: str) -> str:
    """Return Python's name for the charset of a content type; empty if there is none, or it is not supported."""
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    try:
        name = codecs.lookup(str(header.get_param("charset", ""))).name
    except (LookupError, ValueError):
        return ""
    return name if _CHARSETS.fullmatch(name) else ""


def _transcoded(body: bytes, encoding: str) -> bytes:
    if encoding == "utf-8":
        return body
    try:
        return body.decode(encoding).encode()
    except ValueError:
        return body


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


class BodyReader:
    """Collects and decompresses the chunks of one response.

    httpx decompresses without a limit, and accepts a truncated gzip stream as a short body.

    :param encoding: the `Content-Encoding` of the response
    :param limit: bytes allowed after decompression
    """

    def __init__(self, request: str, encoding: str, *, limit: int) -> None:
        self._request = request
        self._limit = limit
        self._size = 0
        self._chunks: list[bytes] = []
        self._bits: int | None = None
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity"):
            if encoding not in _WINDOW_BITS:
                shown = printable(encoding, limit=_LONGEST_HEADER)
                raise VoiceOSResponseError(f"{request}: unknown Content-Encoding {shown!r}.")
            self._bits = _WINDOW_BITS[encoding]
            self._inflate = zlib.decompressobj(self._bits)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        :raises VoiceOSResponseTooLargeError: once the body is larger than allowed
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
                raise VoiceOSConnectionError(f"{self._request}: the compressed body is damaged.") from None
            self._keep(piece)
            chunk = self._inflate.unconsumed_tail or self._inflate.unused_data

    def finish(self) -> bytes:
        """Return the whole body.

        :raises VoiceOSConnectionError: if the compressed stream ends too early
        """
        if self._bits is not None and not self._inflate.eof:
            raise VoiceOSConnectionError(f"{self._request}: the compressed body ends too early.")
        return b"".join(self._chunks)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise VoiceOSResponseTooLargeError(
                f"{self._request}: the body is larger than {self._limit:,} bytes. Lower the page size."
            )
        self._chunks.append(piece)
