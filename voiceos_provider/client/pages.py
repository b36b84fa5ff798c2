"""What is on a page?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from voiceos_provider.client.documented import Documented
from voiceos_provider.client.models import Conversation, parse_conversation
from voiceos_provider.client.requests import Request
from voiceos_provider.client.responses import Response, malformed
from voiceos_provider.interval import Interval


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that is no conversation one could keep.

    :param reason: what is wrong with it, without any of its values
    :param raw: its JSON; as the server wrote it, or with its credentials masked where it is to be stored
    """

    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page as an export reads it.

    :param items: each conversation: a `Documented` struct, or JSON text where it is not exactly as documented
    :param ids: their ids; None where there is none to be found
    :param has_more: whether a next page exists; None if the server does not say so in a way one can trust
    :param replaced: characters that no store can hold (NUL, lone surrogates) and that became U+FFFD
    :param requests: answered requests for listings that it took
    :param covers: the window of creation time that is completely read with it
    :param unreadable: ids of conversations that were listed, and that the server cannot return
    """

    items: tuple[Any, ...]
    ids: tuple[str | None, ...]
    has_more: bool | None
    replaced: int = 0
    requests: int = 1
    covers: Interval | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def keys(self) -> list[int]:
        """A number for each item that tells it from others: by its id, or, without one, by its text."""
        return [
            hash(bytes(item)) if id_ is None else hash(id_)
            for id_, item in zip(self.ids, self.items, strict=True)
        ]

    def only(self, positions: Sequence[int]) -> RawPage:
        """The page with only the items at these positions."""
        return replace(
            self,
            items=tuple(self.items[at] for at in positions),
            ids=tuple(self.ids[at] for at in positions),
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A page as people read it.

    :param conversations: in the server's order
    :param rejected: items without a usable id
    :param has_more: whether a next page exists; None if the server did not say so
    """

    conversations: tuple[Conversation, ...]
    rejected: tuple[Rejected, ...]
    has_more: bool | None


class _Keyed(msgspec.Struct):
    id: str


class _Told(msgspec.Struct):
    started_at: str | None = None
    status: str | None = None


class _DocumentedPage(msgspec.Struct, gc=False):
    items: list[Documented]
    has_more: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    has_next: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_page = msgspec.json.Decoder(_DocumentedPage)
_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(tuple[msgspec.Raw, ...])
_keyed = msgspec.json.Decoder(_Keyed)
_told = msgspec.json.Decoder(_Told)
_documented = msgspec.json.Decoder(Documented)
_NUL: Final = rb"\u0000"
_WITHIN_NUL: Final = np.frombuffer(b"u000", np.uint32)
_SHORTEST = 7  # bytes in which a number of four begins at each of four places
_KEYS_SHOWN = 10
_FLAGS: Final = {b"true": True, b"false": False}


def parse_page(request: Request, answer: Response) -> RawPage:
    """Decode a page for an export.

    The flag is `has_more`, else `has_next` (an earlier version of the API). One that is missing or is not a
    boolean says nothing.

    :raises VoiceOSResponseError: if the body is not JSON, or has no list of items
    """
    if whole := _documented_page(answer.body):
        flag = whole.has_next if whole.has_more is msgspec.UNSET else whole.has_more
        return RawPage(tuple(whole.items), tuple(item.id for item in whole.items), _flag(flag))
    page = split_page(request, answer)
    items = tuple(_decoded(item) for item in page.items)
    return RawPage(items, page.ids, page.has_more, page.replaced)


def _documented_page(body: bytes) -> _DocumentedPage | None:
    """The whole page in one go; None if anything on it is not as documented."""
    # What is left as JSON text is not looked into.
    if not _is_utf8(body) or (_may_have_nul(body) and _NUL in body):
        return None
    try:
        return _page.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _is_utf8(body: bytes) -> bool:
    """Whether it is text. Arrow looks through it in place, ten times as fast as Python makes a text of it."""
    ends = pa.py_buffer(np.array([0, len(body)], np.int64))
    try:
        pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(body)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _may_have_nul(body: bytes) -> bool:
    """Whether the middle of a NUL's escape is anywhere. Compared as numbers: twice as fast as searched as text."""
    return len(body) < _SHORTEST or any(
        (np.frombuffer(body, np.uint32, (len(body) - offset) // 4, offset) == _WITHIN_NUL).any()
        for offset in range(4)
    )


def parse_one(request: Request, answer: Response) -> RawPage:
    """Decode an answer that is a single conversation, as a page of its own.

    :raises VoiceOSResponseError: if it is none, or has no id
    """
    try:
        answer.body.decode()
        body, replaced = replace_unstorable(answer.body)
        id_ = _id(msgspec.Raw(body))
    except (UnicodeDecodeError, RecursionError):
        id_ = None
    if id_ is None:
        raise malformed(request, answer, "the body is not a conversation with an id")
    return RawPage((_decoded(msgspec.Raw(body)),), (id_,), False, replaced, requests=0)


def split_page(request: Request, answer: Response) -> RawPage:
    """Like `parse_page`, with every conversation left as JSON text."""
    envelope, replaced = _split(request, answer)
    try:
        items = _items.decode(envelope["items"])
    except KeyError:
        # Only what looks like a key of an API: one that is a phone number or an id is content.
        keys = ", ".join([key for key in envelope if key.isidentifier()][:_KEYS_SHOWN]) or "none"
        raise malformed(request, answer, f"the page has no 'items' (its keys: {keys})") from None
    except msgspec.DecodeError:
        raise malformed(request, answer, "the page's 'items' is not a list") from None
    flag = envelope.get("has_more", envelope.get("has_next", msgspec.UNSET))
    return RawPage(items, tuple(_id(item) for item in items), _flag(flag), replaced)


def typed(page: RawPage) -> Page:
    """The models of a page's conversations; one that has no id is set aside and costs no other."""
    conversations, rejected = [], []
    for item in page.items:
        try:
            conversations.append(parse_conversation(item))
        except ValueError:
            rejected.append(Rejected("not an object with a string 'id'", bytes(item)))
    return Page(tuple(conversations), tuple(rejected), page.has_more)


def started_at(item: Any) -> datetime | None:
    """When the conversation of a page's item started; None if that cannot be told."""
    try:
        text = _what_is_told(item).started_at
        time = datetime.fromisoformat(text) if text else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def status(item: Any) -> str | None:
    """In which state the conversation of a page's item is; None if that cannot be told."""
    try:
        state: str | None = _what_is_told(item).status
    except (msgspec.DecodeError, RecursionError):
        return None
    return state


def _what_is_told(item: Any) -> Any:
    return _told.decode(item) if isinstance(item, msgspec.Raw) else item


def _flag(raw: msgspec.Raw | msgspec.UnsetType) -> bool | None:
    return None if isinstance(raw, msgspec.UnsetType) else _FLAGS.get(bytes(raw))


def _decoded(item: msgspec.Raw) -> Any:
    try:
        return _documented.decode(item)
    except (msgspec.DecodeError, RecursionError):
        return item


def _id(item: msgspec.Raw) -> str | None:
    try:
        return _keyed.decode(item).id or None
    except msgspec.DecodeError:
        return None


def _split(request: Request, answer: Response) -> tuple[dict[str, msgspec.Raw], int]:
    body, replaced = answer.body, 0
    try:
        body.decode()
        body, replaced = replace_unstorable(body)
        return _envelope.decode(body), replaced
    except msgspec.ValidationError:
        raise malformed(request, answer, "the body is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind = answer.headers.get("content-type", "no content type")
        raise malformed(request, answer, f"the body is not JSON ({kind}, {len(body):,} bytes)") from None


_MAY_BE_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u[dD][c-fC-F]..|u0000|.)", re.DOTALL
)


def replace_unstorable(body: bytes) -> tuple[bytes, int]:
    """Write U+FFFD for each escaped NUL, and for half a surrogate pair whose other half is missing.

    No UTF-8 text can hold a lone half, and it would cost its whole page: half an emoji, cut by a length limit.
    PostgreSQL, among others, refuses NUL.
    """
    replaced = 0

    def mend(match: re.Match[bytes]) -> bytes:
        nonlocal replaced
        high, low = match.groups()
        whole = match[0]
        if (high and not low) or (not high and whole[:3].lower() == rb"\ud") or whole == rb"\u0000":
            replaced += 1
            return rb"\ufffd"
        return whole

    return (_ESCAPE.sub(mend, body), replaced) if _MAY_BE_UNSTORABLE.search(body) else (body, 0)
