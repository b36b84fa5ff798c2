"""Probe requests: how the server treats bounds of creation time and page numbers, and what its clock says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from voiceos_provider.client import RawPage, Retry, VoiceOSClient
from voiceos_provider.client.pages import PageSizes, split_page
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.responses import Response, http_date
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSBadRequestError,
    VoiceOSContractError,
    VoiceOSRateLimitError,
    VoiceOSResponseError,
)
from voiceos_provider.extract.window_reader import drive, read_window
from voiceos_provider.extract.windows import MILLISECOND, SECOND, Window, floor, minus
from voiceos_provider.interval import TICK, Interval, isoformat

log = logging.getLogger(__name__)

_BEFORE_VOICEOS = Interval(datetime(1995, 3, 14, tzinfo=UTC), datetime(1995, 3, 15, tzinfo=UTC))
"""A day without conversations, and no program's idea of an unknown date."""

_CLOCK_TOLERANCE = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(hours=1)
_CALENDAR_TOLERANCE = timedelta(days=1)
_PAGE_ZERO_ATTEMPTS = 3
_UNDECIDED = 3
"""Seconds in which everything was created at once, after which the server is taken to compare seconds."""


def check_bounds(client: VoiceOSClient, interval: Interval) -> datetime | None:
    """Make sure that the server heeds both bounds of creation time, and return what its clock says.

    Asks for conversations created after the end and before the start of the interval. No data can satisfy both, so
    any that are listed prove that the server ignores a bound, and they are just those that would be exported wrongly.

    :return: the `Date` of the response, or None if the server does not send one
    :raises VoiceOSContractError: if the server ignores a bound
    """
    # Two seconds apart at least, so that no rounding of bounds makes them meet.
    after = max(interval.end, interval.start + timedelta(seconds=2))
    try:
        return client.send(Listing(None, after, interval.start, 1).page(1), _parse_none)
    except VoiceOSBadRequestError:
        # The server validates the order of the bounds, so it reads both.
        day = _BEFORE_VOICEOS
        return client.send(Listing(None, day.start, day.end, 1).page(1), _parse_none)


def _parse_none(request: Request, response: Response) -> datetime | None:
    if split_page(request, response).items:
        bounds = dict(request.params)
        raise VoiceOSContractError(
            f"{request}: the server ignores created_after or created_before: it lists conversations created after "
            f"{bounds['created_after']} and before {bounds['created_before']}. An export would hold the wrong rows.",
            response.status,
            response.request_id,
        )
    return http_date(response.headers.get("date", ""))


def check_index(client: VoiceOSClient, interval: Interval) -> None:
    """Make sure that the server counts pages from 1, as documented: from 0, every first page would be missed.

    :raises VoiceOSContractError: if it counts from 0
    """
    listing = Listing(None, interval.start, interval.end, 1)
    zero = _first_key_of_page_zero(client, listing)
    if zero is None:
        return
    one = _first_key(client, listing.page(1))
    # Requested again in this order, so that replicas that differ and take turns prove nothing.
    if (
        one == zero
        or one != _first_key(client, listing.page(1))
        or zero != _first_key_of_page_zero(client, listing)
    ):
        return  # page 0 is another name of page 1, or the order changes with each request
    raise VoiceOSContractError(
        "GET /conversations: the server counts pages from 0 and not, as documented, from 1. An export would miss the "
        "first page of everything."
    )


def _first_key(client: VoiceOSClient, request: Request, *, retry: Retry | None = None) -> int | None:
    """Return the key of the first conversation on a page; None without one."""
    return next(iter(client.send(request, split_page, retry=retry).keys), None)


def _first_key_of_page_zero(client: VoiceOSClient, listing: Listing) -> int | None:
    """Return the key of the first conversation on page 0; None if the server has none, or refuses that page.

    A server that counts from 1 may fail there each time, so a failure is retried only a few times.

    :raises VoiceOSAPIError: if the response says nothing of this page: a rate limit, a refused token, or none at all
    """
    retry = replace(
        client.config.retry, max_attempts=min(client.config.retry.max_attempts, _PAGE_ZERO_ATTEMPTS)
    )
    try:
        return _first_key(client, listing.page(0), retry=retry)
    except VoiceOSAPIError as error:
        if error.concerns_all_requests or isinstance(error, VoiceOSRateLimitError):
            raise
        return None


class BoundsProbe:
    """Probe requests that show how the server compares times, sent while an interval is read.

    :param fetch: returns a page of a listing
    :param sizes: what is known of the server's pages
    :param max_pages: pages after which a listing is considered endless
    """

    def __init__(self, fetch: Callable[[Listing, int], RawPage], sizes: PageSizes, *, max_pages: int) -> None:
        self._fetch = fetch
        self._sizes = sizes
        self._max_pages = max_pages
        self._undecided = 0
        self._lock = threading.Lock()
        self.finer: bool | None = None
        """Whether the server compares less than a second, once that is known."""

    def earlier(self, start: datetime) -> set[int]:
        """Return the keys of conversations that windows from a start list, and that belong to the range before it.

        A conversation is earlier if it is listed before the start; unless it is one created at the very start, which
        a server that includes its bounds lists there, too.
        """
        begin = minus(floor(minus(start, TICK), SECOND), SECOND)
        before = self._keys(begin, start)
        if not before:
            return before
        on_the_edge = self._keys(start - TICK, start)
        if not on_the_edge:
            return before
        return before - (on_the_edge - self._keys(begin, start - TICK))

    def compares_finer(self, instant: datetime) -> bool:
        """Return whether the server distinguishes creation times within a second, by a few requests of one row.

        A server that compares whole seconds lists the same for any two bounds within half a second: always nothing, or
        always what was created at that second. Something in a wide range, and nothing in a narrow one, is proof. The
        narrow one comes first: a deletion between the two cannot empty it.

        :param instant: a time about which many conversations were created
        """
        with self._lock:
            if self.finer is None:
                self._decide(floor(instant, SECOND))
            return bool(self.finer)

    def is_empty(self, after: datetime, before: datetime) -> bool:
        """Return whether the server lists nothing between two bounds."""
        return not self._fetch(Listing(None, after, before, 1), 1).items

    def require_moved(self, id_: str | None, first: Window, second: Window) -> None:
        """Make sure that a conversation listed in two windows far apart has only changed its creation time.

        Requests what was created after the later window's start and before the earlier one's end: nothing, unless the
        server ignores one of the two bounds.

        :raises VoiceOSContractError: if the server ignores a bound
        :raises VoiceOSResponseError: if the server refuses the question
        """
        earlier, later = sorted((first, second), key=lambda window: window.start)
        seen = (
            f"GET /conversations: {id_!r} is listed among the conversations created in {earlier.interval}, and "
            f"among those created in {later.interval}"
        )
        try:
            proven = not self.is_empty(later.start, earlier.end)
        except VoiceOSBadRequestError:
            raise VoiceOSResponseError(f"{seen}. Retry later.") from None
        if proven:
            raise VoiceOSContractError(f"{seen}. The server ignores created_after or created_before.")
        log.warning("%s; it is exported once.", seen)

    def _decide(self, second: datetime) -> None:
        for half in (second, second + timedelta(milliseconds=500)):
            tick = half + timedelta(microseconds=123_457)
            if not self.is_empty(tick, tick + TICK):
                self.finer = False
                return
            if not self.is_empty(half + MILLISECOND, half + timedelta(milliseconds=498)):
                self.finer = True
                return
        self._undecided += 1
        if self._undecided == _UNDECIDED:
            self.finer = False

    def _keys(self, after: datetime, before: datetime) -> set[int]:
        """Return the keys of all conversations listed between two bounds."""
        listing = Listing(None, after, before, self._sizes.requested)
        keys: set[int] = set()
        reading = read_window(
            Interval(after, before),
            self._sizes,
            lambda page: keys.update(page.keys),
            can_be_cut=False,
            max_pages=self._max_pages,
        )
        drive(reading, lambda index: self._fetch(listing, index))
        return keys


def are_far_apart(first: Window, second: Window) -> bool:
    """Return whether two windows are too far apart to list the same conversation, however bounds are rounded."""
    earlier, later = sorted((first, second), key=lambda window: window.start)
    return later.start - earlier.end > 2 * SECOND


def seconds_until_readable(
    client: VoiceOSClient, interval: Interval, visibility_delay: timedelta, *, now: datetime | None = None
) -> float:
    """Return how long to wait before the interval may be read: until the delay after its end, by both clocks.

    :param visibility_delay: how long after its creation a conversation may be missing from listings
    :param now: the time by this machine's clock
    :raises VoiceOSValueError: if the interval has not ended by either clock
    :raises VoiceOSContractError: if the server ignores the bounds of creation time, or its clock is far off
    """
    here = now or datetime.now(UTC)
    interval.require_past(here, tolerance=_CALENDAR_TOLERANCE)
    there = check_bounds(client, interval) or here
    interval.require_past(max(here, there), tolerance=_CLOCK_TOLERANCE)
    if abs(there - here) > _CLOCK_TOLERANCE:
        log.warning(
            "Clocks differ by %s between this machine and the server; waiting by the slower of the two.",
            abs(there - here),
        )
    remaining = (interval.end + visibility_delay - min(here, there)).total_seconds()
    if remaining > (visibility_delay + _LONGEST_WAIT).total_seconds():
        raise VoiceOSContractError(
            f"Clocks disagree on whether the interval has ended at {isoformat(interval.end)}: the server says "
            f"{isoformat(there)}, this machine {isoformat(here)}. Correct the clock that is wrong."
        )
    return max(0.0, remaining)
