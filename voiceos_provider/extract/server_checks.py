"""Probe requests before an interval is read, which show the server's bounds, page numbers and clock."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from voiceos_provider.client import Retry, VoiceOSClient
from voiceos_provider.client.pages import split_page
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.responses import Response, http_date
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSBadRequestError,
    VoiceOSContractError,
    VoiceOSRateLimitError,
)
from voiceos_provider.interval import Interval, isoformat

log = logging.getLogger(__name__)

_BEFORE_VOICEOS = Interval(datetime(1995, 3, 14, tzinfo=UTC), datetime(1995, 3, 15, tzinfo=UTC))
"""A day without conversations, and no program's idea of an unknown date."""

_CLOCK_TOLERANCE = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(hours=1)
_CALENDAR_TOLERANCE = timedelta(days=1)
_PAGE_ZERO_ATTEMPTS = 3


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
        return client.send(Listing(None, after, interval.start, 1).page(1), _date_of_empty_page)
    except VoiceOSBadRequestError:
        # The server validates the order of the bounds, so it reads both.
        day = _BEFORE_VOICEOS
        return client.send(Listing(None, day.start, day.end, 1).page(1), _date_of_empty_page)


def _date_of_empty_page(request: Request, response: Response) -> datetime | None:
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


def check_readable(
    client: VoiceOSClient, interval: Interval, visibility_delay: timedelta, *, now: datetime | None = None
) -> float:
    """Check the server, and return the seconds to wait until the delay after the interval's end, by both clocks.

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
