"""Response bodies: complete, decompressed, and within the limit."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.client.responses import BodyReader
from voiceos_provider.exceptions import (
    VoiceOSConnectionError,
    VoiceOSContractError,
    VoiceOSResponseError,
    VoiceOSResponseTooLargeError,
)

PAGE = b'{"items": [' + b'{"id": "a"},' * 500 + b"]}"


def read(*chunks: bytes, encoding: str = "gzip", limit: int = 1_000_000) -> bytes:
    """Return the body from these chunks."""
    body = BodyReader("GET /conversations", encoding, limit=limit)
    for chunk in chunks:
        body.feed(chunk)
    return body.finish()


@given(
    st.binary(max_size=2_000),
    st.integers(1, 300),
    st.sampled_from(["", "identity", "gzip", "X-GZIP ", "deflate"]),
)
def test_body_does_not_depend_on_its_chunks(content: bytes, size: int, encoding: str) -> None:
    """Chunks may end anywhere, compressed or not."""
    wire = {"": bytes, "identity": bytes, "deflate": zlib.compress}.get(encoding, gzip.compress)(content)
    chunks = [wire[at : at + size] for at in range(0, len(wire), size)]
    assert read(*chunks, encoding=encoding) == content


def test_stream_may_have_several_members() -> None:
    """Consecutive gzip streams are one body."""
    wire = gzip.compress(b"one,") + gzip.compress(b"") + gzip.compress(b"two")
    assert read(wire) == read(*(wire[n : n + 1] for n in range(len(wire)))) == b"one,two"


@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, -8, -1])
def test_truncated_stream_is_a_retryable_error(kept: float) -> None:
    """Even a missing checksum is detected."""
    wire = gzip.compress(PAGE)
    cut = wire[: int(kept * len(wire)) if isinstance(kept, float) else int(kept)]
    with pytest.raises(VoiceOSConnectionError, match="ends too early") as caught:
        read(cut)
    assert caught.value.retryable


def test_damaged_stream_is_a_retryable_error() -> None:
    """The checksum detects a flipped bit; other data is not gzip."""
    wire = bytearray(gzip.compress(PAGE))
    wire[-6] ^= 1
    for damaged in (bytes(wire), b"not gzip at all"):
        with pytest.raises(VoiceOSConnectionError, match="damaged") as caught:
            read(damaged)
        assert caught.value.retryable


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_limit_is_exact_and_applies_to_decompressed_bytes(encoding: str) -> None:
    """One byte more is an error that is not retryable."""
    wire = gzip.compress(b"x" * 1_000) if encoding else b"x" * 1_000
    assert len(read(wire, encoding=encoding, limit=1_000)) == 1_000
    with pytest.raises(
        VoiceOSResponseTooLargeError, match=r"larger than 999 bytes\. Lower the page size"
    ) as caught:
        read(wire, encoding=encoding, limit=999)
    assert not caught.value.retryable


def test_decompression_bomb_is_not_unpacked() -> None:
    """Reading stops at the limit."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    bomb = b"".join(deflate.compress(zeros) for _ in range(64)) + deflate.flush()
    body = BodyReader("GET /conversations", "gzip", limit=10_000)
    with pytest.raises(VoiceOSContractError):
        body.feed(bomb)
    assert body._size <= 10_001


def test_encoding_that_was_not_requested_is_rejected() -> None:
    """The message names it."""
    with pytest.raises(VoiceOSResponseError, match="unknown Content-Encoding 'br'"):
        read(b"", encoding="br")
