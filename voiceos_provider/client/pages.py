"""Pages of conversations, split or decoded from a response."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from voiceos_provider.client.json_faults import json_fault, replace_unstorable, split_faulty_page
from voiceos_provider.client.models import Conversation, ConversationStruct, parse_conversation
from voiceos_provider.client.requests import Request
from voiceos_provider.client.responses import Response, malformed, not_json
from voiceos_provider.interval import Interval


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that cannot be kept as a conversation.

    :param reason: what is wrong with it, without any of its values
    :param raw: its JSON as the server wrote it, or with credentials masked where it is to be stored
    """

    reason: str
    raw: bytes


@dataclass(frozen=True)
class RawPage:
    """A page as an export reads it.

    :param items: for each conversation a `ConversationStruct`, or its JSON text where it is not exactly as documented,
        or where the parser decodes none; the decoder rejects a text that is not JSON
    :param ids: their ids; None for items without one
    :param has_more: whether a next page exists; None if the server does not say so reliably
    :param replaced: characters that no store can hold (NUL, lone surrogates), replaced by U+FFFD
    :param requests: number of successful list requests for this page
    :param covers: range of creation time that this page completes
    :param unreadable: ids of conversations that were listed, and that the server cannot return
    """

    items: tuple[Any, ...]
    ids: tuple[str | None, ...]
    has_more: bool | None
    replaced: int = 0
    requests: int = 1
    covers: Interval | None = None
    unreadable: tuple[str, ...] = ()

    @cached_property
    def keys(self) -> list[int]:
        """A hash for each item: of its id, or of its text if it has none."""
        if None not in self.ids:
            return list(map(hash, self.ids))
        return [
            hash(bytes(item)) if id_ is None else hash(id_)
            for id_, item in zip(self.ids, self.items, strict=True)
        ]

    def only(self, positions: Sequence[int]) -> RawPage:
        """Return the page with only the items at these positions."""
        return replace(
            self,
            items=tuple(self.items[at] for at in positions),
            ids=tuple(self.ids[at] for at in positions),
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A page of decoded conversations.

    :param conversations: in the server's order
    :param rejected: items that are not JSON, or have no usable id
    :param has_more: whether a next page exists; None if the server did not say so
    :param unreadable: ids of conversations that were listed, and that the server cannot return
    """

    conversations: tuple[Conversation, ...]
    rejected: tuple[Rejected, ...]
    has_more: bool | None
    unreadable: tuple[str, ...] = ()


class _Keyed(msgspec.Struct):
    id: str


class _Peek(msgspec.Struct):
    started_at: str | None = None
    status: str | None = None


class _DocumentedPage(msgspec.Struct, gc=False):
    items: list[ConversationStruct]
    has_more: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    has_next: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_page = msgspec.json.Decoder(_DocumentedPage)
_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(tuple[msgspec.Raw, ...] | None)
_keyed = msgspec.json.Decoder(_Keyed)
_peek = msgspec.json.Decoder(_Peek)
_documented = msgspec.json.Decoder(ConversationStruct)
_NUL: Final = rb"\u0000"
_KEYS_SHOWN, _KEYS_LENGTH = 10, 200
_FLAGS: Final = {b"true": True, b"false": False}


def parse_page(request: Request, response: Response) -> RawPage:
    """Return a page for an export.

    The flag for further pages is `has_more`, or `has_next` in an earlier version of the API. A flag that is missing or
    not a boolean counts as unknown.

    :raises VoiceOSResponseError: if the body is not JSON, or has no list of items
    """
    if whole := _documented_page(response.body):
        flag = whole.has_next if whole.has_more is msgspec.UNSET else whole.has_more
        return RawPage(tuple(whole.items), tuple(item.id for item in whole.items), _flag(flag))
    page = split_page(request, response)
    # An item without an id may be no JSON, which the decoder does not notice everywhere.
    items = tuple(_decoded(item) if id_ else item for item, id_ in zip(page.items, page.ids, strict=True))
    return RawPage(items, page.ids, page.has_more, page.replaced)


def _documented_page(body: bytes) -> _DocumentedPage | None:
    """Return the whole page decoded at once, or None if anything on it is not as documented."""
    # What stays JSON text is not checked by the decoder. `rfind` needs two thirds of the time of `in`.
    if not _is_utf8(body) or body.rfind(_NUL) >= 0:
        return None
    try:
        return _page.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _is_utf8(body: bytes) -> bool:
    """Return whether it is UTF-8. Arrow checks it in place, ten times as fast as Python decodes it."""
    ends = pa.py_buffer(np.array([0, len(body)], np.int64))
    try:
        pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(body)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def parse_one(request: Request, response: Response) -> RawPage:
    """Return a single conversation as a page of its own, left as JSON text.

    :raises VoiceOSResponseError: if the body is not a conversation with an id
    """
    if json_fault(response.text) is not None:
        raise not_json(request, response)
    body, replaced = replace_unstorable(response.text)
    item = msgspec.Raw(body)
    id_ = _id(item)
    if id_ is None:
        raise malformed(request, response, "the body is not a conversation with an id")
    return RawPage((item,), (id_,), False, replaced, requests=0)


def parse_conversation_response(request: Request, response: Response) -> Conversation:
    """Return a single conversation, decoded.

    :raises VoiceOSResponseError: if the body is not a conversation with an id
    """
    (item,) = parse_one(request, response).items
    try:
        return parse_conversation(item)
    except (ValueError, RecursionError):
        raise malformed(request, response, "the body is not a conversation with an id") from None


def split_page(request: Request, response: Response) -> RawPage:
    """Return a page like `parse_page`, with every conversation left as JSON text.

    Where one item is not JSON the others are kept; the faulty one has no id, and its text is not JSON.
    """
    text = response.text
    try:
        text.decode()
        body, replaced = replace_unstorable(text)
        envelope = _envelope.decode(body)
    except msgspec.ValidationError:
        raise malformed(request, response, "the body is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = split_faulty_page(text)
        if found is None:
            raise not_json(request, response) from None
        return _faulty_page(*found)
    try:
        items = _items.decode(envelope["items"])
    except KeyError:
        # Only what looks like a key of an API: one that is a phone number or an id is content.
        keys = ", ".join([key for key in envelope if key.isidentifier()][:_KEYS_SHOWN])
        shown = response.show(keys, limit=_KEYS_LENGTH) or "none"
        raise malformed(request, response, f"the page has no 'items' (its keys: {shown})") from None
    except msgspec.DecodeError:
        raise malformed(request, response, "the page's 'items' is not a list") from None
    flag = envelope.get("has_more", envelope.get("has_next", msgspec.UNSET))
    return RawPage(items or (), tuple(_id(item) for item in items or ()), _flag(flag), replaced)


def decoded_page(page: RawPage) -> Page:
    """Return the models of a page's conversations; an item that has none is rejected on its own.

    :param page: a page whose items are JSON text, as `split_page` and `parse_one` return it
    """
    conversations, rejected = [], []
    for item in page.items:
        try:
            conversations.append(parse_conversation(item))
        except (ValueError, RecursionError):
            fault = json_fault(bytes(item))
            reason = f"not JSON: {fault}" if fault else "not an object with a string 'id'"
            rejected.append(Rejected(reason, bytes(item)))
    return Page(tuple(conversations), tuple(rejected), page.has_more, page.unreadable)


def started_at(item: Any) -> datetime | None:
    """Return when the conversation of an item started, or None if that is not readable."""
    try:
        text = _peeked(item).started_at
        time = datetime.fromisoformat(text) if text else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def status(item: Any) -> str | None:
    """Return the status of the conversation of an item, or None if that is not readable."""
    try:
        state: str | None = _peeked(item).status
    except (msgspec.DecodeError, RecursionError):
        return None
    return state


def _peeked(item: Any) -> Any:
    return _peek.decode(item) if isinstance(item, msgspec.Raw) else item


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


def _faulty_page(members: dict[str, bytes], items: list[bytes]) -> RawPage:
    kept: list[msgspec.Raw] = []
    ids: list[str | None] = []
    total = 0
    for item in items:
        text, replaced = replace_unstorable(item)
        total += replaced
        kept.append(msgspec.Raw(text))
        ids.append(None if json_fault(text) else _id(kept[-1]))
    flag = members.get("has_more", members.get("has_next", b""))
    return RawPage(tuple(kept), tuple(ids), _FLAGS.get(flag), total)


class PageSizes:
    """Length of the longest page so far. The server did not truncate a page that is shorter.

    A server may return fewer conversations than requested, and yet compute its flag from the requested limit
    (inferred). A false flag therefore counts only on a page that cannot have been truncated.

    :param requested: conversations requested per page
    """

    def __init__(self, requested: int) -> None:
        self.requested = requested
        self.longest = 0
        self._lock = threading.Lock()

    def see(self, page: RawPage) -> None:
        """Take a page into account."""
        with self._lock:
            self.longest = max(self.longest, len(page.items))

    def is_shorter(self, page: RawPage) -> bool:
        """Return whether a page is too short to have been truncated by the server."""
        return len(page.items) < min(self.requested, self.longest)

    def is_last(self, page: RawPage) -> bool:
        """Return whether the flag of a page shows reliably that no page follows."""
        return page.has_more is False and (not page.items or self.is_shorter(page))
