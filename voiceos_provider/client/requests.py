"""Which requests does the API know, and how are they spelled?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import isoformat

STATUSES = ("queued", "started", "ended")
"""The documented states, in the order in which a conversation passes through them."""

LISTING = "/conversations"
"""The path of the list."""


@dataclass(frozen=True, slots=True)
class Request:
    """One GET. `str()` names it for people: method and path, without the query."""

    path: str
    params: tuple[tuple[str, str], ...] = ()
    authenticated: bool = True

    def __str__(self) -> str:
        return f"GET {self.path}"


@dataclass(frozen=True, slots=True)
class Listing:
    """Which conversations to list.

    :param status: only those in this state; None for every state
    :param created_after: only those created after this instant
    :param created_before: only those created before this instant
    :param page_size: conversations asked for per page; the server may send fewer
    """

    status: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    page_size: int = 100

    def __post_init__(self) -> None:
        if self.page_size < 1:
            raise VoiceOSValueError(f"page_size {self.page_size} is not positive; the API's default is 100.")
        if self.status is not None:
            require_statuses([self.status])
        for name in ("created_after", "created_before"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if bound.utcoffset() is None:
                raise VoiceOSValueError(f"{name} {bound} has no time zone; use datetime(..., tzinfo=UTC).")
            try:
                isoformat(bound)
            except OverflowError:
                raise VoiceOSValueError(f"{name} {bound} is outside the years 1 to 9999 in UTC.") from None

    def page(self, index: int) -> Request:
        """The request for the page with this number, counted from 1."""
        params = {
            "status": self.status,
            "created_after": self.created_after and isoformat(self.created_after),
            "created_before": self.created_before and isoformat(self.created_before),
            "index": str(index),
            "limit": str(self.page_size),
        }
        return Request(LISTING, tuple((name, value) for name, value in params.items() if value))


def one_conversation(conversation_id: str) -> Request:
    """:raises VoiceOSValueError: if that is no id"""
    return Request(f"/conversations/{_segment(conversation_id)}")


def recording(conversation_id: str) -> Request:
    """:raises VoiceOSValueError: if that is no id"""
    return Request(f"/conversations/{_segment(conversation_id)}/recording")


def health() -> Request:
    """Is the API there? Needs no token."""
    return Request("/", authenticated=False)


def require_statuses(statuses: Collection[str]) -> None:
    """:raises VoiceOSValueError: if one is not a state that the API can be asked for."""
    for status in statuses:
        if status not in STATUSES:
            raise VoiceOSValueError(f"status {status!r} is not one of {', '.join(STATUSES)}.")


def _segment(conversation_id: str) -> str:
    # A dot segment would be resolved into another path before it is sent.
    if not conversation_id or conversation_id in (".", ".."):
        raise VoiceOSValueError(f"{conversation_id!r} is not a conversation id.")
    return quote(conversation_id, safe="")
