"""The walk of one export: pages become rows, rows go to a target, the target gives a receipt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

import pyarrow.compute as pc

from voiceos_provider.client import RawPage, Rejected
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSValueError
from voiceos_provider.extract.bounds_check import WindowWatch
from voiceos_provider.interval import Interval
from voiceos_provider.load.receipt import ExportReceipt, Reading
from voiceos_provider.load.spool import Left
from voiceos_provider.load.workdir import Checkpoint, WorkDir
from voiceos_provider.pipeline.counters import Counters
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.transform import TABLES, Decoded, Decoder, Drift, Redaction, Rows, Table
from voiceos_provider.transform.schema import CONVERSATIONS

log = logging.getLogger(__name__)

SchemaDrift = Literal["keep", "fail"]

_PROGRESS_EVERY = 10.0
_DECODED_AT_ONCE = 1_000
_SAVE_EVERY = 5.0


class Writer(Protocol):
    """Takes rows; nobody sees them before `publish`."""

    def write(self, rows: Mapping[str, Rows]) -> None:
        """Take rows of every table; of those of one conversation, the last ones count."""

    def reject(self, rejected: list[Rejected]) -> None:
        """Set conversations aside that cannot be rows."""

    def secure(self) -> dict[str, Any]:
        """Have everything outlive this process; returns what another writer needs to go on."""
        ...

    def left(self) -> Left:
        """What an earlier writer has left to this one."""
        ...

    def publish(self, reading: Reading) -> ExportReceipt:
        """Make all rows visible at once."""
        ...


class Destination(Protocol):
    """A place for tables."""

    @property
    def uri(self) -> str:
        """What to call it, without credentials."""
        ...

    @property
    def workdir(self) -> WorkDir:
        """Where rows wait on this machine, with what an earlier try has left there."""
        ...

    @property
    def interval(self) -> Interval | None:
        """What it was made for; None for any."""
        ...

    @property
    def exported_at(self) -> datetime | None:
        """When the export began, if that matters to it."""
        ...

    def open(self, tables: Sequence[Table]) -> AbstractContextManager[Writer]:
        """A writer; leaving it without publishing leaves nothing behind that anybody sees."""
        ...


def export(
    pages: Iterable[RawPage],
    target: Destination,
    *,
    interval: Interval,
    statuses: Collection[str],
    exported_at: datetime,
    tables: Sequence[Table] = TABLES,
    redaction: Redaction | None = None,
    schema_drift: SchemaDrift = "keep",
    late_arrivals: LateArrivals | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> ExportReceipt:
    """Write every conversation of the pages to the target, then publish all of them at once.

    :param pages: what the API lists for the interval, or for what an earlier try has left of it: see
        `tally.left_to_read`. Memory holds a few of them at a time
    :param target: where the rows go
    :param interval: the interval of creation time that was asked for
    :param statuses: only conversations in these states are kept; empty keeps all
    :param exported_at: when the export began; if an earlier try is gone on with, it is that one's
    :param tables: the tables to write
    :param redaction: what is kept of people; everything by default
    :param schema_drift: whether what the contract does not know is kept and named, or fails the export
    :param late_arrivals: conversations of earlier intervals to export with these, if they have ended
    :param monotonic: the clock for progress, in seconds
    :raises VoiceOSValueError: if the target was made for another interval, or another time
    :raises VoiceOSError: and then no file is half written; if it stopped between two tables, some of an interval that
        was exported before may be replaced already
    """
    workdir = target.workdir
    tally = Counters.begin(workdir.checkpoint, interval=interval, statuses=statuses, exported_at=exported_at)
    _require_made_for(target, interval, tally.exported_at)
    log.info("Exporting conversations created in %s%s to %s.", interval, _of(statuses), target.uri)
    progress = _Progress(monotonic)
    with target.open(tables) as writer:
        left = writer.left()
        decoder = Decoder(
            interval,
            tally.exported_at,
            statuses=statuses,
            redaction=redaction,
            decoded=left.conversations,
            configurations=left.configurations,
        )

        def take(some: list[RawPage], *, created_in: Interval = interval) -> Decoded:
            rows = decoder.decode([item for page in some for item in page.items], interval=created_in)
            _tell(rows.drift.difference(tally.drift), schema_drift)
            writer.write(rows.rows)
            writer.reject(rows.rejected)
            tally.add(some, rows)
            progress.tell(tally.reading)
            return rows

        saved_at = monotonic() if workdir.is_kept else 0.0
        watch = WindowWatch(interval)
        for some in _gathered(pages):
            rows = take(some)
            watch.look(some, pc.min(rows.rows[CONVERSATIONS.name].batch.column("started_at")).as_py())
            tally.pending.update(rows.pending, rows.unfinished)
            if workdir.is_kept and monotonic() - saved_at >= _SAVE_EVERY:
                saved_at = monotonic()
                workdir.save(Checkpoint(read=tally.as_json(), written=writer.secure()))
            del some, rows  # before the next are gathered
        watch.close()
        if late_arrivals:
            for earlier, some in late_arrivals.pages():
                take(some, created_in=earlier)
            tally.reading = replace(tally.reading, **late_arrivals.account())
        receipt = writer.publish(tally.closed())
    log.info("Exported %s.", receipt)
    return receipt


def _require_made_for(target: Destination, interval: Interval, exported_at: datetime) -> None:
    for name, theirs, ours in (
        ("interval", target.interval, interval),
        ("exported_at", target.exported_at, exported_at),
    ):
        if theirs not in (None, ours):
            raise VoiceOSValueError(f"The target was made for {name} {theirs}, and the export is of {ours}.")


def choose_schema_drift(choice: str) -> SchemaDrift:
    """:raises VoiceOSValueError: if there is no such choice"""
    for known in get_args(SchemaDrift):
        if choice == known:
            return known  # type: ignore[no-any-return]
    raise VoiceOSValueError(f"schema_drift {choice!r} is not one of {', '.join(get_args(SchemaDrift))}.")


def _gathered(pages: Iterable[RawPage]) -> Iterator[list[RawPage]]:
    """Pages a few at a time: columns are made of many rows at the price of one.

    The first page comes alone, so that what is wrong with all of them shows at once.
    """
    some: list[RawPage] = []
    enough = 1
    for page in pages:
        some.append(page)
        if sum(len(page.items) for page in some) >= enough:
            yield some
            some, enough = [], _DECODED_AT_ONCE
    if some:
        yield some


def _of(statuses: Collection[str]) -> str:
    return f" with status {' or '.join(sorted(statuses))}" if statuses else ""


def _tell(news: Drift, schema_drift: SchemaDrift) -> None:
    """Name once what the contract does not know; or fail for it.

    :raises VoiceOSContractError: if that was asked for
    """
    if not news:
        return
    if schema_drift == "fail":
        raise VoiceOSContractError(
            f"GET /conversations: {news}. schema_drift='keep' would export it all the same."
        )
    log.warning("The API sends what its contract does not know; it is kept: %s.", news)


class _Progress:
    """One line now and then while it works."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._began = self._told = monotonic()

    def tell(self, reading: Reading) -> None:
        now = self._monotonic()
        if now - self._told >= _PROGRESS_EVERY:
            self._told = now
            rate = reading.listed / max(now - self._began, 1e-9)
            log.info(
                "%s conversations on %s pages so far, %s a second.",
                f"{reading.listed:,}",
                f"{reading.pages:,}",
                f"{rate:,.0f}",
            )
