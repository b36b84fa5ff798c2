"""`voiceos doctor`: checks of everything an export relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import click

from voiceos_provider.cli.options import Access, api_options
from voiceos_provider.cli.output import (
    as_json,
    console,
    exit_code,
    for_terminal,
    log_to_stderr,
    print_json,
    verbose,
)
from voiceos_provider.exceptions import VoiceOSBadRequestError, VoiceOSContractError, VoiceOSError

if TYPE_CHECKING:
    import httpx

    from voiceos_provider.client import ClientConfig, RawPage, VoiceOSClient

Outcome = Literal["ok", "warning", "failed", "unknown"]

MAX_PAGE_SIZE = 1_000
"""The largest page_size that a connection may have."""

_SKEW_ALLOWED = 5.0
_LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)
_COLORS = {"ok": "green", "warning": "yellow", "failed": "red", "unknown": "dim"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    :param name: name of the check
    :param message: human-readable sentence
    :param measured: machine-readable details
    :param error: the error of a failed check
    """

    name: str
    outcome: Outcome
    message: str
    measured: dict[str, Any] = field(default_factory=dict)
    error: VoiceOSError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON."""
        return {"name": self.name, "outcome": self.outcome, "message": self.message, **self.measured}


@click.command(short_help="Check the API, the token, the clock, the page size and the API's contract.")
@click.option("--strict", is_flag=True, help="Exit with 4 for a warning, too.")
@api_options
@as_json
@verbose
def doctor(*, access: Access, strict: bool, as_json: bool, verbose: bool) -> int:
    """Check everything that an export relies on, with about eight small requests. Prints no conversation."""
    with log_to_stderr(verbose=verbose):
        findings = [
            replace(finding, message=for_terminal(finding.message)) for finding in examine(access.config)
        ]
    errors = [finding.error for finding in findings if finding.error is not None]
    warned = any(finding.outcome == "warning" for finding in findings)
    code = exit_code(errors[0]) if errors else 4 if strict and warned else 0
    if as_json:
        checks = [finding.as_dict() for finding in findings]
        print_json({"base_url": access.config.base_url, "exit_code": code, "checks": checks})
        return code

    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in findings:
        outcome = "FAILED" if finding.outcome == "failed" else finding.outcome
        table.add_row(Text(outcome, _COLORS[finding.outcome]), finding.name, Text(finding.message))
    out.print(f"{access.config.base_url}\n")
    out.print(table)
    return code


def examine(
    config: ClientConfig,
    *,
    transport: httpx.BaseTransport | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Finding]:
    """Run the checks in order and return their findings; checks that rely on a failed one are left out.

    :param config: the API; each request is attempted once, because a person is waiting
    :param transport: replaces the network in tests
    :param now: this machine's clock
    """
    from voiceos_provider.client import Retry, VoiceOSClient

    config = replace(config, retry=Retry(max_attempts=1, deadline=0))
    with VoiceOSClient(config, transport=transport) as client:
        return list(_findings(client, config, now))


def _findings(client: VoiceOSClient, config: ClientConfig, now: Callable[[], datetime]) -> Iterator[Finding]:
    reached = _checked("API", _api, client)
    yield reached
    yield _clock(client, now)
    if reached.error is not None:
        return
    accepted = _checked("token", _token, client)
    yield accepted
    if accepted.error is not None:
        return
    pages: list[RawPage] = []
    yield _checked("page size", partial(_page_size, wanted=config.page_size, pages=pages), client)
    if pages:
        yield _checked("shape", lambda _: _shape(pages[0], now()), client)
    yield _checked("paging", _paging, client)
    yield _checked("dates", partial(_dates, now=now()), client)
    yield _checked("status", _status, client)


def _checked(name: str, check: Callable[[VoiceOSClient], Finding], client: VoiceOSClient) -> Finding:
    try:
        return check(client)
    except VoiceOSError as error:
        return Finding(name, "failed", str(error), error=error)


def _contract_broken(name: str, message: str) -> Finding:
    return Finding(name, "failed", message, error=VoiceOSContractError(message))


def _api(client: VoiceOSClient) -> Finding:
    client.check_health()
    return Finding("API", "ok", "The API responds.")


def _token(client: VoiceOSClient) -> Finding:
    next(client.list_raw(page_size=1), None)
    return Finding("token", "ok", "The token is accepted and may list conversations.")


def _clock(client: VoiceOSClient, now: Callable[[], datetime]) -> Finding:
    """Compare this machine's clock with the `Date` header of a response, which counts whole seconds."""
    from voiceos_provider.client.requests import health
    from voiceos_provider.client.responses import parse_date

    server_time = None
    before = now()
    with suppress(VoiceOSError):
        server_time = client.send(health(), parse_date)
    after = now()
    if server_time is None:
        return Finding("clock", "unknown", "No response had a Date header.")
    middle = before + (after - before) / 2
    skew = (middle - server_time).total_seconds() - 0.5
    error = 0.5 + (after - before).total_seconds() / 2
    measured = {"skew_seconds": round(skew, 1), "error_seconds": round(error, 1)}
    if abs(skew) <= _SKEW_ALLOWED + error:
        message = f"This machine's clock is within {max(abs(skew), error):.1f} s of the server's."
        return Finding("clock", "ok", message, measured)
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        "clock",
        "warning",
        f"This machine's clock is {abs(skew):,.0f} s {direction} the server's. Synchronize it: exports use the "
        "server's clock, but sensors and the default day of a command use this machine's.",
        measured,
    )


def _page_size(client: VoiceOSClient, *, wanted: int, pages: list[RawPage]) -> Finding:
    """Request the largest page, and append it to `pages`."""
    try:
        page = next(iter(client.list_raw(page_size=MAX_PAGE_SIZE)))
    except VoiceOSBadRequestError:
        pages.append(next(iter(client.list_raw())))
        return Finding(
            "page size",
            "ok",
            f"The server refuses limit={MAX_PAGE_SIZE:,} and accepts page_size={wanted:,}.",
            {"asked": MAX_PAGE_SIZE, "got": len(pages[0].items), "more_follow": pages[0].has_more},
        )
    pages.append(page)
    got = len(page.items)
    measured = {"asked": MAX_PAGE_SIZE, "got": got, "more_follow": page.has_more}
    if got >= MAX_PAGE_SIZE:
        return Finding("page size", "ok", f"The server accepts limit={MAX_PAGE_SIZE:,}.", measured)
    if not page.has_more:
        message = f"There are only {got:,} conversations, too few to measure the largest page."
        return Finding("page size", "unknown", message, measured)
    measured["honoured"] = got
    if got < wanted:
        return Finding(
            "page size",
            "warning",
            f"The server sends at most {got:,} conversations per page; page_size is {wanted:,}. Nothing is lost; "
            f"set page_size to {got:,}.",
            measured,
        )
    message = f"The server sends at most {got:,} conversations per page; page_size is {wanted:,}."
    return Finding("page size", "ok", message, measured)


def _shape(page: RawPage, now: datetime) -> Finding:
    """Decode a page as an export does, and report what the API contract does not document."""
    from voiceos_provider.interval import Interval
    from voiceos_provider.transform import Decoder

    decoded = Decoder(Interval(_LONG_AGO, now), now).decode(page.items)
    drift, rejected = decoded.drift, len(decoded.rejected)
    measured = {"conversations": len(page.items), "rejected": rejected, **drift.as_dict()}
    deviations = [str(drift)] if drift else []
    if rejected:
        deviations.append(f"{rejected:,} conversations without a usable id")
    if page.has_more is None:
        deviations.append("has_more is neither true nor false")
    if deviations:
        message = f"Not as documented: {'; '.join(deviations)}. An export keeps these values."
        return Finding("shape", "warning", message, measured)
    if not page.items:
        return Finding("shape", "unknown", "There is no conversation to examine.", measured)
    return Finding("shape", "ok", f"{len(page.items):,} conversations are as documented.", measured)


def _paging(client: VoiceOSClient) -> Finding:
    """Check that the second page has other conversations than the first."""
    first, *second = islice(client.list_raw(page_size=1), 2)
    if not second or not second[0].items:
        if first.has_more and first.items:
            return _contract_broken("paging", "Page 1 has has_more: true, and page 2 is empty.")
        return Finding("paging", "unknown", "There is only one page.")
    if set(second[0].ids) & set(first.ids):
        message = "Page 2 repeats page 1: the server ignores index, or the list grows quickly."
        return _contract_broken("paging", message)
    return Finding("paging", "ok", "Page 2 has other conversations than page 1.")


def _dates(client: VoiceOSClient, *, now: datetime) -> Finding:
    """Check both bounds with a range that must be empty."""
    empty = {
        "created_before": client.list_raw(page_size=1, created_before=_LONG_AGO),
        "created_after": client.list_raw(page_size=1, created_after=now + timedelta(days=1)),
    }
    for bound, pages in empty.items():
        if next(pages).items:
            message = f"The server ignores {bound}: it lists conversations outside of the range."
            return _contract_broken("dates", message)
    return Finding("dates", "ok", "The server applies created_after and created_before.")


def _status(client: VoiceOSClient) -> Finding:
    from voiceos_provider.interval import Interval
    from voiceos_provider.transform import Decoder

    page = next(iter(client.list_raw(page_size=10, status="ended")))
    now = datetime.now(UTC)
    decoded = Decoder(Interval(_LONG_AGO, now), now, statuses=("ended",)).decode(page.items)
    if decoded.filtered or decoded.pending:
        message = "The server ignores status: with status=ended it lists conversations in other states."
        return _contract_broken("status", message)
    if not page.items:
        return Finding("status", "unknown", "No conversation has ended.")
    return Finding("status", "ok", "The server applies status.")
