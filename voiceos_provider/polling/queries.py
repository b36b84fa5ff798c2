"""Queries for open conversations. No I/O: a query yields requests, is sent pages and returns what it found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from voiceos_provider.client.requests import STATUSES
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSResponseError
from voiceos_provider.interval import Interval, isoformat

T = TypeVar("T")

ENDED = STATUSES[-1]
OPEN = STATUSES[:-1]
"""The documented states before the end, in the order in which they must be requested.

A conversation that moves on from `queued` to `started` between two requests is listed by the second one. In the
opposite order neither would list it.
"""

_CLOCK_SKEW = timedelta(hours=1)
_FUTURE = Interval(datetime(2200, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, 0, 0, 1, tzinfo=UTC))
_SHORTEST_WINDOW = timedelta(seconds=2)
_PASSES = 6
_MAX_PAGES = 10_000
_SMALL_PAGE = 100

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """The fields of a conversation that a condition depends on."""

    id: str | None
    status: str | None
    started_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is in any state but `ended`, documented or not."""
        return self.status != ENDED

    def __str__(self) -> str:
        return f"conversation {self.id or 'without an id'} is {self.status or 'without a status'}"


@dataclass(frozen=True, slots=True)
class Page:
    """A response: the rows of one page of a listing, or of the one conversation that was requested.

    :param has_more: whether a next page exists; None if the server does not say so
    """

    rows: tuple[Row, ...]
    has_more: bool | None = False


@dataclass(frozen=True, slots=True)
class ListPage:
    """Request for one page of a listing.

    :param interval: the interval of creation time
    :param status: only conversations in this state; None for every state
    :param page_size: conversations per page; None for the connection's
    :param index: page number, from 1
    """

    interval: Interval
    status: str | None = None
    page_size: int | None = None
    index: int = 1


@dataclass(frozen=True, slots=True)
class GetConversation:
    """Request for one conversation. If there is none, `VoiceOSNotFoundError` is thrown into the query."""

    conversation_id: str


ApiRequest = ListPage | GetConversation
Query = Generator[ApiRequest, Page, T]
"""Yields requests, is sent each page or thrown the error, and returns its result."""


def first_open(interval: Interval) -> Query[Row | None]:
    """Return a conversation of the interval that is listed as open, with at most two requests of one row each.

    None does not prove that all have ended: a replica that lags, or a state that the API's filter does not know, can
    hide a conversation. `first_open_listed` decides.

    :raises VoiceOSContractError: if the server ignores the interval
    """
    for status in OPEN:
        page = yield from _checked(ListPage(interval, status, page_size=1))
        for row in page.rows:
            if row.is_open:
                return row
    return None


def first_open_listed(interval: Interval) -> Query[Row | None]:
    """Return a conversation of the interval that has not ended, from the whole listing; None if all have ended."""
    rows = yield from read_window(interval, until=lambda rows: any(row.is_open for row in rows))
    return next((row for row in rows if row.is_open), None)


def count_up_to(interval: Interval, enough: int) -> Query[int]:
    """Return the number of conversations of the interval, counted no further than `enough`."""
    page_size = enough if enough < _SMALL_PAGE else None
    rows = yield from read_window(interval, page_size=page_size, until=lambda rows: len(rows) >= enough)
    return min(len(rows), enough)


def read_window(
    interval: Interval,
    *,
    status: str | None = None,
    page_size: int | None = None,
    until: Callable[[Collection[Row]], bool] = lambda rows: False,
) -> Query[tuple[Row, ...]]:
    """Return every conversation created in the interval, each once, though others change or are deleted meanwhile.

    A window that one response holds whole is read by that response. One that overflows is halved; below two seconds,
    where halves may mean nothing to the server, its pages are read until two passes list the same.

    :param status: only conversations in this state
    :param page_size: conversations per page; None for the connection's
    :param until: stop reading once the rows found so far satisfy this
    :raises VoiceOSContractError: if the server ignores the interval
    :raises VoiceOSResponseError: if the passes over one second do not agree
    """
    found: dict[object, Row] = {}
    remaining, longest = [interval], 0
    while remaining:
        window = remaining.pop()
        request = ListPage(window, status, page_size)
        page = yield from _checked(request)
        rows = _keyed(page, window)
        if until({**found, **rows}.values()):
            return tuple({**found, **rows}.values())
        whole = not rows or (page.has_more is False and len(rows) < longest)
        if not whole and not page.has_more:
            # The server may have computed the flag from the limit it was sent, and have returned fewer rows.
            second = yield ListPage(window, status, page_size, index=2)
            whole = _keyed(second, window).keys() <= rows.keys()
        longest = max(longest, len(page.rows))
        if whole:
            found.update(rows)
        elif window.end - window.start >= _SHORTEST_WINDOW:
            middle = (window.start + (window.end - window.start) / 2).replace(microsecond=0)
            remaining += [Interval(middle, window.end), Interval(window.start, middle)]
        else:
            found.update((yield from _read_pages(request)))
    return tuple(found.values())


def _read_pages(request: ListPage) -> Query[dict[object, Row]]:
    """Read a window page by page until two passes list the same conversations."""
    window, previous = request.interval, None
    for _ in range(_PASSES):
        found: dict[object, Row] = {}
        for index in range(1, _MAX_PAGES + 1):
            page = yield ListPage(window, request.status, request.page_size, index)
            rows = _keyed(page, window)
            if rows.keys() <= found.keys():
                break
            found.update(rows)
        else:
            raise VoiceOSContractError(f"GET /conversations: the pages of {window} have no end.")
        if found.keys() == previous:
            return found
        previous = found.keys()
    raise VoiceOSResponseError(
        f"GET /conversations: {_PASSES} passes over the pages of {window} did not agree; conversations are deleted or "
        "reordered faster than they can be read."
    )


def check_bounds() -> Query[None]:
    """Request a window of the far future, in which no conversation can have been created.

    :raises VoiceOSContractError: if it lists one: the server ignores the interval
    """
    page = yield ListPage(_FUTURE, page_size=1)
    if page.rows:
        raise VoiceOSContractError(
            f"GET /conversations: the server ignores created_after. It was sent {isoformat(_FUTURE.start)}, and lists "
            "conversations."
        )


def _keyed(page: Page, window: Interval) -> dict[object, Row]:
    # Rows without an id are told apart by their place.
    return {row.id or (window.start, at): row for at, row in enumerate(page.rows)}


def _checked(request: ListPage) -> Query[Page]:
    """Return the page; if one of its conversations started long before the interval, check the bounds first.

    Rows that were imported, or have a wrong `started_at`, start early, too, and prove nothing.

    :raises VoiceOSContractError: if the server ignores the interval
    """
    page = yield request
    interval = request.interval
    early = [row for row in page.rows if row.started_at and interval.start - row.started_at > _CLOCK_SKEW]
    if early:
        yield from check_bounds()
        log.debug(
            "%d conversations of %s have an odd started_at, such as %s.", len(early), interval, early[0]
        )
    return page
