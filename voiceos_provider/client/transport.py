"""HTTP options, proxy, TLS and error messages that both clients share."""

from __future__ import annotations

import ipaddress
import os
import random
import re
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from voiceos_provider import __version__
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.http_logs import hide_urls_of
from voiceos_provider.client.paging import PageNumberPaginator
from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.responses import (
    ACCEPT_ENCODING,
    BodyReader,
    Response,
    printable,
    raise_for_status,
)
from voiceos_provider.client.retry import Attempts, Retry
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSBadRequestError,
    VoiceOSConnectionError,
    VoiceOSTLSError,
    VoiceOSValueError,
)

T = TypeVar("T")
Outcome = Response | VoiceOSAPIError
"""What an attempt brought: a response of any status, or the error that there was none."""

_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
"""OpenSSL's reasons for a response that is no TLS."""

HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": ACCEPT_ENCODING,
    "Cache-Control": "no-cache",
    "User-Agent": f"airflow-provider-voiceos/{__version__}",
}

_LONGEST_REASON = 300
_URI_TOO_LONG = 414

_HOST = re.compile(rb"[A-Za-z0-9._:-]+")  # httpx takes any text for a host

# Where h11 cannot parse what was sent, it quotes it.
_QUOTED_BYTES = re.compile(r"(?:bytearray\()?\bb['\"]")


class BaseClient:
    """State and helpers of the blocking and the asyncio client."""

    def __init__(
        self, config: ClientConfig, monotonic: Callable[[], float], rng: random.Random | None
    ) -> None:
        self.config = config
        self._token = config.token
        self._monotonic = monotonic
        self._rng = rng or random.Random()
        self._proxy = find_proxy(config.base_url)
        # A single caller waits by itself when it is rate limited; it only needs pacing.
        rate = config.requests_per_second
        self._limiter = RateLimiter(requests_per_second=rate, monotonic=monotonic) if rate else None
        hide_urls_of(config.base_url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.base_url!r})"

    def _open(self, kind: Callable[..., T], transport: Any) -> T:
        """Create the HTTP client. The environment is read here, not by httpx, so that errors name the variable."""
        proxy = None if transport else self._proxy
        with self._socks_is_installed():
            return kind(
                base_url=self.config.base_url,
                verify=transport is not None or self._ssl_context(),  # a transport has its own
                timeout=httpx.Timeout(self.config.request_timeout, connect=self._connect_timeout),
                follow_redirects=False,
                trust_env=False,
                proxy=proxy and proxy.settings,
                transport=transport,
                headers=HEADERS,
            )

    @contextmanager
    def _socks_is_installed(self) -> Iterator[None]:
        """Raise an error that says how to install what a SOCKS proxy needs."""
        try:
            yield
        except (ImportError, RuntimeError):  # of httpx and of httpcore; no other proxy needs another package
            assert self._proxy is not None
            raise VoiceOSValueError(
                f"{self._proxy.variable} names a SOCKS proxy, which needs the package socksio. Install 'httpx[socks]', "
                "name an HTTP proxy, or add the API's host to NO_PROXY."
            ) from None

    @property
    def _connect_timeout(self) -> float:
        return min(self.config.connect_timeout, self.config.request_timeout)

    def _ssl_context(self) -> ssl.SSLContext:
        if self.config.verify is True and not self.config.uses_tls:  # reading certificates takes some 30 ms
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return ssl_context(self.config)

    def _stream_arguments(self, request: Request) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"} if request.authenticated else {}
        # One string, because httpx parses the URL again for each part that is added to it.
        url = f"{self.config.base_url.rstrip('/')}{request.path}"
        if request.params:
            url += "?" + urlencode(request.params, safe=":")
        return {"method": "GET", "url": url, "headers": headers}

    def _body_reader(self, request: Request, head: Response) -> BodyReader:
        encoding = head.headers.get("content-encoding", "")
        return BodyReader(str(request), encoding, limit=self.config.max_body_bytes)

    def _attempts(self, retry: Retry | None = None) -> Attempts:
        return Attempts(retry or self.config.retry, monotonic=self._monotonic, rng=self._rng)

    def _failed(self, request: Request, head: Response | None, error: Exception) -> Outcome:
        """Return the outcome of an attempt whose body did not arrive. An error status says enough without one."""
        if head is not None and not head.is_success:
            return head
        return error if isinstance(error, VoiceOSAPIError) else self._connection_error(request, error)

    def _connection_error(self, request: Request, error: Exception) -> VoiceOSAPIError:
        if isinstance(error, httpx.InvalidURL):
            # An id that the API sent is too long for an URL: as if the server had said so.
            return VoiceOSBadRequestError(f"{request}: {_URI_TOO_LONG}: not sent ({error}).", _URI_TOO_LONG)
        sent = _QUOTED_BYTES.split(str(error), maxsplit=1)[0].rstrip(": \n").replace(self._token, "***")
        reason = printable(sent, limit=_LONGEST_REASON) or "no response in time"
        proxy = self._proxy
        through = f" through the proxy {proxy.address} ({proxy.variable})" if proxy else ""
        message = (
            f"{request}: no complete response from {self.config.base_url}{through} "
            f"({type(error).__name__}: {reason})."
        )
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return VoiceOSTLSError(f"{message} Set the connection's ca_bundle to your company's CA file.")
        if any(name in reason.upper().replace(" ", "_") for name in _NOT_TLS):
            return VoiceOSTLSError(
                f"{message} The server does not speak TLS. If it serves plain HTTP, write http:// before the host."
            )
        if isinstance(error, httpx.ProxyError):
            message += " Check the proxy, or add the API's host to NO_PROXY."
        elif isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            message += (
                " Check that this worker can reach the proxy, or add the API's host to NO_PROXY."
                if proxy
                else " Check the base URL in the connection's host field, and that this worker can reach it."
            )
        return VoiceOSConnectionError(message)

    def _paginator(
        self,
        status: str | None,
        created_after: datetime | None,
        created_before: datetime | None,
        page_size: int | None,
    ) -> PageNumberPaginator:
        size = self.config.page_size if page_size is None else page_size
        listing = Listing(status, created_after, created_before, size)
        return PageNumberPaginator(listing, max_pages=self.config.max_pages)


def result(request: Request, outcome: Outcome, parse: Callable[[Request, Response], T]) -> T:
    """Return the parsed response of an attempt, or raise why there is none."""
    if isinstance(outcome, VoiceOSAPIError):
        raise outcome
    raise_for_status(request, outcome)
    return parse(request, outcome)


def complete(head: Response, body: BodyReader) -> Response:
    """Return the response with its whole body."""
    return replace(head, body=body.finish())


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy for one base URL.

    :param variable: the environment variable it comes from
    """

    settings: httpx.Proxy
    variable: str

    @property
    def address(self) -> str:
        """Host and port, without credentials."""
        return self.settings.url.netloc.decode("ascii", "replace")


def find_proxy(base_url: str) -> Proxy | None:
    """Return the proxy that the environment names for a base URL.

    :raises VoiceOSValueError: if its variable, or NO_PROXY, is malformed
    """
    target = httpx.URL(base_url)
    proxies = urllib.request.getproxies()
    scheme = next((name for name in (target.scheme, "all") if proxies.get(name)), None)
    if scheme is None or _bypasses_proxy(proxies.get("no", ""), target):
        return None
    address = proxies[scheme]
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    variable = next((name for name in names if os.environ.get(name)), "the system's proxy setting")
    try:
        settings = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (httpx.InvalidURL, ValueError):
        settings = None
    if settings is None or not _HOST.fullmatch(settings.url.raw_host):
        raise VoiceOSValueError(
            f"{variable} is not a proxy's URL. Write it like http://proxy.example.com:3128."
        )
    return Proxy(settings, variable)


def _bypasses_proxy(no_proxy: str, target: httpx.URL) -> bool:
    """Return whether a host is listed in NO_PROXY: by name, parent domain, address, network, or `*`.

    :raises VoiceOSValueError: if an entry is malformed
    """
    host = target.host.rstrip(".").lower()
    address = None
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
    port = target.port or {"http": 80, "https": 443}.get(target.scheme)
    for entry in filter(None, (part.strip().lower() for part in re.split(r"[,\s]+", no_proxy))):
        if entry == "*":
            return True
        wanted, _, name = entry.rpartition("://")
        if wanted not in ("", "all", target.scheme):
            continue
        try:
            if "/" in name:
                if address is not None and address in ipaddress.ip_network(name, strict=False):
                    return True
                ipaddress.ip_network(name, strict=False)
                continue
            with suppress(ValueError):
                if address == ipaddress.ip_address(name.strip("[]")):
                    return True
                continue
            url = httpx.URL(f"all://{name.lstrip('*').lstrip('.')}")
        except (ValueError, httpx.InvalidURL):
            url = None
        if url is None or not _HOST.fullmatch(url.raw_host):
            raise VoiceOSValueError(
                f"NO_PROXY holds {printable(entry, limit=100)!r}, which is no host, domain, address or network."
            )
        if url.port in (None, port) and (host == url.host or host.endswith(f".{url.host}")):
            return True
    return False


def ssl_context(config: ClientConfig) -> ssl.SSLContext:
    """Return the TLS context that a configuration names."""
    if isinstance(config.verify, ssl.SSLContext):
        return config.verify
    if config.verify:
        return default_ssl_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def default_ssl_context() -> ssl.SSLContext:
    """Return the TLS context of httpx: certifi's certificates, or those that SSL_CERT_FILE or SSL_CERT_DIR name.

    :raises VoiceOSValueError: if the variable names no readable certificates
    """
    variable = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
    if variable == "SSL_CERT_DIR" and not os.path.isdir(os.environ[variable]):
        raise VoiceOSValueError(f"SSL_CERT_DIR is not a directory: {os.environ[variable]!r}.")
    try:
        if variable == "SSL_CERT_FILE":
            return ssl.create_default_context(cafile=os.environ[variable])
        return httpx.create_ssl_context()
    except OSError as error:
        if variable is None:
            raise
        raise VoiceOSValueError(
            f"{variable} names no readable CA certificates: {os.environ[variable]!r} ({error})."
        ) from None
