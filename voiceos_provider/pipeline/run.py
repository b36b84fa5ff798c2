"""The path of one export, from the API to a receipt, shared by operators, the hook and the command line.

`run_export` reads the interval with `extract`, decodes it with `transform`, and writes it to a destination of `load`.
Every few seconds the progress is saved in the work directory (`load.checkpoint`); after a kill a retry resumes from it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc

from voiceos_provider.client import RawPage, VoiceOSClient
from voiceos_provider.client.pages import parse_page
from voiceos_provider.exceptions import VoiceOSContractError
from voiceos_provider.extract.by_id import read_each
from voiceos_provider.extract.reader import PageParser, read_pages, read_windows
from voiceos_provider.extract.server_checks import check_index, check_readable
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.load.checkpoint import Checkpoint
from voiceos_provider.load.destination import Destination, Writer
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.load.spool import one_line
from voiceos_provider.load.workdir import WorkDir
from voiceos_provider.options import ExportOptions
from voiceos_provider.pipeline.counters import Counters
from voiceos_provider.pipeline.gc_threshold import fewer_collections
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.transform import Decoded, Decoder, Drift
from voiceos_provider.transform.schema import CONVERSATIONS

log = logging.getLogger(__name__)

_PROGRESS_EVERY = 10.0
_SAVE_EVERY = 5.0
_DECODED_AT_ONCE = 1_000
_EARLY = timedelta(hours=1)
"""How long before its interval a conversation may claim to have started without a warning."""

Pages = Iterable[RawPage]


def run_export(
    client: VoiceOSClient,
    destination: Destination,
    options: ExportOptions,
    *,
    workdir: WorkDir | None = None,
    observe: Callable[[Pages], Pages] = iter,
    sleep: Callable[[float], None] = time.sleep,
) -> ExportReceipt:
    """Export the conversations of an interval to a destination: all of them, or none.

    :param workdir: where rows wait until all are written, with the checkpoint of an earlier attempt
    :param observe: wraps the pages as they pass, to show progress
    :param sleep: waits, in seconds
    :raises VoiceOSError: as in `voiceos_provider.exceptions`; then nothing of this export is visible
    """
    workdir = workdir or WorkDir()
    wait_until_readable(client, options, sleep=sleep)
    counters = Counters.resume(workdir.checkpoint, options, now=datetime.now(UTC))
    late_arrivals = None
    if options.carry_pending is not None:
        due = destination.find_pending(options.interval, options.carry_pending)
        late_arrivals = LateArrivals(
            due, lambda ids: read_each(client, ids, max_concurrency=options.max_concurrency)
        )
    # The threads of the pages end with the export, also if that fails.
    with fewer_collections(), closing(_read(client, options, counters)) as pages:
        return write_pages(
            observe(pages), destination, options, counters, workdir=workdir, late_arrivals=late_arrivals
        )


def write_pages(
    pages: Pages,
    destination: Destination,
    options: ExportOptions,
    counters: Counters,
    *,
    workdir: WorkDir | None = None,
    late_arrivals: LateArrivals | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> ExportReceipt:
    """Decode pages, write their rows to a destination, and publish all of them at once.

    :param pages: the conversations of the interval; memory holds a few pages at a time
    :param counters: what an earlier attempt has read
    :param late_arrivals: conversations of earlier intervals to export with these, if they have ended
    :param monotonic: the clock of progress and checkpoints, in seconds
    """
    workdir = workdir or WorkDir()
    log.info("Exporting conversations created in %s to %s.", options.interval, destination.uri)
    with destination.open(options, workdir, exported_at=counters.exported_at) as writer:
        rows = _RowWriter(writer, options, counters, monotonic)
        for group in _grouped(pages):
            rows.write(group, options.interval)
            rows.save_checkpoint(workdir)
            del group  # before the next pages are gathered
        # A destination without transactions over several tables may publish some of them before it is killed.
        rows.save_checkpoint(workdir, at_once=True)
        if late_arrivals:
            with closing(late_arrivals.pages()) as groups:
                for interval, group in groups:
                    rows.write(group, interval)
            counters.add_late_arrivals(late_arrivals.counters())
        if rows.started_early:
            log.warning(
                "Conversations that started over an hour before their interval: %s (kept as sent).",
                f"{rows.started_early:,}",
            )
        receipt = writer.publish(counters.close())
    for line in receipt.log_lines():
        log.info("%s", line)
    return receipt


def read_interval(
    client: VoiceOSClient,
    options: ExportOptions,
    *,
    parse: PageParser = parse_page,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[RawPage]:
    """Yield the pages that hold the conversations of an interval; each conversation is on one of them.

    Nothing is sent before the first page is taken.

    :param parse: returns the page of a response; `split_page` leaves conversations as they were sent
    :param sleep: waits, in seconds
    :raises VoiceOSError: as `run_export` does
    """
    wait_until_readable(client, options, sleep=sleep)
    yield from _read(client, options, Counters.resume(None, options, now=datetime.now(UTC)), parse)


def wait_until_readable(
    client: VoiceOSClient, options: ExportOptions, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait for the visibility delay, and check that the server applies time bounds and page numbers.

    :raises VoiceOSValueError: if the interval has not ended
    :raises VoiceOSContractError: if the server ignores the bounds of creation time, or counts pages from 0
    """
    seconds = check_readable(client, options.interval, options.visibility_delay)
    if seconds > 0:
        log.info(
            "Waiting %.0f s for the visibility delay: the interval ended at %s.",
            seconds,
            isoformat(options.interval.end),
        )
        sleep(seconds)
    check_index(client, options.interval)


def _read(
    client: VoiceOSClient, options: ExportOptions, counters: Counters, parse: PageParser = parse_page
) -> Generator[RawPage]:
    """Return the pages of the interval, except for the ranges that an earlier attempt has read."""
    if options.read_strategy == "pages":
        # The API filters by one state; of several, all conversations are listed and filtered here. So they are for
        # `carry_pending`: what has not ended has to be seen to be known as pending.
        is_filtered = len(options.statuses) == 1 and options.carry_pending is None
        status = options.statuses[0] if is_filtered else None
        return read_pages(client, options.interval, status=status, read_again=counters.is_open, parse=parse)
    return read_windows(
        client,
        options.interval,
        remaining=options.interval.without(counters.covered),
        max_concurrency=options.max_concurrency,
        read_again=counters.is_open,
        parse=parse,
    )


def _grouped(pages: Pages) -> Iterator[list[RawPage]]:
    """Yield pages in small groups, because decoding many rows costs little more than decoding one.

    The first page is a group of its own, and no group is waited for until it holds more than all before it: an error
    common to all pages, or a limit of the destination that is exceeded, stops the reading early.
    """
    some: list[RawPage] = []
    total = waiting = 0
    for page in pages:
        some.append(page)
        waiting += len(page.items)
        if waiting and waiting >= min(total, _DECODED_AT_ONCE):
            yield some
            total += waiting
            some, waiting = [], 0
    if some:
        yield some


class _RowWriter:
    """Decodes pages, passes their rows to a writer, and counts them.

    :ivar started_early: conversations that claim to have started long before their interval
    """

    def __init__(
        self, writer: Writer, options: ExportOptions, counters: Counters, monotonic: Callable[[], float]
    ) -> None:
        resumed = writer.resumed()
        self._writer = writer
        self._options = options
        self._counters = counters
        self._monotonic = monotonic
        self._began = self._logged_at = self._saved_at = monotonic()
        self._rejected = resumed.rejected
        self.started_early = 0
        self._decoder = Decoder(
            options.interval,
            counters.exported_at,
            statuses=options.statuses,
            redaction=options.redaction,
            decoded=resumed.conversations,
            configurations=resumed.configurations,
        )

    def write(self, pages: list[RawPage], interval: Interval) -> None:
        """Write the rows of some pages.

        :param interval: the interval that their conversations were created in
        """
        decoded = self._decoder.decode([item for page in pages for item in page.items], interval=interval)
        _report_drift(decoded.drift.difference(self._counters.drift), self._options)
        self._writer.write(decoded.rows)
        # An attempt before this one may have read a part of the same range.
        rejected = [each for each in decoded.rejected if one_line(each.raw) not in self._rejected]
        self._writer.reject(rejected)
        self._counters.add(pages, decoded, repeated_rejects=len(decoded.rejected) - len(rejected))
        self.started_early += _started_early(decoded, interval)
        now, reading = self._monotonic(), self._counters.reading
        if now - self._logged_at >= _PROGRESS_EVERY:
            self._logged_at = now
            log.info(
                "Read %s conversations on %s pages, %s per second.",
                f"{reading.listed:,}",
                f"{reading.pages:,}",
                f"{reading.listed / max(now - self._began, 1e-9):,.0f}",
            )

    def save_checkpoint(self, workdir: WorkDir, *, at_once: bool = False) -> None:
        """Save what has been written, if a retry can use it and the last checkpoint is some seconds old.

        :param at_once: however old the last one is
        """
        if workdir.is_kept and (at_once or self._monotonic() - self._saved_at >= _SAVE_EVERY):
            self._saved_at = self._monotonic()
            workdir.save(Checkpoint(read=self._counters.progress(), written=self._writer.checkpoint()))


def _started_early(decoded: Decoded, interval: Interval) -> int:
    """Return how many conversations claim to have started long before the interval that they were created in."""
    starts = decoded.rows[CONVERSATIONS.name].batch.column("started_at")
    earliest = pc.min(starts).as_py()
    if earliest is None or interval.start - earliest <= _EARLY:
        return 0
    return int(pc.sum(pc.less(starts, interval.start - _EARLY)).as_py() or 0)


def _report_drift(drift: Drift, options: ExportOptions) -> None:
    """Log what the contract does not document, or raise if the options say so.

    :raises VoiceOSContractError: if `schema_drift` is ``fail``
    """
    if not drift:
        return
    if options.schema_drift == "fail":
        raise VoiceOSContractError(
            f"GET /conversations: {drift}. Set schema_drift='keep' to export it all the same."
        )
    log.warning("Schema drift: the API sends what its contract does not document; it is kept: %s.", drift)
