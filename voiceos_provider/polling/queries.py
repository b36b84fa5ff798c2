"""Queries for open conversations. No I/O: a query yields requests, is sent pages and returns what it found."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from voiceos_provider.client.pages import PageSizes, RawPage, started_at, status
from voiceos_provider.client.requests import ENDED, STATUSES
from voiceos_provider.exceptions import VoiceOSBadRequestError, VoiceOSContractError
from voiceos_provider.extract.window_reader import WindowRead, read_window
from voiceos_provider.extract.windows import SECOND, Window, floor
from voiceos_provider.interval import TICK, Interval, isoformat

T = TypeVar("T")

OPEN = STATUSES[:-1]
"""The documented states before the end, in the order in which they must be requested.

A conversation that moves on from `queued` to `started` between two requests is listed by the second one. In the
opposite order neither would list it.
"""

_CLOCK_SKEW = timedelta(hours=1)
_FUTURE = Interval(datetime(2200, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, 0, 0, 1, tzinfo=UTC))
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
Query = Generator[ApiRequest, RawPage, T]
"""Yields requests, is sent each page or thrown the error, and returns its result."""


def rows_of(page: RawPage) -> list[Row]:
    """Return the rows of a page."""
    return [Row(id_, status(item), started_at(item)) for id_, item in zip(page.ids, page.items, strict=True)]


def first_open(interval: Interval) -> Query[Row | None]:
    """Return a conversation of the interval that is listed as open, with at most two requests of one row each.

    None does not prove that all have ended: a replica that lags, or a state that the API's filter does not know, can
    hide a conversation. `first_open_listed` decides.

    :raises VoiceOSContractError: if the server ignores the interval
    """
    for state in OPEN:
        page = yield from _checked(ListPage(interval, state, page_size=1))
        for row in rows_of(page):
            if row.is_open:
                return row
    return None


def first_open_listed(interval: Interval) -> Query[Row | None]:
    """Return a conversation of the interval that has not ended, from the whole listing; None if all have ended."""
    rows = yield from list_interval(interval, until=lambda rows: any(row.is_open for row in rows.values()))
    return next((row for row in rows if row.is_open), None)


def count_up_to(interval: Interval, enough: int) -> Query[int]:
    """Return the number of conversations of the interval, counted no further than `enough`."""
    page_size = enough if enough < _SMALL_PAGE else None
    found: dict[int, Row] = {}

    def until(rows: dict[int, Row]) -> bool:
        found.update(rows)
        return len(found) >= enough

    yield from list_interval(interval, page_size=page_size, until=until)
    return min(len(found), enough)


def list_interval(
    interval: Interval,
    *,
    status: str | None = None,
    page_size: int | None = None,
    until: Callable[[dict[int, Row]], bool] | None = None,
) -> Query[list[Row]]:
    """Return every conversation created in the interval, each once, though others change or are deleted meanwhile.

    :param status: only conversations in this state
    :param page_size: conversations per page; None for the connection's
    :param until: stop reading, and return the rows of a page, once they satisfy this
    :raises VoiceOSContractError: if the server ignores the interval
    :raises UnstableWindowError: if one second of it changes faster than its pages can be read
    """
    found: dict[int, Row] = {}
    sizes = PageSizes(page_size or sys.maxsize)
    remaining = [Window(interval.start, interval.end)]
    while remaining:
        window = remaining.pop()
        rows: dict[int, Row] = {}
        steps = read_window(
            window.interval,
            sizes,
            lambda page, rows=rows: rows.update(_keyed(page)),  # type: ignore[misc]
            can_be_cut=window.can_be_cut,
            max_pages=_MAX_PAGES,
        )
        try:
            index = next(steps)
            while True:
                page = yield from _checked(ListPage(window.interval, status, page_size, index))
                sizes.see(page)
                if until and until(_keyed(page)):
                    return rows_of(page)
                index = steps.send(page)
        except StopIteration as end:
            read: WindowRead = end.value
        if read.complete:
            found.update(rows)
        else:
            remaining += reversed(_halves(window))
    return list(found.values())


def _halves(window: Window) -> list[Window]:
    middle = floor(window.start + window.width / 2, SECOND)
    if middle <= window.start:
        middle = floor(window.end - TICK, SECOND)
    return [Window(window.start, middle), Window(middle, window.end)]


def _keyed(page: RawPage) -> dict[int, Row]:
    return dict(zip(page.keys, rows_of(page), strict=True))


def require_empty_future() -> Query[None]:
    """Request a window of the far future, in which no conversation can have been created.

    :raises VoiceOSContractError: if it lists one: the server ignores the interval
    """
    try:
        page = yield ListPage(_FUTURE, page_size=1)
    except VoiceOSBadRequestError:
        return  # a server that refuses the future reads the bounds
    if page.items:
        raise VoiceOSContractError(
            f"GET /conversations: the server ignores created_after. It was sent {isoformat(_FUTURE.start)}, and lists "
            "conversations."
        )


def _checked(request: ListPage) -> Query[RawPage]:
    """Return the page; if one of its conversations started long before the interval, check the bounds first.

    Rows that were imported, or have a wrong `started_at`, start early, too, and prove nothing.

    :raises VoiceOSContractError: if the server ignores the interval
    """
    page = yield request
    interval = request.interval
    early = [row for row in rows_of(page) if row.started_at and interval.start - row.started_at > _CLOCK_SKEW]
    if early:
        yield from require_empty_future()
        log.debug(
            "%d conversations of %s have an odd started_at, such as %s.", len(early), interval, early[0]
        )
    return page
