"""Recordings: the signed URL of one, and the download of its audio.

The host of a signed URL is chosen by a response, so it is not trusted. It never receives the token; only public
addresses are connected to, unless the connection allows others; a redirect is checked like the first URL. A signed URL
is a credential: it is used at once, and neither logged nor part of an error.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, BinaryIO

import httpcore
import httpx

from voiceos_provider import __version__
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.deadline import deadline, enforce_deadlines, wrap_network
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import Request, recording
from voiceos_provider.client.responses import Response, parse_recording, printable
from voiceos_provider.client.retry import Attempts
from voiceos_provider.client.transport import default_ssl_context, find_proxy
from voiceos_provider.client.values import loads
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSContractError,
    VoiceOSNotFoundError,
    VoiceOSRateLimitError,
    VoiceOSRecordingError,
    VoiceOSResponseTooLargeError,
)

_MAX_ATTEMPTS = 5
_MAX_REDIRECTS = 3
_OK, _RATE_LIMITED, _UNAVAILABLE = 200, 429, 503

SUFFIXES = {
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/webm": ".webm",
    "audio/aac": ".aac",
}
"""The suffix of a file for each known content type."""

_ALIASES = {
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/opus": "audio/ogg",
    "application/ogg": "audio/ogg",
    "audio/x-flac": "audio/flac",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "video/mp4": "audio/mp4",
    "video/webm": "audio/webm",
}
_UNSPECIFIC = ("", "application/octet-stream", "binary/octet-stream")
"""Types by which object stores serve what they were given no type for."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Recording:
    """Downloaded audio.

    :param bytes: its size
    :param sha256: its checksum, in hexadecimal
    :param content_type: its media type, by the usual name if there are several
    """

    bytes: int
    sha256: str
    content_type: str


def parse_recording_url(request: Request, response: Response) -> str | None:
    """Return the URL of a recording; None if the body says that there is none, with null (inferred).

    :raises VoiceOSResponseError: if the body is not as documented
    """
    try:
        content = loads(response.text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and content.get("recording_url", "") is None:
        return None
    return parse_recording(request, response)


class RecordingDownloader:
    """Downloads recordings, several at a time in threads.

    :param client: requests the signed URLs
    :param max_bytes: largest recording that is downloaded
    :param timeout: wall-clock limit for one attempt, in seconds
    """

    def __init__(self, client: VoiceOSClient, *, max_bytes: int, timeout: float) -> None:
        self._client = client
        self._config = client.config
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._verify = default_ssl_context() if self._config.verify is True else self._config.verify
        self._opened: dict[str | None, httpx.Client] = {}
        self._opening = threading.Lock()
        for name in _HTTP_LOGGERS:
            logger = logging.getLogger(name)
            if _is_not_of_a_download not in logger.filters:
                logger.addFilter(_is_not_of_a_download)

    def close(self) -> None:
        """Close the connections."""
        for http in self._opened.values():
            http.close()

    def download(
        self,
        conversation_id: str,
        file: BinaryIO,
        *,
        limiter: RateLimiter | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Recording:
        """Write the audio of a conversation to a file, which it replaces, and return what was written.

        Each attempt requests a new signed URL, because the last one may have expired.

        :param limiter: rate limiter of the requests to the API
        :param sleep: waits, given seconds
        :raises VoiceOSNotFoundError: if there is no recording (inferred)
        :raises VoiceOSResponseTooLargeError: if it is larger than `max_bytes`
        :raises VoiceOSContractError: if its URL is not one that may be requested
        :raises VoiceOSAPIError: if the last attempt fails
        """
        retry = replace(self._config.retry, max_attempts=min(_MAX_ATTEMPTS, self._config.retry.max_attempts))
        attempts = Attempts(retry, monotonic=time.monotonic, rng=random.Random())
        request = recording(conversation_id)
        while True:
            url = self._client.send(request, parse_recording_url, limiter=limiter, sleep=sleep)
            if url is None:
                raise VoiceOSNotFoundError(
                    f"{request}: there is no recording.", 404, detail="recording_url is null"
                )
            try:
                file.seek(0)
                file.truncate()
                return self._fetch(
                    f"Recording of conversation {printable(conversation_id, limit=100)}", url, file
                )
            except VoiceOSAPIError as error:
                delay = attempts.delay_after(error)
            sleep(delay)

    def _fetch(self, what: str, url: str, file: BinaryIO) -> Recording:
        """Follow a URL to the audio.

        No error is chained, because those of httpx may quote a URL.
        """
        try:
            with _no_http_log(), deadline(self._timeout):
                target = self._checked(what, httpx.URL(url))
                for _ in range(_MAX_REDIRECTS + 1):
                    with self._http(target).stream("GET", target) as response:
                        if not response.has_redirect_location:
                            _require_audio(what, response)
                            return self._save(what, response, file)
                        target = self._checked(what, target.join(response.headers["location"]))
        except _RefusedAddressError as refused:
            raise VoiceOSContractError(
                f"{what}: its URL leads to {refused}, which is not a public address. If it is meant to, set the extra "
                "allow_private_recordings of the connection."
            ) from None
        except (httpx.InvalidURL, UnicodeError):
            raise VoiceOSContractError(f"{what}: its URL is not valid.") from None
        except (httpx.HTTPError, httpcore.TimeoutException) as error:
            raise VoiceOSRecordingError(
                f"{what}: no complete response from {target.host} ({type(error).__name__})."
            ) from None
        raise VoiceOSRecordingError(f"{what}: more than {_MAX_REDIRECTS} redirects.")

    def _checked(self, what: str, url: httpx.URL) -> httpx.URL:
        """Return a URL that may be requested; its address is checked when it is connected to."""
        schemes = ("https", "http") if self._config.base_url.startswith("http:") else ("https",)
        if url.scheme not in schemes or not url.host or url.userinfo:
            raise VoiceOSContractError(
                f"{what}: its URL is not one of {' or '.join(schemes)}, has no host, or has a user."
            )
        return url

    def _save(self, what: str, response: httpx.Response, file: BinaryIO) -> Recording:
        declared = response.headers.get("content-length")
        if declared is None and "chunked" not in response.headers.get("transfer-encoding", "").lower():
            raise VoiceOSRecordingError(f"{what}: the response does not say where it ends.")
        too_large = VoiceOSResponseTooLargeError(f"{what}: larger than {self._max_bytes:,} bytes.")
        if declared is not None and int(declared) > self._max_bytes:
            raise too_large
        size, digest, start = 0, hashlib.sha256(), b""
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > self._max_bytes:
                raise too_large
            start = start or chunk[:16]
            digest.update(chunk)
            file.write(chunk)
        if not size or (declared is not None and size != int(declared)):
            raise VoiceOSRecordingError(
                f"{what}: {size:,} bytes came, {declared or 'more than 0'} were announced."
            )
        return Recording(size, digest.hexdigest(), _audio_type(what, response, start))

    def _http(self, url: httpx.URL) -> httpx.Client:
        """Return the client for a URL: with the proxy of the environment, or to public addresses only."""
        proxy = find_proxy(f"{url.scheme}://{url.netloc.decode('ascii')}")
        allowed = self._config.allow_private_recordings
        if proxy and not allowed and _is_private_name(url.host):  # other names are resolved by the proxy
            raise _RefusedAddressError(url.host)
        key = str(proxy.settings.url) if proxy else None
        with self._opening:
            if key not in self._opened:
                http = httpx.Client(
                    verify=self._verify,
                    timeout=httpx.Timeout(self._timeout, connect=self._config.connect_timeout),
                    follow_redirects=False,
                    trust_env=False,
                    proxy=proxy.settings if proxy else None,
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                    headers={
                        "Accept": "audio/*, */*;q=0.1",
                        "Accept-Encoding": "identity",
                        "User-Agent": f"airflow-provider-voiceos/{__version__}",
                    },
                )
                enforce_deadlines(http)
                if not proxy and not allowed:
                    wrap_network(http, _PublicAddresses)
                self._opened[key] = http
            return self._opened[key]


class _RefusedAddressError(Exception):
    """The address is not public."""


class _PublicAddresses(httpcore.NetworkBackend):
    """Network that connects to public addresses only, and to the very address that was checked."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not _is_public(address):
                raise _RefusedAddressError(f"{host} ({address})")
        for address in addresses[:-1]:
            try:
                return self._backend.connect_tcp(address, port, *args, **kwargs)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._backend.connect_tcp(addresses[-1], port, *args, **kwargs)


def _is_public(address: str) -> bool:
    """Return whether an address, and the IPv4 address that an IPv6 address stands for, is public."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return _is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def _is_private_name(host: str) -> bool:
    try:
        return not _is_public(host)
    except ValueError:
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith((".localhost", ".local", ".internal")) or "." not in name


def _require_audio(what: str, response: httpx.Response) -> None:
    """Raise unless the response is a success that has not been compressed."""
    status, host = response.status_code, response.url.host
    if status == _OK and response.headers.get("content-encoding", "identity") == "identity":
        return
    head = Response(status, response.headers)
    message = f"{what}: {status} from {host}."
    if status == _RATE_LIMITED or (status == _UNAVAILABLE and head.retry_after is not None):
        raise VoiceOSRateLimitError(message, status, retry_after=head.retry_after)
    raise VoiceOSRecordingError(message, status)


def _audio_type(what: str, response: httpx.Response, start: bytes) -> str:
    """Return the content type of audio.

    :raises VoiceOSRecordingError: if it is something else, such as a page of HTML
    """
    sent = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = _ALIASES.get(sent, sent)
    if kind in _UNSPECIFIC:
        kind = _type_of(start)
    if not kind.startswith("audio/"):
        raise VoiceOSRecordingError(
            f"{what}: no audio, but {printable(sent, limit=50) or 'unknown content'}."
        )
    return printable(kind, limit=100)


def _type_of(start: bytes) -> str:
    """Return the type of audio by its first bytes, or an empty text."""
    signatures = {
        b"RIFF": "audio/wav",
        b"OggS": "audio/ogg",
        b"fLaC": "audio/flac",
        b"\x1aE\xdf\xa3": "audio/webm",
    }
    if start[4:8] == b"ftyp":
        return "audio/mp4"
    if start[:3] == b"ID3" or (start[:1] == b"\xff" and start[1:2] >= b"\xe0"):
        return "audio/mpeg"
    return signatures.get(start[:4], "")


_HTTP_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "proxy", "socks")))
_downloading: ContextVar[bool] = ContextVar("voiceos_downloading", default=False)


@contextmanager
def _no_http_log() -> Iterator[None]:
    """Keep the HTTP libraries of this thread from logging URLs, also those of redirects at DEBUG."""
    token = _downloading.set(True)
    try:
        yield
    finally:
        _downloading.reset(token)


def _is_not_of_a_download(record: logging.LogRecord) -> bool:
    return not _downloading.get()
