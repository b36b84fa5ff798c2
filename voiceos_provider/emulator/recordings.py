"""Recordings: signed links that expire, and the audio behind them as valid WAV files."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta
from urllib.parse import quote

import numpy as np

from voiceos_provider.emulator.http_messages import Request, Response
from voiceos_provider.emulator.rng import random_number

_SAMPLES_PER_SECOND = 8_000
_HEADER = 44


def signed_link(base_url: str, id: str, *, seed: int, expires: datetime) -> str:
    """Return a link to the recording of a conversation."""
    at = int(expires.timestamp())
    return f"{base_url}/recordings/{quote(id, safe='')}.wav?expires={at}&signature={_signature(seed, id, at)}"


def is_valid(request: Request, id: str, *, seed: int, now: datetime) -> bool:
    """Return whether the link is one of this server, and has not expired."""
    expires = request.query.get("expires", "")
    return (
        expires.isdecimal()
        and request.query.get("signature") == _signature(seed, id, int(expires))
        and now.timestamp() < int(expires)
    )


def recording(id: str, *, seed: int, size: int) -> bytes:
    """Return a WAV file of this size: a tone with some noise, another one for each conversation."""
    number = random_number(seed, f"recording {id}")
    samples = (max(size, _HEADER) - _HEADER) // 2
    times = np.arange(samples) / _SAMPLES_PER_SECOND
    tone = np.sin(2 * np.pi * (200 + number % 800) * times) * 8_000
    noise = np.random.default_rng(number).integers(-1_000, 1_000, samples)
    content = (tone + noise).astype("<i2").tobytes()
    return _header(len(content)) + content


def refused_link() -> Response:
    """Return the response of an object store to a link that is not valid, or not any more."""
    body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    return Response(status=403, body=body, content_type="application/xml")


def link_expiry(now: datetime, lasts: timedelta, *, is_expired: bool) -> datetime:
    """Return when a link made now expires; with a fault, it has already."""
    return now - timedelta(seconds=1) if is_expired else now + lasts


def _signature(seed: int, id: str, expires: int) -> str:
    return f"{random_number(seed, f'link {id} {expires}'):016x}"


def _header(content: int) -> bytes:
    """Return the header of 16-bit mono PCM."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", _HEADER - 8 + content, b"WAVE",
        b"fmt ", 16, 1, 1, _SAMPLES_PER_SECOND, 2 * _SAMPLES_PER_SECOND, 2, 16,
        b"data", content,
    )  # fmt: skip
