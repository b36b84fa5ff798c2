"""Client configuration."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import httpx

from voiceos_provider.client.retry import Retry
from voiceos_provider.exceptions import VoiceOSValueError

BASE_URL = "https://api.voiceos.io"
"""The public API (documented)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Base URL, token, limits and retries of a client; a value that can be shared.

    :param token: bearer token
    :param base_url: base URL of the API
    :param page_size: requested conversations per page; no maximum is documented, a server may send fewer
    :param max_pages: number of pages after which a listing is considered endless, which is an error
    :param retry: when to retry
    :param requests_per_second: maximum request rate of this client; None for the rate that the server allows
    :param connect_timeout: limit for connecting to one address of the host, in seconds
    :param request_timeout: wall-clock limit for one attempt in seconds, however slowly bytes arrive
    :param max_body_bytes: upper limit for a body after decompression
    :param allow_private_recordings: whether recordings may be downloaded from addresses that are not public
    :param verify: TLS verification: True for the usual certificates, or an `ssl.SSLContext`
    """

    token: str = field(repr=False)
    base_url: str = BASE_URL
    page_size: int = 100
    max_pages: int = 100_000
    retry: Retry = Retry()
    requests_per_second: float | None = None
    connect_timeout: float = 10.0
    request_timeout: float = 60.0
    max_body_bytes: int = 128 * 2**20
    allow_private_recordings: bool = False
    verify: ssl.SSLContext | bool = True

    @property
    def uses_tls(self) -> bool:
        """Whether requests are encrypted. Redirects are not followed, so plain HTTP never needs certificates."""
        return httpx.URL(self.base_url).scheme == "https"

    def __post_init__(self) -> None:
        # httpx would refuse such a header too, in a message that quotes it.
        if not self.token or not self.token.isascii() or not self.token.isprintable() or " " in self.token:
            raise VoiceOSValueError(
                "The token is empty, or holds a space, a line break or a character that is not ASCII."
            )
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise VoiceOSValueError(f"The base URL is not valid. Write it like {BASE_URL}.")
        if self.page_size < 1:
            raise VoiceOSValueError(f"page_size {self.page_size} is not positive; the API's default is 100.")
