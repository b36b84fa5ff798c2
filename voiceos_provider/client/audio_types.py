"""Content types of audio: their suffixes, and their recognition."""

from __future__ import annotations

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

_SIGNATURES = {
    b"RIFF": "audio/wav",
    b"OggS": "audio/ogg",
    b"fLaC": "audio/flac",
    b"\x1aE\xdf\xa3": "audio/webm",
}


def audio_type(declared: str, start: bytes) -> str | None:
    """Return the usual name of a content type, or None if it is no audio, such as a page of HTML.

    :param declared: the content type that the server sent, in lower case and without parameters
    :param start: the first bytes, which decide if the declared type says nothing
    """
    kind = _ALIASES.get(declared, declared)
    if kind in _UNSPECIFIC:
        kind = _type_of(start)
    return kind if kind.startswith("audio/") else None


def _type_of(start: bytes) -> str:
    if start[4:8] == b"ftyp":
        return "audio/mp4"
    if start[:3] == b"ID3" or (start[:1] == b"\xff" and start[1:2] >= b"\xe0"):
        return "audio/mpeg"
    return _SIGNATURES.get(start[:4], "")
