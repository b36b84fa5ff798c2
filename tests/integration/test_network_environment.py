"""Proxy and TLS settings of the environment, for both clients: used as they are meant, or refused by name."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.cli.doctor import examine
from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, Retry, VoiceOSClient
from voiceos_provider.exceptions import VoiceOSConnectionError, VoiceOSValueError
from voiceos_provider.utils.async_connection import read_settings

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def check_sync(url: str, **changes: Any) -> None:
    """Send one request, blocking."""
    with VoiceOSClient(config(url, **changes)) as client:
        client.check_health()


def check_async(url: str, **changes: Any) -> None:
    """Send one request, with asyncio."""

    async def checked() -> None:
        async with AsyncVoiceOSClient(config(url, **changes)) as client:
            await client.check_health()

    asyncio.run(checked())


Check = Callable[..., None]


@pytest.fixture(params=[check_sync, check_async], ids=["sync", "async"])
def check(request: pytest.FixtureRequest) -> Check:
    """Both clients."""
    chosen: Check = request.param
    return chosen


def config(url: str, **changes: Any) -> ClientConfig:
    """One attempt, so that a retry would be noticed by its time."""
    defaults = {"token": "t", "base_url": url, "retry": Retry(max_attempts=1), "request_timeout": 5.0}
    return ClientConfig(**defaults | changes)


@contextmanager
def proxy(response: bytes = OK) -> Iterator[tuple[str, list[bytes]]]:
    """Yield a proxy that gives every request the same response; its address, and the request lines it saw."""
    seen: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with suppress(OSError), connection:
                connection.settimeout(5)
                seen.append(connection.recv(65_536).split(b"\r\n")[0])
                connection.sendall(response)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}", seen
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


MALFORMED = [
    ("HTTP_PROXY", "http://proxy:port", "HTTP_PROXY is not a proxy's URL"),
    ("http_proxy", "http://[::1", "http_proxy is not a proxy's URL"),
    ("HTTP_PROXY", "ftp://proxy:3128", "HTTP_PROXY is not a proxy's URL"),
    ("HTTP_PROXY", "http://", "HTTP_PROXY is not a proxy's URL"),
    ("ALL_PROXY", "http://user:pa ss@pro xy", "ALL_PROXY is not a proxy's URL"),
    ("ALL_PROXY", "socks5://127.0.0.1:1080", "ALL_PROXY names a SOCKS proxy.* package socksio"),
    ("SSL_CERT_FILE", "/nowhere/ca.pem", "SSL_CERT_FILE names no readable CA certificates"),
    ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE names no readable CA certificates"),
    ("SSL_CERT_DIR", "/nowhere", "SSL_CERT_DIR is not a directory"),
]


@pytest.mark.parametrize(("name", "value", "message"), MALFORMED)
def test_a_malformed_setting_is_one_error_that_names_the_variable(
    check: Check, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """When the client is opened, before anything is sent or retried; credentials are not shown."""
    monkeypatch.setenv(name, value)
    with pytest.raises(VoiceOSValueError, match=f"^{message}") as caught:
        check(f"{'https' if name.startswith('SSL') else 'http'}://voiceos.invalid")
    assert "pa ss" not in str(caught.value)


def test_plain_http_reads_no_certificates(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take longer to read than most requests."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with proxy() as (address, seen):
        check(f"http://{address}")
    assert seen == [b"GET / HTTP/1.1"]


@pytest.mark.parametrize(("host", "kind"), [("http://127.0.0.1", bool), ("voiceos.invalid", ssl.SSLContext)])
def test_triggerer_reads_certificates_only_for_https(
    connect: Callable[..., str], host: str, kind: type
) -> None:
    """Those that it reads are shared by all clients of the process."""
    settings = asyncio.run(read_settings(connect(host=host, password="a-token")))
    assert isinstance(settings.verify, kind)


@pytest.mark.parametrize("entry", ["fd00::/999", "10.0.0.0/33", "http://[broken", "a b/c"])
def test_a_malformed_no_proxy_is_one_error(check: Check, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """It may have been meant for this host."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", f"localhost,{entry}")
    with pytest.raises(VoiceOSValueError, match=r"^NO_PROXY holds"):
        check("http://voiceos.invalid")


def test_doctor_rejects_an_invalid_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens a client, too."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:port")
    with pytest.raises(VoiceOSValueError, match=r"^HTTP_PROXY"):
        examine(config("http://voiceos.invalid"))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://user:secret@", ""])
def test_requests_go_through_the_proxy(
    check: Check, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    """With or without a scheme and credentials."""
    with proxy() as (address, seen):
        monkeypatch.setenv(name, scheme + address)
        check("http://voiceos.invalid/v1")
    assert seen == [b"GET http://voiceos.invalid/v1/ HTTP/1.1"]


BYPASSED = {
    "http://127.0.0.1:{port}": [
        "127.0.0.1",
        "*",
        "other, 127.0.0.1:{port}",
        "127.0.0.0/8",
        "localhost,fd00::/8,127.0.0.1",
        "http://127.0.0.1",
        "::1 127.0.0.1",
    ],
    "http://localhost:{port}": ["localhost", ".localhost", "LOCALHOST", "all://localhost"],
}


@pytest.mark.parametrize(
    ("url", "entry"), [(url, entry) for url, entries in BYPASSED.items() for entry in entries]
)
def test_hosts_in_no_proxy_are_reached_directly(
    check: Check, monkeypatch: pytest.MonkeyPatch, url: str, entry: str
) -> None:
    """By name, parent domain, address, port or network; networks of other families are ignored."""
    with proxy() as (address, seen):
        port = address.rpartition(":")[2]
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", entry.format(port=port))
        check(url.format(port=port))
    assert seen == [b"GET / HTTP/1.1"]


@pytest.mark.parametrize(
    "entry",
    ["invalid.com", "os.invalid", "10.0.0.0/8", "fd00::/8", "voiceos.invalid:81", "https://voiceos.invalid"],
)
def test_other_hosts_go_through_the_proxy(check: Check, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """A suffix that is no parent domain, another port, another scheme."""
    with proxy() as (address, seen):
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("NO_PROXY", entry)
        check("http://voiceos.invalid")
    assert len(seen) == 1


def test_a_broken_proxy_of_another_scheme_does_not_matter(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what would be used is read."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:port")
    with proxy() as (address, _):
        check(f"http://{address}")


def test_a_proxy_that_cannot_be_reached_is_named_without_credentials(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base URL may be right."""
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    with pytest.raises(
        VoiceOSConnectionError, match=r"through the proxy 127\.0\.0\.1:9 \(HTTP_PROXY\) .* NO_PROXY"
    ) as caught:
        check("http://voiceos.invalid")
    assert "secret" not in str(caught.value)


def test_a_proxy_that_refuses_is_named(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says is shown on one line."""
    with proxy(b"HTTP/1.1 403 Go \x1b[31maway\r\nContent-Length: 0\r\n\r\n") as (address, seen):
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(VoiceOSConnectionError, match="Check the proxy") as caught:
            check("https://voiceos.invalid")
    assert seen == [b"CONNECT voiceos.invalid:443 HTTP/1.1"]
    assert f"through the proxy {address} (HTTPS_PROXY)" in str(caught.value)
    assert str(caught.value).isprintable()


def test_certificates_of_the_environment_are_used(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty directory is one without certificates, and no error here."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with proxy() as (address, _):
        check(f"http://{address}")
