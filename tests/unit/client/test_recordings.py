"""Downloads of recordings: accepted URLs, sent headers and verified content."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.client.public_addresses import is_public
from voiceos_provider.client.recordings import Recording, RecordingDownloader
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.emulator.recordings import signed_link
from voiceos_provider.exceptions import (
    VoiceOSContractError,
    VoiceOSNotFoundError,
    VoiceOSRecordingError,
    VoiceOSResponseTooLargeError,
)

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = START + timedelta(days=2)
NO_CERTIFICATES = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # loading the usual ones takes longer than most tests
Download = Callable[..., tuple[Recording, bytes]]


@pytest.fixture(scope="module")
def world() -> World:
    """Return a past day of conversations."""
    return World(seed=5, conversations=40, start=START, end=START + timedelta(days=1))


@pytest.fixture
def emulator(world: World) -> Emulator:
    """Return an emulator."""
    return Emulator(world, clock=lambda: NOW)


@pytest.fixture
def id_(world: World) -> str:
    """Return a conversation with a recording."""
    return next(id for id in world.ids() if world.is_recorded(id, now=NOW))


@pytest.fixture
def url(emulator: Emulator) -> Iterator[str]:
    """Serve the API."""
    with emulator.serve() as url:
        yield url


@pytest.fixture
def storage(world: World) -> Iterator[tuple[Emulator, str]]:
    """Serve the audio from another host as well."""
    other = Emulator(world, clock=lambda: NOW)
    with other.serve(host="127.0.0.2") as url:
        yield other, url


@pytest.fixture
def download(emulator: Emulator, url: str, id_: str) -> Download:
    """Return a function that downloads the recording, and returns its description and its bytes."""

    def downloaded(
        *, max_bytes: int = 10**6, timeout: float = 5.0, max_attempts: int = 5, **settings: Any
    ) -> tuple[Recording, bytes]:
        retry = Retry(base_delay=0.01, max_attempts=max_attempts)
        defaults = {"allow_private_recordings": True, "retry": retry, "verify": NO_CERTIFICATES}
        config = ClientConfig(token=emulator.token, base_url=url, **defaults | settings)
        file = io.BytesIO(b"of an earlier attempt, " * 10_000)
        with VoiceOSClient(config) as client:
            downloader = RecordingDownloader(client, max_bytes=max_bytes, timeout=timeout)
            try:
                return downloader.download(id_, file), file.getvalue()
            finally:
                downloader.close()

    return downloaded


def link(base_url: str, emulator: Emulator, id_: str) -> str:
    """Return a valid link to a recording."""
    return signed_link(base_url, id_, seed=emulator.world.seed, expires=NOW + timedelta(hours=1))


def respond_with(emulator: Emulator, url: str | None) -> None:
    """Make the API return this URL for every recording."""
    emulator.faults.add(Fault.body(json.dumps({"recording_url": url}).encode()), on="recording")


def test_audio_is_written_and_described(download: Download, emulator: Emulator, id_: str) -> None:
    """Bytes of an earlier attempt are gone."""
    recording, written = download()
    assert written == emulator.recording(id_)
    assert recording == Recording(len(written), hashlib.sha256(written).hexdigest(), "audio/wav")


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("recording", Fault.expired_link()),
        ("recording", Fault.server_error(503)),
        ("recording", Fault.rate_limit("0")),
        ("audio", Fault.unauthorized(403)),
        ("audio", Fault.server_error(410)),
        ("audio", Fault.server_error(404)),
        ("audio", Fault.server_error(500)),
        ("audio", Fault.server_error(503, retry_after="0")),
        ("audio", Fault.rate_limit("0")),
        ("audio", Fault.cut_body(5_000)),
        ("audio", Fault.wrong_length()),
        ("audio", Fault.reset()),
        ("audio", Fault.reset(5_000)),
        ("audio", Fault.truncated_gzip()),
        ("audio", Fault.body(b"", content_type="audio/wav")),
        ("audio", Fault.body(b"<html>Log in</html>", content_type="text/html")),
        ("audio", Fault.body(b"<html>Log in</html>", content_type="binary/octet-stream")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_new_link_is_used_after_a_fault(
    download: Download, emulator: Emulator, id_: str, endpoint: Any, fault: Fault
) -> None:
    """Nothing of the failed attempt remains."""
    emulator.faults.add(fault, at=[1], on=endpoint)
    _, written = download()
    assert written == emulator.recording(id_)
    assert len([r for r in emulator.requests if r.path.endswith("/recording")]) == 2


@pytest.mark.parametrize("fault", [Fault.drip_body(2_000), Fault.drip_headers(50), Fault.slow(10)])
def test_slow_download_ends_at_its_deadline(download: Download, emulator: Emulator, fault: Fault) -> None:
    """Steadily arriving bytes do not extend it."""
    emulator.faults.add(fault, at=[1], on="audio")
    download(timeout=0.5)
    assert len([r for r in emulator.requests if r.path.startswith("/recordings")]) == 2


def test_failure_names_no_url(
    download: Download, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Error, causes and the DEBUG log hold neither signature nor token."""
    caplog.set_level(logging.DEBUG)
    emulator.faults.add(Fault.redirect("http://127.0.0.1:1/audio?signature=of-the-redirect"), on="audio")
    with pytest.raises(
        VoiceOSRecordingError, match=r"no complete response from 127.0.0.1 \(ConnectError\)"
    ) as caught:
        download()
    assert caught.value.retryable
    seen = caplog.text + repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    assert "Attempt 4 of 5 failed" in seen
    for secret in ("signature", "expires=", emulator.token):
        assert secret not in seen


def test_token_is_only_sent_to_the_api(
    download: Download, emulator: Emulator, storage: tuple[Emulator, str], id_: str
) -> None:
    """The host of the audio and its redirects do not get it."""
    other, other_url = storage
    emulator.faults.add(Fault.redirect(link(other_url, other, id_)), on="audio")
    _, written = download()
    assert written == other.recording(id_)
    sent = [(r.path.partition("/")[2][:10], "authorization" in r.headers) for r in emulator.requests]
    assert sent == [("conversati", True), ("recordings", False)]
    (redirected,) = other.requests
    assert not {"authorization", "cookie", "referer"} & set(redirected.headers)
    assert emulator.token not in repr(redirected)


def test_redirects_are_limited(download: Download, emulator: Emulator, url: str, id_: str) -> None:
    """Those of a host to itself count as well."""
    emulator.faults.add(Fault.redirect(link(url, emulator, id_)), on="audio")
    with pytest.raises(VoiceOSRecordingError, match="more than 3 redirects"):
        download(max_attempts=1)


@pytest.mark.parametrize(
    "unsafe",
    [
        "ftp://files.example.com/a.wav",
        "file:///etc/passwd",
        "http://user:password@audio.example.com/a.wav",
        "//audio.example.com/a.wav",
        "http:///a.wav",
        "http://[::1/a.wav",
        "http://audio.example.com:port/a.wav",
        "",
    ],
)
def test_unsafe_url_is_rejected(download: Download, emulator: Emulator, unsafe: str) -> None:
    """The client does not retry, and the message does not quote it."""
    respond_with(emulator, unsafe)
    with pytest.raises(VoiceOSContractError, match="its URL is not") as caught:
        download()
    assert "example" not in str(caught.value)
    assert len(emulator.requests) == 1


def test_plain_http_is_rejected_if_the_api_has_tls(id_: str, emulator: Emulator, world: World) -> None:
    """The same holds for a redirect."""
    respond_with(emulator, "http://audio.example.com/a.wav")
    config = ClientConfig(token=emulator.token, base_url="https://emulator")
    with VoiceOSClient(config, transport=emulator.transport()) as client:
        downloader = RecordingDownloader(client, max_bytes=10**6, timeout=5)
        with pytest.raises(VoiceOSContractError, match="its URL is not one of https"):
            downloader.download(id_, io.BytesIO())


@pytest.mark.parametrize("through", ["the first URL", "a redirect"])
def test_private_address_is_rejected(
    download: Download, emulator: Emulator, storage: tuple[Emulator, str], id_: str, through: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No request is sent there."""
    other, other_url = storage
    if through == "a redirect":  # accept the first host and no other
        monkeypatch.setattr(
            "voiceos_provider.client.public_addresses.is_public",
            lambda address: address == "127.0.0.1" or is_public(address),
        )
        emulator.faults.add(Fault.redirect(link(other_url, other, id_)), on="audio")
    else:
        respond_with(emulator, link(other_url, other, id_))
    with pytest.raises(
        VoiceOSContractError, match=r"leads to 127\.0\.0\.2 .*not a public address.*allow_private"
    ):
        download(allow_private_recordings=False)
    assert other.requests == []


def test_host_name_is_resolved_once(
    download: Download, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client connects to the checked address even if the name then resolves to another."""
    addresses = iter(["93.184.216.34", "127.0.0.1"])
    resolve, connected = socket.getaddrinfo, []

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve(next(addresses) if host == "rebinding.example.com" else host, port, *args, **kwargs)

    connect = socket.create_connection

    def spy(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        if address[1] == 81:
            connected.append(address)
            raise OSError("no network in this test")
        return connect(address, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", spy)
    respond_with(emulator, "http://rebinding.example.com:81/a.wav")
    with pytest.raises(VoiceOSRecordingError, match="ConnectError"):
        download(allow_private_recordings=False, max_attempts=1)
    with pytest.raises(
        VoiceOSContractError, match=r"rebinding.example.com \(127.0.0.1\), which is not a public"
    ):
        download(allow_private_recordings=False, max_attempts=1)
    assert connected == [("93.184.216.34", 81)]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:10.0.0.1]", "169.254.169.254", "localhost", "metadata"]
)
def test_private_host_is_rejected_through_a_proxy(
    download: Download, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """The proxy resolves names, so only literal private addresses are detected."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1:" + emulator_port(download))
    respond_with(emulator, f"http://{host}:81/a.wav")
    with pytest.raises(VoiceOSContractError, match="not a public address"):
        download(allow_private_recordings=False)


def emulator_port(download: Any) -> str:
    """Return the port of the API, for NO_PROXY."""
    url = next(
        cell.cell_contents for cell in download.__closure__ if str(cell.cell_contents).startswith("http")
    )
    return str(url).rpartition(":")[2]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.251", False),
        ("239.1.1.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::a00:1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:  # noqa: FBT001
    """Addresses that embed an IPv4 address count like it."""
    assert is_public(address) is public


@pytest.mark.parametrize("status", [404, 410])
def test_missing_audio_keeps_its_status(download: Download, emulator: Emulator, status: int) -> None:
    """Each attempt uses a new link."""
    emulator.faults.add(Fault.server_error(status), on="audio")
    with pytest.raises(VoiceOSRecordingError) as caught:
        download(max_attempts=3)
    assert caught.value.status_code == status
    assert len([r for r in emulator.requests if r.path.endswith("/recording")]) == 3


@pytest.mark.parametrize("fault", [Fault.server_error(500), Fault.cut_body()])
def test_attempts_are_limited(download: Download, emulator: Emulator, fault: Fault) -> None:
    """A download has fewer attempts than a request of the API."""
    emulator.faults.add(fault, on="audio")
    with pytest.raises(VoiceOSRecordingError, match="Gave up after 5 attempts") as caught:
        download(max_attempts=10)
    assert caught.value.retryable


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "found while reading"])
def test_too_large_recording_is_not_kept(
    download: Download, emulator: Emulator, declared: bool  # noqa: FBT001
) -> None:  # fmt: skip
    """The declared length or the received bytes exceed the limit; it is not retried."""
    if not declared:
        emulator.faults.add(chunked(emulator.recording("any")), on="audio")
    with pytest.raises(VoiceOSResponseTooLargeError, match="larger than 19,999 bytes"):
        download(max_bytes=19_999)
    assert len(emulator.requests) == 2


def chunked(body: bytes) -> Fault:
    """Return a response without a length, in one chunk."""
    from voiceos_provider.emulator.http_messages import Response

    class Chunked(Response):
        @property
        def all_headers(self) -> list[tuple[str, str]]:
            return [("Content-Type", "audio/wav"), ("Transfer-Encoding", "chunked")]

    content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return Fault(name="chunked", instead=Chunked(status=200, body=content))


def test_chunked_response_is_complete(download: Download, emulator: Emulator) -> None:
    """It has no declared length."""
    audio = emulator.recording("any")
    emulator.faults.add(chunked(audio), on="audio")
    recording, written = download()
    assert (written, recording.bytes) == (audio, len(audio))


@pytest.mark.parametrize(
    ("sent", "start", "kind"),
    [
        ("audio/mpeg", b"ID3", "audio/mpeg"),
        ("audio/x-wav; charset=binary", b"RIFF", "audio/wav"),
        ("Audio/MP3", b"x", "audio/mpeg"),
        ("audio/amr", b"#!AMR", "audio/amr"),
        ("binary/octet-stream", b"RIFF....WAVE", "audio/wav"),
        ("application/octet-stream", b"ID3\x03", "audio/mpeg"),
        ("application/octet-stream", b"\xff\xfb\x90", "audio/mpeg"),
        ("", b"OggS", "audio/ogg"),
        ("", b"fLaC", "audio/flac"),
        ("", b"\x00\x00\x00\x20ftypM4A ", "audio/mp4"),
        ("video/webm", b"\x1aE\xdf\xa3", "audio/webm"),
    ],
)
def test_content_type_is_normalized(
    download: Download, emulator: Emulator, sent: str, start: bytes, kind: str
) -> None:
    """The first bytes determine it if the store does not know it."""
    emulator.faults.add(Fault.body(start + b"." * 20, content_type=sent), on="audio")
    assert download()[0].content_type == kind


def test_null_means_that_there_is_no_recording(download: Download, emulator: Emulator) -> None:
    """It counts like 404, without a retry."""
    respond_with(emulator, None)
    with pytest.raises(VoiceOSNotFoundError, match="there is no recording") as caught:
        download()
    assert (caught.value.status_code, len(emulator.requests)) == (404, 1)
