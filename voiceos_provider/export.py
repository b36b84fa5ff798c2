"""The walk of one export: pages become rows, rows go to a target, the target gives a receipt."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.api.models import Rejected
from voiceos_provider.api.paging import RawPage
from voiceos_provider.exceptions import VoiceOSContractError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.records import SCHEMA, Decoder
from voiceos_provider.targets.receipt import ExportReceipt, Reading

log = logging.getLogger(__name__)

_CLOCK_SKEW = timedelta(hours=1)
"""How much earlier than its creation a conversation may claim to have started."""

_PROGRESS_EVERY = 10.0


class Writer(Protocol):
    """Takes rows; nobody sees them before `publish`."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows; of those with the same id, the last one counts."""

    def reject(self, rejected: list[Rejected]) -> None:
        """Set conversations aside that cannot be rows."""

    def publish(self, reading: Reading) -> ExportReceipt:
        """Make all rows visible at once."""
        ...


class Target(Protocol):
    """A place for tables."""

    uri: str

    def open(self, schema: pa.Schema) -> AbstractContextManager[Writer]:
        """A writer; leaving it without publishing leaves nothing behind."""
        ...


def export(
    pages: Iterable[RawPage],
    target: Target,
    *,
    interval: Interval,
    statuses: Collection[str],
    exported_at: datetime,
    monotonic: Callable[[], float] = time.monotonic,
) -> ExportReceipt:
    """Write every conversation of the pages to the target, then publish all of them at once.

    :param pages: what the API lists for the interval; memory holds one page at a time
    :param target: where the rows go
    :param interval: the interval of creation time that was asked for
    :param statuses: only conversations in these states are kept; empty keeps all
    :param exported_at: when the export began
    :param monotonic: the clock for progress, in seconds
    :raises VoiceOSError: and then nothing is published
    """
    log.info("Exporting conversations created in %s%s to %s.", interval, _of(statuses), target.uri)
    decoder = Decoder(interval, exported_at)
    reading = Reading(
        interval_start=isoformat(interval.start),
        interval_end=isoformat(interval.end),
        status=sorted(statuses) or None,
        exported_at=isoformat(exported_at),
    )
    odd: Counter[str] = Counter()
    progress = _Progress(monotonic)
    with target.open(SCHEMA) as writer:
        for page in pages:
            decoded = decoder.decode(page.items)
            _require_window(decoded.batch, interval)
            kept = _only(decoded.batch, statuses)
            writer.write(kept)
            writer.reject(decoded.rejected)
            odd.update(decoded.odd)
            reading = replace(
                reading,
                pages=reading.pages + 1,
                listed=reading.listed + len(page.items),
                filtered=reading.filtered + len(decoded.batch) - len(kept),
                rejected=reading.rejected + len(decoded.rejected),
                replaced_characters=reading.replaced_characters + page.replaced,
            )
            progress.tell(reading)
        receipt = writer.publish(replace(reading, odd_values=dict(sorted(odd.items()))))
    log.info("Exported %s.", receipt)
    return receipt


def _of(statuses: Collection[str]) -> str:
    return f" with status {' or '.join(sorted(statuses))}" if statuses else ""


def _only(batch: pa.RecordBatch, statuses: Collection[str]) -> pa.RecordBatch:
    if not statuses:
        return batch
    return batch.filter(pc.is_in(batch.column("status"), value_set=pa.array(sorted(statuses))))


def _require_window(batch: pa.RecordBatch, interval: Interval) -> None:
    """A conversation cannot have started long before it was created. If one has, the window was ignored.

    :raises VoiceOSContractError: and nothing is published, for the pages hold something else than was asked for
    """
    earliest = pc.min(batch.column("started_at")).as_py()
    if earliest is not None and interval.start - earliest > _CLOCK_SKEW:
        raise VoiceOSContractError(
            f"GET /conversations: asked for conversations created in {interval}, and got one that started at "
            f"{isoformat(earliest)}. The server ignores created_after, so the export would hold the wrong rows."
        )


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
