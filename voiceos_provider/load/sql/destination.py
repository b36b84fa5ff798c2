"""Tables of a database as the destination of an export: all rows become visible, or none."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.load.checkpoint import Checkpoint
from voiceos_provider.load.coverage import Export
from voiceos_provider.load.erasure import Erased
from voiceos_provider.load.pending import PendingConversations, previous_lookback_start, split_by_age
from voiceos_provider.load.plan import REJECTED, LoadPlan, WriteDisposition
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.load.sql.dialect import STAMP, Dialect
from voiceos_provider.load.sql.errors import InterferenceError, unreachable
from voiceos_provider.load.sql.job import LoadJob
from voiceos_provider.load.sql.plan import Rowset
from voiceos_provider.load.workdir import WorkDir, disk_error, disk_errors, is_disk_full
from voiceos_provider.load.writer import SpoolWriter
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import TABLES, Table
from voiceos_provider.transform.schema import CONVERSATIONS

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 8
_MAX_DELAY = 15.0
_MIN_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class _FailedAttempt:
    """Why an attempt failed, and whether another one may succeed in a moment.

    :param locked: another session held a lock, so that attempts go on until `lock_timeout` has passed
    """

    error: VoiceOSError
    transient: bool = False
    locked: bool = False


class SqlDestination:
    """Tables of a database.

    :param connect: opens a connection without autocommit, a new one for each attempt
    :param dialect: the dialect of the engine, for the namespace of the tables
    :param uri: address of the first table, without credentials
    :param sleep: waits between two attempts, in seconds
    :param rng: source of random delays
    :param now: clock for the start of a load; None for the stamp of the dialect
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        dialect: Dialect,
        *,
        uri: str,
        write_disposition: WriteDisposition = "merge",
        create_tables: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._connect = connect
        self._dialect = dialect
        self._write_disposition = write_disposition
        self._create_tables = create_tables
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._now = now
        self.uri = uri

    @property
    def lock_wait(self) -> float:
        """Seconds that the load waited for other loads into the same namespace."""
        return self._dialect.lock_wait

    @property
    def table_prefix(self) -> str:
        """The beginning of each table name."""
        return self._dialect.namespace.prefix

    def plan(self, tables: Sequence[Table], interval: Interval, exported_at: datetime) -> LoadPlan:
        """Return what a load is to do to some tables."""
        return LoadPlan(
            tables=tuple(tables),
            disposition=self._write_disposition,
            interval=interval,
            exported_at=exported_at,
            create=self._create_tables,
        )

    @contextmanager
    def open(self, options: ExportOptions, workdir: WorkDir, *, exported_at: datetime) -> Iterator[SqlWriter]:
        """Yield a writer; see `Destination`."""
        capabilities = self._dialect.capabilities
        if capabilities.experimental:
            log.warning(
                "The %s dialect is experimental: it was tested with an emulator, not with %s itself.",
                capabilities.name,
                capabilities.title,
            )
        tables = (*options.tables, REJECTED) if options.max_bad_records else options.tables
        plan = self.plan(tables, options.interval, exported_at)
        self._dialect.require_names(tables)
        self.load(plan, [], LoadJob.check)
        with workdir.folder() as folder:
            yield SqlWriter(self, plan, folder, options, workdir.checkpoint)

    def find_pending(self, interval: Interval, max_age: timedelta) -> PendingConversations:
        """Return the conversations of earlier intervals whose rows have not ended; see `Destination`."""
        plan = self.plan([CONVERSATIONS], interval, interval.end)
        earliest = previous_lookback_start(interval, max_age)
        found = self.load(plan, [], lambda job: job.pending(earliest, interval.start))
        return split_by_age(found, interval, max_age)

    def exports(self) -> list[Export]:
        """Return the exports whose conversations are in the table; an interval without conversations leaves none.

        :raises VoiceOSError: if the database cannot be reached
        """
        now = datetime.now(UTC)
        plan = self.plan([CONVERSATIONS], Interval(now, now), now)
        self._dialect.require_names(plan.tables)
        return [
            Export(
                target=self.uri,
                interval=Interval(start, end),
                exported_at=exported_at,
                rows=int(rows),
                pending=int(pending),
                cost=None if cost is None else round(float(cost), 6),
            )
            for start, end, exported_at, rows, pending, cost in self.load(plan, [], LoadJob.intervals)
        ]

    def erase(self, ids: Sequence[str]) -> Erased:
        """Delete the rows of conversations, in one transaction if the engine has transactions.

        :raises VoiceOSError: if the database cannot be reached, or refuses
        """
        now = datetime.now(UTC)
        self._dialect.stamp = f"{now:{STAMP}}"
        plan = self.plan([*TABLES, REJECTED], Interval(now, now), now)
        self._dialect.require_names(plan.tables)
        erased: Erased = self.load(plan, [], lambda job: job.erase(ids))
        return erased

    def load(self, plan: LoadPlan, rowsets: Sequence[Rowset], step: Callable[[LoadJob], Any]) -> Any:
        """Run a step of a load job; again after a transient failure, such as a deadlock or a restart.

        :raises VoiceOSError: if attempts do not help; the message contains no value of a row
        """
        started = time.monotonic()
        if rowsets and self._now:
            self._dialect.stamp = f"{self._now():{STAMP}}"
        for attempt in count(1):
            outcome, failed = self._attempt(plan, rowsets, step)
            if failed is None:
                return outcome
            waited, lock_timeout = time.monotonic() - started, self._dialect.lock_timeout
            remaining = (lock_timeout if failed.locked else max(_MIN_PATIENCE, lock_timeout)) - waited
            exhausted = attempt == _MAX_ATTEMPTS and not failed.locked
            if not failed.transient or exhausted or remaining <= 0:
                # Outside the `except`, so that the driver's error, which may contain rows, is not its context.
                raise failed.error
            delay = self._rng.uniform(0.5, 1) * min(_MAX_DELAY, 0.5 * 2**attempt)
            if failed.locked:
                delay = min(delay, max(remaining, 0.01))
                self._dialect.lock_wait += delay
                log.info("Waiting for another load into %s: %s", self._dialect.namespace, failed.error)
            else:
                log.warning("%s Retrying in %.1f s (attempt %s).", failed.error, delay, attempt + 1)
            self._sleep(delay)
        raise AssertionError("unreachable")

    def _attempt(
        self, plan: LoadPlan, rowsets: Sequence[Rowset], step: Callable[[LoadJob], Any]
    ) -> tuple[Any, _FailedAttempt | None]:
        dialect, connection = self._dialect, None
        job = LoadJob(dialect, plan, rowsets)
        try:
            connection = self._connect()
            job.open(connection)
            return step(job), None
        except VoiceOSError as error:
            conflict = isinstance(error, InterferenceError) and not dialect.capabilities.has_load_lock
            return None, _FailedAttempt(error, transient=conflict)
        except Exception as error:  # noqa: BLE001  each driver has errors of its own
            if job.read_error is not None:
                return None, _FailedAttempt(job.read_error)
            if is_disk_full(error):
                return None, _FailedAttempt(disk_error(error))
            failure = unreachable(error) if isinstance(error, OSError) else dialect.classify(error)
            exception = failure.to_exception(dialect.capabilities.title, job.action, rows_sent=job.rows_sent)
            transient = failure.transient and (bool(rowsets) or not failure.lost)
            return None, _FailedAttempt(exception, transient, failure.locked)
        finally:
            if connection is not None:
                with suppress(Exception):
                    job.clean_up()
                with suppress(Exception):
                    connection.close()


class SqlWriter(SpoolWriter):
    """Writer of `SqlDestination`."""

    def __init__(
        self,
        destination: SqlDestination,
        plan: LoadPlan,
        folder: Path,
        options: ExportOptions,
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__(folder, options, checkpoint, target=destination.uri)
        self._destination = destination
        self._plan = plan

    def _refuse_rejected(self) -> str:
        table = f"{self._destination.table_prefix}{REJECTED.name}"
        return f"Nothing was loaded. A higher value sets them aside in the table {table}."

    def _publish(self, receipt: ExportReceipt) -> ExportReceipt:
        """Load all rows, in one transaction if the engine has transactions."""
        with disk_errors(self._folder):
            rowsets = self._rowsets()
        loaded = self._destination.load(self._plan, rowsets, LoadJob.run)
        return replace(receipt, tables=loaded, lock_wait_seconds=round(self._destination.lock_wait, 3))

    def _rowsets(self) -> list[Rowset]:
        """Return the rows of each table; of conversations that are not to be loaded, only the ids."""
        rowsets = [
            Rowset(table, self._spool.rows(table), partial(self._spool.batches, table), table.columns)
            for table in self._options.tables
        ]
        if CONVERSATIONS not in self._options.tables:
            rows, id_ = self._spool.rows(CONVERSATIONS), CONVERSATIONS.column("id")
            rowsets.append(Rowset(CONVERSATIONS, rows, partial(self._spool.batches, CONVERSATIONS), (id_,)))
        if self._options.max_bad_records:
            batch = self._rejects()
            rowsets.append(Rowset(REJECTED, len(batch), lambda: iter([batch]), REJECTED.columns))
        return rowsets

    def _rejects(self) -> pa.RecordBatch:
        interval = self._plan.interval
        rows = [
            {
                "ordinal": ordinal,
                "reason": rejected.reason,
                "conversation": bytes(rejected.raw).decode(),
                "_interval_start": interval.start,
                "_interval_end": interval.end,
                "_exported_at": self._plan.exported_at,
            }
            for ordinal, rejected in enumerate(self._spool.rejects(), 1)
        ]
        return pa.RecordBatch.from_pylist(rows, schema=REJECTED.schema)
