"""Is any conversation of an interval still open? No I/O: a look yields what to ask, and is sent the answer."""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

from voiceos_provider.client.requests import STATUSES
from voiceos_provider.interval import Interval
from voiceos_provider.polling.interval_check import is_early, require_heeded

T = TypeVar("T")

ENDED = STATUSES[-1]
OPEN = STATUSES[:-1]
"""The states before the end, in the order in which they must be asked for.

A conversation that moves on from `queued` to `started` between two requests is seen by the second one. Asked for the
other way round, it would be seen by neither.
"""

_DEFAULT_PAGE_SIZE = 100

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """What of a conversation matters to whoever waits for its end."""

    id: str | None
    status: str | None
    started_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended; so has one whose state nobody knows."""
        return self.status != ENDED

    def __str__(self) -> str:
        return f"conversation {self.id or 'without an id'} is {self.status or 'without a status'}"


@dataclass(frozen=True, slots=True, eq=False)
class Pages:
    """Asks for a listing: for its first page, and each time it is yielded again for the next one.

    The answer is the page's rows, or None after the last page.
    """

    interval: Interval
    status: str | None = None
    page_size: int | None = None


@dataclass(frozen=True, slots=True)
class One:
    """Asks for one conversation. The answer is its row, or none if there is no such conversation."""

    conversation_id: str


Ask = Pages | One
Rows = tuple[Row, ...] | None
Look = Generator[Ask, Rows, T]
"""Yields what to ask, is sent the answer (or thrown the error), returns what was found."""


def first_open(interval: Interval) -> Look[Row | None]:
    """Find a conversation created in the interval that has not ended: two requests of one row each, at most.

    The interval must be over, or None says nothing about conversations still to be created.

    :raises VoiceOSContractError: if the server ignores the interval
    """
    for status in OPEN:
        rows = yield from judged(Pages(interval, status, page_size=1))
        if not rows:
            continue
        found = next((row for row in rows if row.is_open), None) or (yield from _among_all(interval, status))
        if found:
            return found
    return None


def every_open(interval: Interval) -> Look[list[Row]]:
    """All conversations created in the interval that have not ended, each once; reads as many pages as it takes."""
    found: dict[str | None, Row] = {}
    for status in OPEN:
        pages = Pages(interval, status)
        while (rows := (yield from judged(pages))) is not None:
            found.update({row.id: row for row in rows if row.is_open})
    return list(found.values())


def count_up_to(interval: Interval, enough: int) -> Look[int]:
    """How many conversations were created in the interval, counted no further than to `enough`."""
    pages = Pages(interval, page_size=enough if enough < _DEFAULT_PAGE_SIZE else None)
    seen: set[str | None] = set()
    while len(seen) < enough and (rows := (yield from judged(pages))) is not None:
        seen.update(row.id for row in rows)
    return min(len(seen), enough)


def _among_all(interval: Interval, status: str) -> Look[Row | None]:
    # One row that has ended says nothing of the others, if the server ignores the filter or is behind with it.
    log.warning(
        "Asked for conversations that are %s, the API names one that has ended; reading the whole list.",
        status,
    )
    pages = Pages(interval, status)
    while (rows := (yield pages)) is not None:
        for row in rows:
            if row.is_open:
                return row
    return None


def judged(pages: Pages) -> Look[Rows]:
    """The next page of a listing; one more is asked for where so few rows cannot tell who is odd, one or the server.

    :raises VoiceOSContractError: if the server ignores the interval
    """
    rows = witnesses = yield pages
    if pages.page_size and any(is_early(row.started_at, pages.interval) for row in rows or ()):
        witnesses = yield Pages(pages.interval, pages.status)
    require_heeded((row.started_at for row in witnesses or ()), pages.interval)
    return rows
