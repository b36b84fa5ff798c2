"""Invalid JSON, and JSON with characters that databases cannot store."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

_skimmer = msgspec.json.Decoder(msgspec.Raw)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\],]', re.DOTALL)
_KEY = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:', re.DOTALL)
_CLOSING = {b"{": b"}", b"[": b"]"}
_CONSTANTS = (b"-Infinity", b"Infinity", b"NaN")
_AT_BYTE = re.compile(r"(?:JSON is malformed: )?(.*) \(byte (\d+)\)")
_CONTROL = 0x20

_MAY_BE_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u[dD][c-fC-F]..|u0000|.)", re.DOTALL
)


def json_fault(text: bytes) -> str | None:
    """Return why and at which byte a text is not JSON, without its content; None if it is JSON."""
    text, _ = replace_unstorable(text)  # of the same length
    try:
        text.decode()
        _skimmer.decode(text)
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start:,}"
    except RecursionError:
        return "it is nested too deeply"
    except msgspec.DecodeError as error:
        if not text.strip():
            return "it is empty"
        if text.lstrip()[:1] == b"<":
            return "it is HTML or XML"
        found = _AT_BYTE.fullmatch(str(error))
        if found is None or int(found[2]) == len(text):
            return f"it ends too early, at byte {len(text):,}"
        what, place = found[1], int(found[2])
        start = place - 1 if text[place - 1 : place] == b"-" else place
        for constant in _CONSTANTS:
            if text.startswith(constant, start):
                return f"{constant.decode()} at byte {start:,}"
        if what == "invalid character" and text[place] < _CONTROL:
            what = "an unescaped control character"
        return f"{what} at byte {place:,}"
    return None


def replace_unstorable(body: bytes) -> tuple[bytes, int]:
    """Replace escaped NULs and lone surrogates with U+FFFD; return the body and the number of replacements.

    UTF-8 cannot hold a lone surrogate, such as half an emoji cut by a length limit. PostgreSQL, among others,
    refuses NUL.
    """
    replaced = 0

    def replacement(match: re.Match[bytes]) -> bytes:
        nonlocal replaced
        high, low = match.groups()
        whole = match[0]
        if (high and not low) or (not high and whole[:3].lower() == rb"\ud") or whole == rb"\u0000":
            replaced += 1
            return rb"\ufffd"
        return whole

    return (_ESCAPE.sub(replacement, body), replaced) if _MAY_BE_UNSTORABLE.search(body) else (body, 0)


def split_faulty_page(body: bytes) -> tuple[dict[str, bytes], list[bytes]] | None:
    """Split a page that is not JSON as a whole into its members and its items, by brackets and strings alone.

    One conversation with `NaN` or invalid UTF-8 then does not affect the others. Return None if brackets or strings
    do not match, because the page may be truncated.
    """
    try:
        members: dict[str, bytes] = {}
        for part in _parts(body.strip(), b"{"):
            key = _KEY.match(part)
            if key is None or not (value := part[key.end() :].strip()):
                return None
            members[msgspec.json.decode(key[1], type=str)] = value
        return members, [item.strip() for item in _parts(members["items"], b"[")]
    except (ValueError, KeyError, msgspec.DecodeError):
        return None


def _parts(text: bytes, opening: bytes) -> Iterator[bytes]:
    """Yield what the commas of an object or a list separate.

    :raises ValueError: if its brackets and strings do not match
    """
    if text[:1] != opening:
        raise ValueError("no such bracket")
    expected: list[bytes] = []
    start = 1
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind in _CLOSING:
            expected.append(_CLOSING[kind])
        elif kind in (b"}", b"]"):
            if not expected or expected.pop() != kind:
                raise ValueError("a bracket too many")
            if not expected:
                if token.end() != len(text):
                    raise ValueError("text after the end")
                if text[start : token.start()].strip() or start > 1:
                    yield text[start : token.start()]
                return
        elif kind == b"," and len(expected) == 1:
            yield text[start : token.start()]
            start = token.end()
        elif kind == b'"':
            raise ValueError("a string without end")
    raise ValueError("a bracket without end")
