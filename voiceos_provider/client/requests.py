"""Requests of the API."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from voiceos_provider.exceptions import VoiceOSValueError

STATUSES = ("queued", "started", "ended")
"""The documented states of a conversation, in order."""

ENDED = STATUSES[-1]
"""The final state. A conversation in any other state, documented or not, has not ended."""

LISTING = "/conversations"
"""The path of the list."""

_LONGEST_PATH = 200


@dataclass(frozen=True, slots=True)
class Request:
    """One GET. `str()` is the method and the path for messages, without the query."""

    path: str
    params: tuple[tuple[str, str], ...] = ()
    authenticated: bool = True

    def __str__(self) -> str:
        path = self.path if len(self.path) <= _LONGEST_PATH else f"{self.path[:_LONGEST_PATH]}…"
        return f"GET {path}"


@dataclass(frozen=True, slots=True)
class Listing:
    """Filters and page size of one listing.

    :param status: only those in this state; None for every state
    :param page_size: requested conversations per page; the server may send fewer
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
                _timestamp(bound)
            except OverflowError:
                raise VoiceOSValueError(f"{name} {bound} is outside the years 1 to 9999 in UTC.") from None

    def page(self, index: int) -> Request:
        """Return the request for a page; pages are counted from 1."""
        params = {
            "status": self.status,
            "created_after": self.created_after and _timestamp(self.created_after),
            "created_before": self.created_before and _timestamp(self.created_before),
            "index": str(index),
            "limit": str(self.page_size),
        }
        return Request(LISTING, tuple((name, value) for name, value in params.items() if value))


def one_conversation(conversation_id: str) -> Request:
    """Return the request for one conversation.

    :raises VoiceOSValueError: if the id is empty
    """
    return Request(f"/conversations/{_segment(conversation_id)}")


def recording(conversation_id: str) -> Request:
    """Return the request for the recording of a conversation.

    :raises VoiceOSValueError: if the id is empty
    """
    return Request(f"/conversations/{_segment(conversation_id)}/recording")


def health() -> Request:
    """Return the request for the health check, which needs no token."""
    return Request("/", authenticated=False)


def require_statuses(statuses: Collection[str]) -> None:
    """Raise `VoiceOSValueError` if a status is not one the API can filter by."""
    for status in statuses:
        if status not in STATUSES:
            raise VoiceOSValueError(f"status {status!r} is not one of {', '.join(STATUSES)}.")


def _timestamp(instant: datetime) -> str:
    """Return RFC 3339 in UTC, always with six digits: a server that compares texts orders `00Z` after `00.5Z`."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _segment(conversation_id: str) -> str:
    if not conversation_id:
        raise VoiceOSValueError("The conversation id is empty.")
    if conversation_id in (".", ".."):  # would be resolved into another path before it is sent
        return conversation_id.replace(".", "%2E")
    return quote(conversation_id, safe="", errors="replace")
