"""What does an export rely on, and does this API keep to it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

import httpx

from voiceos_provider.client import ClientConfig, RawPage, Retry, VoiceOSClient
from voiceos_provider.client.requests import Request, health
from voiceos_provider.client.responses import Response, http_date
from voiceos_provider.exceptions import VoiceOSBadRequestError, VoiceOSContractError, VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.transform import Decoder

Outcome = Literal["ok", "warning", "failed", "unknown"]

LARGEST_PAGE = 1_000
"""The largest page that a connection may ask for."""

_SKEW_ALLOWED = 5.0
_LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found.

    :param name: what was checked
    :param message: a sentence for people
    :param measured: numbers and names for scripts
    :param error: why it failed, if it did
    """

    name: str
    outcome: Outcome
    message: str
    measured: dict[str, Any] = field(default_factory=dict)
    error: VoiceOSError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"name": self.name, "outcome": self.outcome, "message": self.message, **self.measured}


def examine(
    settings: ClientConfig,
    *,
    transport: httpx.BaseTransport | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Finding]:
    """Check one thing after the other; what relies on a failed one is left out.

    :param settings: the API; somebody is waiting, so each request is tried once
    :param transport: replaces the network, for tests
    :param now: this machine's clock
    """
    patience = replace(settings, retry=Retry(max_attempts=1, deadline=0))
    with VoiceOSClient(patience, transport=transport) as client:
        return list(_findings(client, now))


def _findings(client: VoiceOSClient, now: Callable[[], datetime]) -> Iterator[Finding]:
    for name, check in (("API", _api), ("token", _token)):
        finding = _tried(name, check, client)
        yield finding
        if name == "API":
            yield _clock(client, now)
        if finding.error is not None:
            return
    pages: list[RawPage] = []
    yield _tried("page size", lambda client: _page_size(client, pages), client)
    if pages:
        yield _tried("shape", lambda client: _shape(pages[0], now()), client)
    yield _tried("paging", _paging, client)
    yield _tried("dates", lambda client: _dates(client, now()), client)
    yield _tried("status", _status, client)


def _tried(name: str, check: Callable[[VoiceOSClient], Finding], client: VoiceOSClient) -> Finding:
    try:
        return check(client)
    except VoiceOSError as error:
        return Finding(name, "failed", str(error), error=error)


def _broken(name: str, message: str) -> Finding:
    return Finding(name, "failed", message, error=VoiceOSContractError(message))


def _api(client: VoiceOSClient) -> Finding:
    client.check_health()
    return Finding("API", "ok", "It answers.")


def _token(client: VoiceOSClient) -> Finding:
    next(client.list_raw(page_size=1), None)
    return Finding("token", "ok", "It is accepted, and may list conversations.")


def _clock(client: VoiceOSClient, now: Callable[[], datetime]) -> Finding:
    """Compare this machine's clock with the `Date` of a response, which counts whole seconds."""
    try:
        before = now()
        theirs = client.send(health(), _date)
        after = now()
    except VoiceOSError:
        theirs = None
    if theirs is None:
        return Finding("clock", "unknown", "No response said what time it is there.")
    middle = before + (after - before) / 2
    skew = (middle - theirs).total_seconds() - 0.5
    doubt = 0.5 + (after - before).total_seconds() / 2
    measured = {"skew_seconds": round(skew, 1), "doubt_seconds": round(doubt, 1)}
    if abs(skew) <= _SKEW_ALLOWED + doubt:
        return Finding("clock", "ok", f"This machine's is right to {max(abs(skew), doubt):.1f} s.", measured)
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        "clock",
        "warning",
        f"This machine's is {abs(skew):,.0f} s {direction} the server's. Exports wait by the server's; sensors, and "
        "the day that a command means, go by this machine's. Synchronise it.",
        measured,
    )


def _date(request: Request, response: Response) -> datetime | None:
    return http_date(response.headers.get("date", ""))


def _page_size(client: VoiceOSClient, pages: list[RawPage]) -> Finding:
    """Ask for the largest page there may be; keeps the page."""
    wanted = client.config.page_size
    try:
        page = next(iter(client.list_raw(page_size=LARGEST_PAGE)))
    except VoiceOSBadRequestError:
        pages.append(next(iter(client.list_raw())))
        return Finding(
            "page size",
            "ok",
            f"The server refuses {LARGEST_PAGE:,}, and takes page_size={wanted:,}.",
            {"asked": LARGEST_PAGE, "got": len(pages[0].items), "more_follow": pages[0].has_more},
        )
    pages.append(page)
    got = len(page.items)
    measured = {"asked": LARGEST_PAGE, "got": got, "more_follow": page.has_more}
    if got >= LARGEST_PAGE:
        return Finding("page size", "ok", f"The server honours {LARGEST_PAGE:,}.", measured)
    if not page.has_more:
        return Finding(
            "page size",
            "unknown",
            f"There are only {got:,} conversations, so the largest page does not show.",
            measured,
        )
    measured["honoured"] = got
    if got < wanted:
        return Finding(
            "page size",
            "warning",
            f"Of page_size={wanted:,} the server sends {got:,} at most. Nothing is lost by it; set page_size "
            f"to {got:,}.",
            measured,
        )
    return Finding("page size", "ok", f"The server sends {got:,} at most; page_size is {wanted:,}.", measured)


def _shape(page: RawPage, now: datetime) -> Finding:
    """Decode a page as an export does, and name what the contract does not know."""
    decoded = Decoder(Interval(_LONG_AGO, now), now).decode(page.items)
    drift, rejected = decoded.drift, len(decoded.rejected)
    measured = {"conversations": len(page.items), "rejected": rejected, **drift.as_dict()}
    found = [str(drift)] if drift else []
    if rejected:
        found.append(f"{rejected:,} conversations without a usable id")
    if page.has_more is None:
        found.append("no has_more that is true or false")
    if found:
        return Finding(
            "shape", "warning", f"Not as documented: {'; '.join(found)}. An export keeps it.", measured
        )
    if not page.items:
        return Finding("shape", "unknown", "There is no conversation to look at.", measured)
    return Finding("shape", "ok", f"{len(page.items):,} conversations are as documented.", measured)


def _paging(client: VoiceOSClient) -> Finding:
    """Does the second page bring what the first did not?"""
    first, *second = islice(client.list_raw(page_size=1), 2)
    if not second or not second[0].items:
        if first.has_more and first.items:
            return _broken("paging", "Page 1 says that more follows, and page 2 is empty.")
        return Finding("paging", "unknown", "There is only one page.")
    if set(second[0].ids) & set(first.ids):
        return _broken(
            "paging", "Page 2 repeats page 1: the server ignores index, or the list grows quickly."
        )
    return Finding("paging", "ok", "Page 2 brings what page 1 did not.")


def _dates(client: VoiceOSClient, now: datetime) -> Finding:
    """Nothing was created long ago, nor will have been tomorrow."""
    empty = {
        "created_before": client.list_raw(page_size=1, created_before=_LONG_AGO),
        "created_after": client.list_raw(page_size=1, created_after=now + timedelta(days=1)),
    }
    for bound, pages in empty.items():
        if next(pages).items:
            return _broken("dates", f"The server ignores {bound}: it lists conversations outside of it.")
    return Finding("dates", "ok", "created_after and created_before are honoured.")


def _status(client: VoiceOSClient) -> Finding:
    page = next(iter(client.list_raw(page_size=10, status="ended")))
    decoded = Decoder(Interval(_LONG_AGO, datetime.now(UTC)), datetime.now(UTC), statuses=("ended",)).decode(
        page.items
    )
    if decoded.filtered or decoded.pending:
        return _broken("status", "The server ignores status: asked for ended, it lists others.")
    if not page.items:
        return Finding("status", "unknown", "No conversation has ended.")
    return Finding("status", "ok", "status is honoured.")
