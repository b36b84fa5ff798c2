"""How is the API reached, and with how much patience?"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from voiceos_provider.client.retry import Retry
from voiceos_provider.exceptions import VoiceOSValueError

BASE_URL = "https://api.voiceos.io"
"""The public API (documented)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Everything a client needs to know; a value, so that it can be shared.

    :param token: the bearer token
    :param base_url: where the API is
    :param page_size: conversations asked for per page; no maximum is documented, a server may send fewer
    :param max_pages: pages of one listing after which it is taken for endless; an error, never a silent end
    :param retry: when to try again
    :param requests_per_second: never send more; None for as many as the server takes
    :param connect_timeout: seconds to wait for a connection
    :param request_timeout: seconds one try may last by the clock on the wall, however slowly bytes drip
    :param max_body_bytes: bytes a body may have after decompression
    :param verify: TLS: True for the usual certificates, or a context of one's own
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
    verify: ssl.SSLContext | bool = True

    def __post_init__(self) -> None:
        # Whatever cannot be a header would be refused on its way, by a message that quotes it.
        if not self.token or not self.token.isascii() or not self.token.isprintable() or " " in self.token:
            raise VoiceOSValueError(
                "The token is empty, or holds a space, a line break or what is not ASCII."
            )
        if self.page_size < 1:
            raise VoiceOSValueError(f"page_size {self.page_size} is not positive; the API's default is 100.")
