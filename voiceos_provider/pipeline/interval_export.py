"""How is an interval exported: when may it be read, in which way, and what of it is left to read?

The one way from a client to a receipt that operators, hook and terminal share.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal, get_args

from voiceos_provider.client import RawPage, VoiceOSClient
from voiceos_provider.client.requests import require_statuses
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSValueError
from voiceos_provider.interval import Interval, as_span, isoformat
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.pipeline.counters import left_to_read
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.pipeline.run import Destination, choose_schema_drift, export
from voiceos_provider.transform import Redaction, choose_tables

log = logging.getLogger(__name__)

ReadStrategy = Literal["windows", "pages"]

VISIBILITY_DELAY = timedelta(minutes=5)
"""How long after its creation a conversation may be missing from listings; the API does not say (unknown)."""

_CLOCKS_DIFFER = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(hours=1)


def export_interval(
    client: VoiceOSClient,
    target: Destination,
    *,
    interval: Interval,
    statuses: Collection[str] = (),
    tables: Sequence[str] | None = None,
    redaction: Redaction | None = None,
    schema_drift: str = "keep",
    read_strategy: str = "windows",
    visibility_delay: timedelta | float = VISIBILITY_DELAY,
    max_concurrency: int = 4,
    due: PendingConversations | None = None,
    exported_at: datetime | None = None,
    watch: Callable[[Iterable[RawPage]], Iterable[RawPage]] = iter,
    sleep: Callable[[float], None] = time.sleep,
) -> ExportReceipt:
    """Write the conversations of an interval to a target, all of them or none.

    :param client: where they come from
    :param target: where the rows go
    :param interval: the interval of creation time, in the past
    :param statuses: only conversations in these states; empty for all
    :param tables: the tables to write; None for all
    :param redaction: what is kept of people; everything by default
    :param schema_drift: ``keep`` or ``fail``
    :param read_strategy: ``windows`` or ``pages``: see `read_interval`
    :param visibility_delay: how long after the end of the interval it may be read; a number is of seconds
    :param max_concurrency: requests that may be under way at a time
    :param due: conversations of earlier intervals to ask for again
    :param exported_at: when the export began; when the target says, or now, by default
    :param watch: looks at the pages as they pass
    :param sleep: waits, in seconds
    :raises VoiceOSValueError: on a bad argument
    :raises VoiceOSError: as in `voiceos_provider.exceptions`
    """
    exported_at = exported_at or target.exported_at or datetime.now(UTC)
    interval.require_past(exported_at, tolerance=_LONGEST_WAIT)  # the server's clock decides: see below
    visibility_delay = as_span("visibility_delay", visibility_delay)
    if max_concurrency < 1:
        raise VoiceOSValueError(f"max_concurrency {max_concurrency} is not positive.")
    chosen, drift = choose_tables(tables), choose_schema_drift(schema_drift)
    pages = read_interval(
        client,
        interval,
        statuses,
        read_strategy=read_strategy,
        max_concurrency=max_concurrency,
        left=left_to_read(target.workdir.checkpoint, interval),
    )
    wait_until_settled(client, interval, visibility_delay, sleep=sleep)
    late_arrivals = None
    if due is not None:
        late_arrivals = LateArrivals(due, partial(client.read_each, max_concurrency=max_concurrency))
    return export(
        watch(pages),
        target,
        interval=interval,
        statuses=statuses,
        exported_at=exported_at,
        tables=chosen,
        redaction=redaction,
        schema_drift=drift,
        late_arrivals=late_arrivals,
    )


def read_interval(
    client: VoiceOSClient,
    interval: Interval,
    statuses: Collection[str] = (),
    *,
    read_strategy: str = "windows",
    max_concurrency: int = 4,
    left: Sequence[Interval] | None = None,
) -> Iterator[RawPage]:
    """The pages that hold the interval's conversations, as an export reads them. Nothing is sent before the first.

    A conversation on the edge of two slices, or of two pages, may come twice; an export keeps the later one.

    :param read_strategy: ``windows`` reads every conversation, in whatever state it is, and the reader filters;
        ``pages`` counts pages and asks for a single state, and may miss a conversation while others are deleted
    :param max_concurrency: requests that may be under way at a time, for slices
    :param left: what is left to read of the interval, for slices; None for all of it
    :raises VoiceOSValueError: on a bad argument
    """
    require_statuses(statuses)
    if read_strategy not in get_args(ReadStrategy):
        raise VoiceOSValueError(
            f"read_strategy {read_strategy!r} is not one of {', '.join(get_args(ReadStrategy))}."
        )
    if read_strategy == "windows":
        return client.read_windows([interval] if left is None else left, max_concurrency=max_concurrency)
    return client.list_raw(
        # Of several states the API knows nothing, so all are listed and the reader filters.
        status=next(iter(statuses)) if len(statuses) == 1 else None,
        created_after=interval.created_after,
        created_before=interval.created_before,
    )


def wait_until_settled(
    client: VoiceOSClient,
    interval: Interval,
    visibility_delay: timedelta = VISIBILITY_DELAY,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when nothing new can show up in the interval any more: see `seconds_to_settle`."""
    left = seconds_to_settle(client, interval, visibility_delay)
    if left > 0:
        log.info(
            "The interval ended at %s; waiting %.0f s until what was created in it has shown up (visibility_delay).",
            isoformat(interval.end),
            left,
        )
        sleep(left)


def seconds_to_settle(client: VoiceOSClient, interval: Interval, visibility_delay: timedelta) -> float:
    """How long something new can still show up in the interval: until so long after its end, by the server's clock.

    :param visibility_delay: how long after its creation a conversation may still be missing from listings
    :raises VoiceOSValueError: if the interval has not ended, by neither clock
    :raises VoiceOSContractError: if the server ignores the bounds of creation time
    """
    here, there = datetime.now(UTC), client.server_time()
    interval.require_past(max(here, there or here), tolerance=_CLOCKS_DIFFER)
    if there is None:
        there = here
    elif abs(there - here) > _CLOCKS_DIFFER:
        log.warning(
            "The clocks of this machine and of the server differ by %s; the server's counts.",
            abs(there - here),
        )
    left = (interval.end + visibility_delay - there).total_seconds()
    if left > (visibility_delay + _LONGEST_WAIT).total_seconds():
        raise VoiceOSContractError(
            f"The server's clock says {isoformat(there)}, long before interval_end {isoformat(interval.end)}, and this "
            f"machine's says {isoformat(here)}. One of them is wrong, so whether the interval has ended cannot be told."
        )
    return left
