"""The client on real sockets: broken connections, TLS, redirects and malformed HTTP."""

import asyncio
import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, Retry, VoiceOSClient
from voiceos_provider.client.network import PoolTransport
from voiceos_provider.client.transport import ssl_context
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import (
    VoiceOSBadRequestError,
    VoiceOSConnectionError,
    VoiceOSContractError,
    VoiceOSTLSError,
)

WORLD = World(seed=7, conversations=50, start=datetime(2026, 11, 1, tzinfo=UTC))
AFTERWARDS = datetime(2027, 1, 1, tzinfo=UTC)
PAGE = b'{"items": [{"id": "a"}, {"id": "b"}], "has_more": false}'
END = b'{"items": [], "has_more": false}'
TOKEN = "tok_3141592653"

waits: list[float] = []


def list_sync(url: str, **changes: Any) -> list[str]:
    """List ids with the blocking client."""
    return list_ids(VoiceOSClient(settings(url, **changes), sleep=waits.append))


def list_through_pool(url: str, **changes: Any) -> list[str]:
    """List ids with the blocking client through httpx, as with a proxy."""
    config = settings(url, **changes)
    return list_ids(VoiceOSClient(config, sleep=waits.append, transport=PoolTransport(ssl_context(config))))


def list_ids(client: VoiceOSClient) -> list[str]:
    """List ids and close the client."""
    with client:
        return [
            conversation.id for page in client.list_conversations() for conversation in page.conversations
        ]


def list_async(url: str, **changes: Any) -> list[str]:
    """List ids with the asyncio client."""

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    async def listed() -> list[str]:
        async with AsyncVoiceOSClient(settings(url, **changes), sleep=wait) as client:
            return [item.id async for page in client.list_conversations() for item in page.conversations]

    return asyncio.run(listed())


Lister = Callable[..., list[str]]


@pytest.fixture(params=[list_sync, list_through_pool, list_async], ids=["sync", "pool", "async"])
def listed(request: pytest.FixtureRequest) -> Lister:
    """Return a function that lists with either client, or either transport, and replaces every sleep."""
    waits.clear()
    lister: Lister = request.param
    return lister


def settings(url: str, **changes: Any) -> ClientConfig:
    """Return a client configuration that loads no certificates by default."""
    defaults = {"token": TOKEN, "base_url": url, "page_size": 20, "request_timeout": 5.0, "verify": False}
    return ClientConfig(**defaults | changes)


@contextmanager
def serving(*responses: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yield a server that sends one of these byte strings per connection, and repeats the last one."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        rest = list(responses)
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            with suppress(OSError), plain:
                plain.settimeout(5)
                connection = tls.wrap_socket(plain, server_side=True) if tls else plain
                with connection:
                    connection.recv(65_536)
                    connection.sendall(rest.pop(0) if len(rest) > 1 else rest[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return a response in HTTP/1.1."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


GZIP = "Content-Encoding: gzip"
whole = gzip.compress(PAGE, mtime=0)  # the bytes are in ids of tests, which must not depend on the time
damaged = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]

BROKEN = {
    "a body that is cut": http(PAGE)[:-10],
    "chunks that end too early": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + f"{len(PAGE):x}\r\n".encode()
        + PAGE
        + b"\r\n"
    ),
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n",
    "a body that is cut where only closing ends it": b"HTTP/1.0 200 OK\r\n\r\n" + PAGE[:-10],
    "a gzip stream that ends too early": http(whole[:-8], GZIP),
    "half a gzip stream": http(whole[: len(whole) // 2], GZIP),
    "a damaged gzip stream": http(damaged, GZIP),
    "text that claims to be gzip": http(PAGE, GZIP),
    "an encoding that was not requested": http(PAGE, "Content-Encoding: br"),
    "nothing": b"",
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "a login page": http(b"<html>Sign in</html>", "Content-Type: text/html"),
    "nesting without end": http(b'{"items": ' + b"[" * 200_000),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_broken_response_is_retried(listed: Lister, broken: bytes) -> None:
    """The next attempt returns the complete page."""
    with serving(broken, broken, http(PAGE), http(END)) as url:
        assert listed(url) == ["a", "b"]
    assert len(waits) == 2


LATIN_1 = "Content-Type: application/json; charset=ISO-8859-1"
GOOD = [
    http(PAGE),
    http(whole, GZIP),
    http(whole, "content-encoding: GZIP"),
    http(b"\xef\xbb\xbf" + PAGE),
    http(PAGE.decode().encode("utf-16")),
    http(PAGE.replace(b'"b"}', b'"b", "uri": "\xe9"}'), LATIN_1),
    http(PAGE.replace(b'"b"}', b'"b"}, {"id": "c", "cost": NaN}')),
    http(PAGE.replace(b'"b"}', b'"b"}, {"id": "c", "uri": "\xff"}')),
    http(PAGE.replace(b'"b"}', b'"b"}, {"id": "c", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}")),
]


@pytest.mark.parametrize("good", GOOD)
def test_complete_response_needs_one_attempt(listed: Lister, good: bytes) -> None:
    """This holds with and without compression, in any known charset, and if one conversation is malformed."""
    with serving(good, http(END)) as url:
        assert listed(url) == ["a", "b"]
    assert waits == []


def test_decompression_stops_at_the_size_limit(listed: Lister) -> None:
    """The client does not unpack or retry a compressed gigabyte."""
    emulator = Emulator(WORLD, token=TOKEN)
    emulator.faults.add(Fault.gzip_bomb(1 << 28))
    with emulator.serve() as url, pytest.raises(VoiceOSContractError, match="larger than 1,048,576 bytes"):
        listed(url, max_body_bytes=1 << 20)
    assert waits == []


@pytest.mark.parametrize(
    "fault", [Fault.reset(), Fault.reset(100), Fault.cut_body(100)], ids=lambda f: f.name
)
def test_broken_connection_is_reopened(listed: Lister, fault: Fault) -> None:
    """The listing continues with the same page."""
    emulator = Emulator(WORLD, token=TOKEN, clock=lambda: AFTERWARDS)
    emulator.faults.add(fault, at=[2])
    with emulator.serve() as url:
        assert listed(url) == WORLD.ids()[::-1]
    assert [request.query["index"] for request in emulator.requests] == ["1", "2", "2", "3"]


def test_refused_connection_is_retried_and_raised(listed: Lister) -> None:
    """The error names the base URL and hides the token."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        VoiceOSConnectionError,
        match=rf"^GET /conversations: no complete response from http://127.0.0.1:{port} \(ConnectError: .*after 10 ",
    ):
        listed(f"http://127.0.0.1:{port}")
    assert len(waits) == 9


def test_unknown_host_is_retried_like_a_connection_error(listed: Lister) -> None:
    """Name resolution counts as part of the attempt."""
    with pytest.raises(VoiceOSConnectionError, match="Gave up after 2 attempts"):
        listed("http://voiceos.invalid", retry=Retry(max_attempts=2))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(listed: Lister, status: int) -> None:
    """The token goes only to the configured host and path."""
    elsewhere = Emulator(WORLD)
    with elsewhere.serve() as other:
        emulator = Emulator(WORLD, token=TOKEN)
        emulator.faults.add(Fault.redirect(f"{other}/conversations", status=status))
        with (
            emulator.serve() as url,
            pytest.raises(VoiceOSBadRequestError, match="redirects are not followed"),
        ):
            listed(url)
    assert elsewhere.requests == []
    assert len(emulator.requests) == 1
    assert waits == []


LEAKS = [
    b"caller +14155550142 tok_3141592653 is no status line\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntok_3141592653 +14155550142\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ntok_3141592653 +14155550142\r\n",
]


@pytest.mark.parametrize("leak", LEAKS)
def test_error_does_not_quote_bytes_that_are_not_http(listed: Lister, leak: bytes) -> None:
    """The parser's own message quotes them."""
    with (
        serving(leak) as url,
        pytest.raises(VoiceOSConnectionError, match="RemoteProtocolError: ") as caught,
    ):
        listed(url, retry=Retry(max_attempts=1))
    assert "4155550142" not in str(caught.value)
    assert TOKEN not in str(caught.value)


class Certificates:
    """A self-signed certificate for 127.0.0.1, and TLS contexts that use it."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.file = folder / "certificate.pem"
        self.file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )

    def server(self) -> ssl.SSLContext:
        """Return the TLS context of the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context

    def client(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts the server."""
        return ssl.create_default_context(cafile=self.file)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates, created once."""
    return Certificates(tmp_path_factory.mktemp("tls"))


def test_untrusted_certificate_is_not_retried(listed: Lister, certificates: Certificates) -> None:
    """The message says where to configure a certificate."""
    with (
        serving(http(PAGE), tls=certificates.server()) as url,
        pytest.raises(VoiceOSTLSError, match=r"CERTIFICATE_VERIFY_FAILED.*ca_bundle") as caught,
    ):
        listed(url, verify=True)
    assert not caught.value.retryable
    assert waits == []


def test_configured_certificate_is_trusted(listed: Lister, certificates: Certificates) -> None:
    """Both clients connect with a context that holds it."""
    with serving(http(PAGE), http(END), tls=certificates.server()) as url:
        assert listed(url, verify=certificates.client()) == ["a", "b"]


def test_server_that_requires_a_client_certificate_is_a_connection_error(
    listed: Lister, certificates: Certificates
) -> None:
    """TLS 1.3 reports this only when the response is read."""
    strict = certificates.server()
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(certificates.file)
    with serving(http(PAGE), tls=strict) as url, pytest.raises(VoiceOSConnectionError):
        listed(url, verify=certificates.client(), retry=Retry(max_attempts=1))


def test_plain_http_in_place_of_tls_is_not_retried(listed: Lister, certificates: Certificates) -> None:
    """The message says what to write."""
    with serving(http(PAGE)) as url, pytest.raises(VoiceOSTLSError, match="write http:// before the host"):
        listed(url.replace("http:", "https:"), verify=certificates.client())
    assert waits == []


@pytest.mark.parametrize("id_", [".", "..", "...", "%2e%2e"])
def test_id_of_dots_is_one_path_segment_on_the_wire(id_: str) -> None:
    """The API may send such an id, and the request must not reach another path."""
    emulator = Emulator(WORLD, token=TOKEN)
    emulator.faults.add(Fault.body(b'{"id": "it"}'), on="conversation")
    with emulator.serve() as url, VoiceOSClient(settings(url)) as client:
        assert client.get_conversation(id_).id == "it"
    assert [request.path for request in emulator.requests] == [f"/conversations/{id_}"]
