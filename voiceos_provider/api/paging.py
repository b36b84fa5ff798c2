"""Which page comes next, and when is it enough? No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from voiceos_provider.api.answers import Answer, malformed
from voiceos_provider.api.requests import Listing, Request
from voiceos_provider.api.seen import Seen
from voiceos_provider.exceptions import VoiceOSContractError


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page whose conversations are still JSON text.

    :param items: each conversation as the server wrote it
    :param ids: their ids; None where there is none to be found
    :param has_more: whether a next page exists; None if the server does not say so in a way one can trust
    :param replaced: lone surrogates in the text that were replaced by U+FFFD
    """

    items: tuple[msgspec.Raw, ...]
    ids: tuple[str | None, ...]
    has_more: bool | None
    replaced: int = 0


class PageWalk:
    """The numbers of the pages to ask for, one after the other, by what the last one said.

    Ends on a false flag, on an empty page, and on a page that brings no new id: a server that repeats its last
    page must not be asked for ever. A short page ends nothing, for a server may clamp the page size.
    """

    def __init__(self, listing: Listing, *, max_pages: int) -> None:
        self._listing = listing
        self._max_pages = max_pages
        self._seen = Seen()
        self._index: int | None = 1

    @property
    def request(self) -> Request | None:
        """The next page to ask for; None at the end."""
        return None if self._index is None else self._listing.page(self._index)

    def accept(self, page: RawPage) -> None:
        """Take notice of the page that was asked for.

        :raises VoiceOSContractError: if there is still more after the highest page number allowed
        """
        assert self._index is not None
        # An item without an id is told apart by its text, so that a page of them is still progress.
        news = self._seen.add(
            hash(bytes(item)) if id_ is None else hash(id_)
            for id_, item in zip(page.ids, page.items, strict=True)
        )
        if page.has_more is False or not news:
            self._index = None
        elif self._index >= self._max_pages:
            raise VoiceOSContractError(
                f"{self.request}: page {self._index:,} still says that more follows; the listing has no end. "
                "Ask for a shorter interval."
            )
        else:
            self._index += 1


class _Keyed(msgspec.Struct):
    id: str


_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(tuple[msgspec.Raw, ...])
_keyed = msgspec.json.Decoder(_Keyed)
_KEYS_SHOWN = 10
_FLAGS: Final = {b"true": True, b"false": False}


def parse_page(request: Request, answer: Answer) -> RawPage:
    """Split a page into its conversations, without decoding them.

    The flag is `has_more`, else `has_next` (an earlier version of the API). One that is missing or is not a
    boolean says nothing.

    :raises VoiceOSResponseError: if the body is not JSON, or has no list of items
    """
    envelope, replaced = _split(request, answer)
    try:
        items = _items.decode(envelope["items"])
    except KeyError:
        # Only what looks like a key of an API: one that is a phone number or an id is content.
        keys = ", ".join([key for key in envelope if key.isidentifier()][:_KEYS_SHOWN]) or "none"
        raise malformed(request, answer, f"the page has no 'items' (its keys: {keys})") from None
    except msgspec.DecodeError:
        raise malformed(request, answer, "the page's 'items' is not a list") from None
    flag = envelope.get("has_more", envelope.get("has_next", msgspec.Raw(b"")))
    return RawPage(items, tuple(_id(item) for item in items), _FLAGS.get(bytes(flag)), replaced)


def _id(item: msgspec.Raw) -> str | None:
    try:
        return _keyed.decode(item).id or None
    except msgspec.DecodeError:
        return None


def _split(request: Request, answer: Answer) -> tuple[dict[str, msgspec.Raw], int]:
    body, replaced = answer.body, 0
    try:
        body.decode()
        try:
            return _envelope.decode(body), 0
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            body, replaced = replace_lone_surrogates(body)
            if not replaced:
                raise
            return _envelope.decode(body), replaced
    except msgspec.ValidationError:
        raise malformed(request, answer, "the body is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind = answer.headers.get("content-type", "no content type")
        raise malformed(request, answer, f"the body is not JSON ({kind}, {len(body):,} bytes)") from None


_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u[dD][c-fC-F]..|.)", re.S
)


def replace_lone_surrogates(body: bytes) -> tuple[bytes, int]:
    """Write U+FFFD for each escaped half of a surrogate pair whose other half is missing.

    No UTF-8 text can hold them, and one would cost its whole page: half an emoji, cut by a length limit.
    """
    replaced = 0

    def mend(match: re.Match[bytes]) -> bytes:
        nonlocal replaced
        high, low = match.groups()
        if (high and not low) or (match[0][:3].lower() == b"\\ud" and not high):
            replaced += 1
            return rb"\ufffd"
        return match[0]

    return _ESCAPE.sub(mend, body), replaced
