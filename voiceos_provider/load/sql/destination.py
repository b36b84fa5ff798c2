"""Tables of a database as the destination of an export: all rows become visible, or none."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from voiceos_provider.client.pages import Rejected
from voiceos_provider.exceptions import VoiceOSError, VoiceOSExportError, VoiceOSValueError
from voiceos_provider.load.pending import Due, oldest, since
from voiceos_provider.load.receipt import ExportReceipt, Reading
from voiceos_provider.load.spool import Left, Spool
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import InterferenceError, unreachable
from voiceos_provider.load.sql.job import LoadJob
from voiceos_provider.load.sql.plan import REJECTED, LoadPlan, Rowset
from voiceos_provider.load.sql.session import Session
from voiceos_provider.load.workdir import Checkpoint, WorkDir, blaming_the_disk, is_of_the_disk, no_room
from voiceos_provider.transform import Rows, Table
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
    :param dialect: the dialect of the engine
    :param orders: the namespace, the tables, and what to do with existing rows
    :param uri: address of the first table, without credentials
    :param max_bad_records: conversations that may be set aside, in a table of their own, before the export fails
    :param workdir: the work directory, in which rows wait until all have been read
    :param sleep: waits between two attempts, in seconds
    :param dice: source of random delays
    :param now: clock for the start of a load; None for the stamp of the dialect
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        dialect: Dialect,
        orders: LoadPlan,
        *,
        uri: str,
        max_bad_records: int = 0,
        workdir: WorkDir | None = None,
        sleep: Callable[[float], None] = time.sleep,
        dice: random.Random | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._connect = connect
        self._dialect = dialect
        self._max_bad_records = max_bad_records
        if max_bad_records:
            orders = replace(orders, tables=(*orders.tables, REJECTED))
        self._plan = orders
        self._sleep = sleep
        self._rng = dice or random.Random()
        self._now = now
        self._lock_wait = 0.0
        self.interval = orders.interval
        self.exported_at = orders.exported_at
        self.workdir = workdir or WorkDir()
        self.uri = uri

    @property
    def lock_wait(self) -> float:
        """Seconds that the load waited for other loads into the same namespace."""
        return self._lock_wait

    @contextmanager
    def open(self, tables: Sequence[Table]) -> Iterator[SqlWriter]:
        """Yield a writer whose rows become visible when it publishes them.

        :raises VoiceOSError: at once, if the database cannot be reached, or its tables cannot take the rows
        """
        capabilities = self._dialect.capabilities
        if capabilities.experimental:
            log.warning(
                "The %s dialect is experimental: it was tested with an emulator, not with %s itself.",
                capabilities.name,
                capabilities.title,
            )
        self._require_names()
        self.load([], LoadJob.check)
        with self.workdir.folder() as folder:
            yield SqlWriter(
                self,
                folder,
                tables,
                self._plan,
                max_bad_records=self._max_bad_records,
                checkpoint=self.workdir.checkpoint,
            )

    def due(self, max_age: timedelta) -> Due:
        """Return the pending conversations of earlier intervals, which this export reads again.

        :param max_age: how long after the end of its interval a conversation is read again
        :raises VoiceOSError: if the database cannot be reached
        """
        interval = self._plan.interval
        recent = max(oldest(interval, max_age), since(interval, max_age))
        ids = self.load([], lambda job: job.pending(recent, interval.start))
        older = self.load([], lambda job: job.pending(since(interval, max_age), recent))
        return Due(ids, tuple(older))

    def _require_names(self) -> None:
        namespace = self._plan.namespace
        if namespace.schema is None and self._dialect.capabilities.needs_schema:
            raise VoiceOSValueError(
                f"Set schema to the dataset of the tables; {self._dialect.title} needs one."
            )
        if namespace.schema is not None:
            self._dialect.require_name("schema", namespace.schema)
        for table in self._plan.tables:
            self._dialect.require_name("table_prefix", namespace.prefix + table.name)

    def load(self, rowsets: Sequence[Rowset], step: Callable[[LoadJob], Any]) -> Any:
        """Run a step of a load job; again after a transient failure, such as a deadlock or a restart.

        :raises VoiceOSError: if attempts do not help; the message contains no value of a row
        """
        started = time.monotonic()
        if rowsets and self._now:
            self._dialect.start_load(self._now())
        for attempt in count(1):
            outcome, failed = self._attempt(rowsets, step)
            if failed is None:
                return outcome
            waited, lock_timeout = time.monotonic() - started, self._plan.lock_timeout
            remaining = (lock_timeout if failed.locked else max(_MIN_PATIENCE, lock_timeout)) - waited
            exhausted = attempt == _MAX_ATTEMPTS and not failed.locked
            if not failed.transient or exhausted or remaining <= 0:
                # Outside the `except`, so that the driver's error, which may contain rows, is not its context.
                raise failed.error
            delay = self._rng.uniform(0.5, 1) * min(_MAX_DELAY, 0.5 * 2**attempt)
            if failed.locked:
                delay = min(delay, max(remaining, 0.01))
                self._lock_wait += delay
                log.info("Waiting for another load into %s: %s", self._plan.namespace, failed.error)
            else:
                log.warning("%s Retrying in %.1f s (attempt %s).", failed.error, delay, attempt + 1)
            self._sleep(delay)
        raise AssertionError("unreachable")

    def _attempt(
        self, rowsets: Sequence[Rowset], step: Callable[[LoadJob], Any]
    ) -> tuple[Any, _FailedAttempt | None]:
        session: Session | None = None
        job: LoadJob | None = None
        try:
            session = self._dialect.open(self._connect())
            job = LoadJob(session, self._dialect, self._plan, rowsets)
            job.configure()
            return step(job), None
        except VoiceOSError as error:
            conflict = isinstance(error, InterferenceError) and not self._dialect.capabilities.has_load_lock
            return None, _FailedAttempt(error, transient=conflict)
        except Exception as error:  # noqa: BLE001  each driver has errors of its own
            if job is not None and job.read_error is not None:
                return None, _FailedAttempt(job.read_error)
            if is_of_the_disk(error):
                return None, _FailedAttempt(no_room(error))
            failure = unreachable(error) if isinstance(error, OSError) else self._dialect.classify(error)
            exception = failure.to_exception(
                self._dialect.title,
                job.action if job else "connect",
                rows_sent=job is not None and job.rows_sent,
            )
            transient = failure.transient and (bool(rowsets) or not failure.lost)
            return None, _FailedAttempt(exception, transient, failure.locked)
        finally:
            if session is not None:
                self._lock_wait += session.lock_wait
                if job is not None:
                    with suppress(Exception):
                        job.clean_up()
                with suppress(Exception):
                    session.close()


class SqlWriter:
    """Writer of one export, returned by `SqlDestination.open`."""

    def __init__(
        self,
        destination: SqlDestination,
        folder: Path,
        tables: Sequence[Table],
        plan: LoadPlan,
        *,
        max_bad_records: int,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._destination = destination
        self._folder = folder
        self._tables = tuple(tables)
        self._plan = plan
        self._max_bad_records = max_bad_records
        written: Mapping[str, Any] = checkpoint.written if checkpoint else {"spool": None, "rejected": ()}
        self._rejected = [Rejected(reason, raw.encode()) for reason, raw in written["rejected"]]
        with blaming_the_disk(folder):
            self._spool = Spool(folder, tables, written=written["spool"])

    def write(self, rows: Mapping[str, Rows]) -> None:
        """Add rows. If a conversation comes several times, its last rows count."""
        with blaming_the_disk(self._folder):
            self._spool.append(rows)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Set conversations aside that cannot be keyed.

        :raises VoiceOSExportError: if there are more than allowed
        """
        self._rejected += rejected
        if len(self._rejected) > self._max_bad_records:
            raise VoiceOSExportError(
                f"{len(self._rejected):,} conversations cannot be keyed ({rejected[-1].reason}), more than "
                f"max_bad_records={self._max_bad_records}. Nothing was loaded. A higher value sets them aside in the "
                f"table {self._plan.namespace.prefix}{REJECTED.name}."
            )

    def secure(self) -> dict[str, Any]:
        """Flush all rows to files that outlive this process; return the state from which another writer resumes."""
        with blaming_the_disk(self._folder):
            rejected = [(each.reason, each.raw.decode(errors="replace")) for each in self._rejected]
            return {"spool": self._spool.secure(), "rejected": rejected}

    def left(self) -> Left:
        """Return the resume state of an earlier writer."""
        return self._spool.left()

    def publish(self, reading: Reading) -> ExportReceipt:
        """Load all rows, in one transaction if the engine has transactions.

        :raises VoiceOSExportError: if the counts do not add up, or the engine refuses the rows
        """
        with blaming_the_disk(self._folder):
            duplicates = self._spool.seal()
        exported = self._spool.conversations - duplicates
        reading.require_sum(exported, duplicates)
        with blaming_the_disk(self._folder):
            rowsets = self._rowsets()
        loaded = self._destination.load(rowsets, LoadJob.run)
        return ExportReceipt(
            **asdict(reading),
            target=self._destination.uri,
            exported=exported,
            duplicates=duplicates,
            files=[],
            tables=loaded,
            lock_wait_seconds=round(self._destination.lock_wait, 3),
        )

    def _rowsets(self) -> list[Rowset]:
        """Return the rows of each table; of conversations that are not to be loaded, only the ids."""
        rowsets = [
            Rowset(table, self._spool.rows(table), partial(self._spool.batches, table), table.columns)
            for table in self._tables
        ]
        if CONVERSATIONS not in self._tables:
            (id_,) = (column for column in CONVERSATIONS.columns if column.name == "id")
            rows = self._spool.rows(CONVERSATIONS)
            rowsets.append(Rowset(CONVERSATIONS, rows, partial(self._spool.batches, CONVERSATIONS), (id_,)))
        if self._max_bad_records:
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
            for ordinal, rejected in enumerate(self._rejected, 1)
        ]
        return pa.RecordBatch.from_pylist(rows, schema=REJECTED.schema)
