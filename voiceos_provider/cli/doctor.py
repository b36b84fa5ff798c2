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
    from voiceos_provider.transform import Decoded

Outcome = Literal["ok", "warning", "failed", "unknown"]
_Result = tuple[Outcome, str, dict[str, Any]]
"""Outcome, message and measurements of one check."""

MAX_PAGE_SIZE = 1_000
"""The largest page_size that a connection may have."""

_SKEW_ALLOWED = 5.0
_LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)
_COLORS = {"ok": "green", "warning": "yellow", "failed": "red", "unknown": "dim"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check: a sentence to read, what was measured, and the error of a check that failed."""

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
    """
    from voiceos_provider.client import Retry, VoiceOSClient

    config = replace(config, retry=Retry(max_attempts=1, deadline=0))
    with VoiceOSClient(config, transport=transport) as client:
        return list(_Checks(client, now).run())


class _Checks:
    """The checks of one API. Each returns its outcome, or raises the error that makes it fail."""

    def __init__(self, client: VoiceOSClient, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._page: RawPage | None = None

    def run(self) -> Iterator[Finding]:
        yield (reached := _finding("API", self._api))
        yield _finding("clock", self._clock)
        if reached.error is not None:
            return
        yield (accepted := _finding("token", self._token))
        if accepted.error is not None:
            return
        yield _finding("page size", self._page_size)
        if self._page is not None:
            yield _finding("shape", partial(self._shape, self._page))
        yield _finding("paging", self._paging)
        yield _finding("dates", self._dates)
        yield _finding("status", self._status)

    def _api(self) -> _Result:
        self._client.check_health()
        return "ok", "The API responds.", {}

    def _token(self) -> _Result:
        next(self._client.list_raw(page_size=1), None)
        return "ok", "The token is accepted and may list conversations.", {}

    def _clock(self) -> _Result:
        """Compare this machine's clock with the `Date` header of a response, which counts whole seconds."""
        from voiceos_provider.client.requests import health
        from voiceos_provider.client.responses import parse_date

        server_time = None
        before = self._now()
        with suppress(VoiceOSError):
            server_time = self._client.send(health(), parse_date)
        after = self._now()
        if server_time is None:
            return "unknown", "No response had a Date header.", {}
        middle = before + (after - before) / 2
        skew = (middle - server_time).total_seconds() - 0.5
        error = 0.5 + (after - before).total_seconds() / 2
        measured = {"skew_seconds": round(skew, 1), "error_seconds": round(error, 1)}
        if abs(skew) <= _SKEW_ALLOWED + error:
            return (
                "ok",
                f"This machine's clock is within {max(abs(skew), error):.1f} s of the server's.",
                measured,
            )
        direction = "ahead of" if skew > 0 else "behind"
        return (
            "warning",
            f"This machine's clock is {abs(skew):,.0f} s {direction} the server's. Synchronize it: exports use the "
            "server's clock, but sensors and the default day of a command use this machine's.",
            measured,
        )

    def _page_size(self) -> _Result:
        """Request the largest page, and keep it for the check of its shape."""
        wanted = self._client.config.page_size
        try:
            page = next(iter(self._client.list_raw(page_size=MAX_PAGE_SIZE)))
            refused = False
        except VoiceOSBadRequestError:
            page = next(iter(self._client.list_raw()))
            refused = True
        self._page = page
        got = len(page.items)
        measured = {"asked": MAX_PAGE_SIZE, "got": got, "more_follow": page.has_more}
        if refused:
            message = f"The server refuses limit={MAX_PAGE_SIZE:,} and accepts page_size={wanted:,}."
            return "ok", message, measured
        if got >= MAX_PAGE_SIZE:
            return "ok", f"The server accepts limit={MAX_PAGE_SIZE:,}.", measured
        if not page.has_more:
            message = f"There are only {got:,} conversations, too few to measure the largest page."
            return "unknown", message, measured
        measured["honoured"] = got
        message = f"The server sends at most {got:,} conversations per page; page_size is {wanted:,}."
        if got < wanted:
            return "warning", f"{message} Nothing is lost; set page_size to {got:,}.", measured
        return "ok", message, measured

    def _shape(self, page: RawPage) -> _Result:
        """Decode a page as an export does, and report what the API contract does not document."""
        decoded = _decoded(page, self._now())
        drift, rejected = decoded.drift, len(decoded.rejected)
        measured = {"conversations": len(page.items), "rejected": rejected, **drift.as_dict()}
        deviations = [str(drift)] if drift else []
        if rejected:
            deviations.append(f"{rejected:,} conversations without a usable id")
        if page.has_more is None:
            deviations.append("has_more is neither true nor false")
        if deviations:
            message = f"Not as documented: {'; '.join(deviations)}. An export keeps these values."
            return "warning", message, measured
        if not page.items:
            return "unknown", "There is no conversation to examine.", measured
        return "ok", f"{len(page.items):,} conversations are as documented.", measured

    def _paging(self) -> _Result:
        """Check that the second page has other conversations than the first."""
        first, *second = islice(self._client.list_raw(page_size=1), 2)
        if not second or not second[0].items:
            if first.has_more and first.items:
                raise VoiceOSContractError("Page 1 has has_more: true, and page 2 is empty.")
            return "unknown", "There is only one page.", {}
        if set(second[0].ids) & set(first.ids):
            raise VoiceOSContractError(
                "Page 2 repeats page 1: the server ignores index, or the list grows quickly."
            )
        return "ok", "Page 2 has other conversations than page 1.", {}

    def _dates(self) -> _Result:
        """Check both bounds with a range that must be empty."""
        tomorrow = self._now() + timedelta(days=1)
        empty = {
            "created_before": self._client.list_raw(page_size=1, created_before=_LONG_AGO),
            "created_after": self._client.list_raw(page_size=1, created_after=tomorrow),
        }
        for bound, pages in empty.items():
            if next(pages).items:
                raise VoiceOSContractError(
                    f"The server ignores {bound}: it lists conversations outside of the range."
                )
        return "ok", "The server applies created_after and created_before.", {}

    def _status(self) -> _Result:
        page = next(iter(self._client.list_raw(page_size=10, status="ended")))
        decoded = _decoded(page, self._now(), statuses=("ended",))
        if decoded.filtered or decoded.pending:
            raise VoiceOSContractError(
                "The server ignores status: with status=ended it lists conversations in other states."
            )
        if not page.items:
            return "unknown", "No conversation has ended.", {}
        return "ok", "The server applies status.", {}


def _finding(name: str, check: Callable[[], _Result]) -> Finding:
    try:
        return Finding(name, *check())
    except VoiceOSError as error:
        return Finding(name, "failed", str(error), error=error)


def _decoded(page: RawPage, now: datetime, **options: Any) -> Decoded:
    from voiceos_provider.interval import Interval
    from voiceos_provider.transform import Decoder

    return Decoder(Interval(_LONG_AGO, now), now, **options).decode(page.items)
