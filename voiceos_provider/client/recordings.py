"""Recordings: the signed URL of one, and the download of its audio.

The host of a signed URL is chosen by a response, so it is not trusted. It never receives the token; only public
addresses are connected to, unless the connection allows others; a redirect is checked like the first URL. A signed URL
is a credential: it is used at once, and neither logged nor part of an error.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import BinaryIO

import httpcore
import httpx

from voiceos_provider import __version__
from voiceos_provider.client.audio_types import audio_type
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.http_logs import no_http_log
from voiceos_provider.client.network import NETWORK, PoolTransport, deadline
from voiceos_provider.client.public_addresses import PublicAddresses, RefusedAddressError, is_private_name
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import recording
from voiceos_provider.client.responses import Response, find_recording_url, printable
from voiceos_provider.client.retry import Attempts
from voiceos_provider.client.transport import find_proxy, ssl_context
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
_OK = 200


@dataclass(frozen=True, slots=True)
class Recording:
    """Downloaded audio.

    :param sha256: its checksum, in hexadecimal
    :param content_type: its media type, by the usual name if there are several
    """

    bytes: int
    sha256: str
    content_type: str


class RecordingDownloader:
    """Downloads recordings, several at a time in threads.

    :param max_bytes: largest recording that is downloaded
    :param timeout: wall-clock limit for one attempt, in seconds
    """

    def __init__(self, client: VoiceOSClient, *, max_bytes: int, timeout: float) -> None:
        self._client = client
        self._config = client.config
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._ssl_context = ssl_context(self._config)
        self._opened: dict[str | None, httpx.Client] = {}
        self._opening = threading.Lock()

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

        Each of at most five attempts requests a new signed URL, because the last one may have expired. The request of
        the URL has attempts of its own, so the API receives up to five times `max_attempts`.

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
            url = self._client.send(request, find_recording_url, limiter=limiter, sleep=sleep)
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
            with no_http_log(), deadline(self._timeout):
                target = self._checked(what, httpx.URL(url))
                for _ in range(_MAX_REDIRECTS + 1):
                    with self._http(target).stream("GET", target) as response:
                        if not response.has_redirect_location:
                            _require_audio(what, response)
                            return self._save(what, response, file)
                        target = self._checked(what, target.join(response.headers["location"]))
        except RefusedAddressError as refused:
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
        sent = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if (content_type := audio_type(sent, start)) is None:
            raise VoiceOSRecordingError(
                f"{what}: no audio, but {printable(sent, limit=50) or 'unknown content'}."
            )
        return Recording(size, digest.hexdigest(), printable(content_type, limit=100))

    def _http(self, url: httpx.URL) -> httpx.Client:
        """Return the client for a URL: with the proxy of the environment, or to public addresses only."""
        proxy = find_proxy(f"{url.scheme}://{url.netloc.decode('ascii')}")
        allowed = self._config.allow_private_recordings
        if proxy and not allowed and is_private_name(url.host):  # other names are resolved by the proxy
            raise RefusedAddressError(url.host)
        key = str(proxy.settings.url) if proxy else None
        with self._opening:
            if key not in self._opened:
                network = NETWORK if proxy or allowed else PublicAddresses(NETWORK)
                settings = proxy.settings if proxy else None
                self._opened[key] = httpx.Client(
                    transport=PoolTransport(self._ssl_context, network=network, proxy=settings),
                    timeout=httpx.Timeout(self._timeout, connect=self._config.connect_timeout),
                    follow_redirects=False,
                    trust_env=False,
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                    headers={
                        "Accept": "audio/*, */*;q=0.1",
                        "Accept-Encoding": "identity",
                        "User-Agent": f"airflow-provider-voiceos/{__version__}",
                    },
                )
            return self._opened[key]


def _require_audio(what: str, response: httpx.Response) -> None:
    """Raise unless the response is a success that has not been compressed."""
    status, host = response.status_code, response.url.host
    if status == _OK and response.headers.get("content-encoding", "identity") == "identity":
        return
    head = Response(status, response.headers)
    message = f"{what}: {status} from {host}."
    if head.is_rate_limit:
        raise VoiceOSRateLimitError(message, status, retry_after=head.retry_after)
    raise VoiceOSRecordingError(message, status)
