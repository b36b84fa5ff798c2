"""How does an export become visible in a database: all of it, or nothing?"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from voiceos_provider.client.pages import Rejected
from voiceos_provider.exceptions import VoiceOSError, VoiceOSExportError, VoiceOSValueError
from voiceos_provider.load.checkpoint import Checkpoint, SpooledRows
from voiceos_provider.load.pending import PendingConversations, lookback_start, previous_lookback_start
from voiceos_provider.load.receipt import ExportReceipt, Reading
from voiceos_provider.load.spool import Resumed, Spool
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import InterferenceError, unreached
from voiceos_provider.load.sql.job import Load
from voiceos_provider.load.sql.plan import REJECTED, LoadPlan, Rowset
from voiceos_provider.load.sql.session import Session
from voiceos_provider.load.workdir import WorkDir, disk_error, disk_errors, is_disk_full
from voiceos_provider.transform import Rows, Table
from voiceos_provider.transform.schema import CONVERSATIONS

log = logging.getLogger(__name__)

_TRIES = 8
_LONGEST_NAP = 15.0


class SqlDestination:
    """Tables of a database.

    :param connect: opens a connection that does not commit by itself; asked anew for each try
    :param dialect: the engine's
    :param orders: where the rows go, and what is to become of those that stand there
    :param uri: what to call the place, without credentials
    :param max_bad_records: conversations that may be set aside, in a table of their own, before the export fails
    :param workdir: where rows wait until all of them are there
    :param sleep: waits between two tries, in seconds
    :param dice: makes the waits uneven
    :param now: the clock that tells when a load begins; without one, the dialect's stamp does
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
        self._max_rejected = max_bad_records
        if max_bad_records:
            orders = replace(orders, tables=(*orders.tables, REJECTED))
        self._orders = orders
        self._sleep = sleep
        self._dice = dice or random.Random()
        self._now = now
        self.interval = orders.interval
        self.exported_at = orders.exported_at
        self.workdir = workdir or WorkDir()
        self.uri = uri

    @contextmanager
    def open(self, tables: Sequence[Table]) -> Iterator[SqlWriter]:
        """A writer whose rows nobody sees before it publishes them; leaving without that leaves nothing.

        :raises VoiceOSError: at once, if the database cannot be reached, or its tables cannot take the rows
        """
        self._require_names()
        self.load([], Load.look)
        with self.workdir.folder() as folder:
            yield SqlWriter(
                self,
                folder,
                tables,
                self._orders,
                max_bad_records=self._max_rejected,
                checkpoint=self.workdir.checkpoint,
            )

    def due(self, max_age: timedelta) -> PendingConversations:
        """Which conversations of earlier intervals this export should ask for: those whose rows have not ended.

        :param max_age: how long after the end of its interval a conversation is asked for
        :raises VoiceOSError: if the database cannot be reached
        """
        interval = self._orders.interval
        recent = max(lookback_start(interval, max_age), previous_lookback_start(interval, max_age))
        ids = self.load([], lambda load: load.unfinished(recent, interval.start))
        older = self.load(
            [], lambda load: load.unfinished(previous_lookback_start(interval, max_age), recent)
        )
        return PendingConversations(ids, tuple(older))

    def _require_names(self) -> None:
        place = self._orders.place
        if place.schema is None and self._dialect.needs_schema:
            raise VoiceOSValueError(f"{self._dialect.title} needs a schema: the dataset of the tables.")
        if place.schema is not None:
            self._dialect.require_name("schema", place.schema)
        for table in self._orders.tables:
            self._dialect.require_name("table_prefix", place.prefix + table.name)

    def load(self, rowsets: Sequence[Rowset], do: Callable[[Load], Any]) -> Any:
        """Do something with the tables; again, if what was in the way passes: a deadlock, a restart, another writer.

        :raises VoiceOSError: if it does not pass; no value of a row is in it
        """
        began = time.monotonic()
        if rowsets and self._now:
            self._dialect.begun(self._now())
        for tried in range(1, _TRIES + 1):
            outcome, refused = self._try(rowsets, do)
            if refused is None:
                return outcome
            failure, passing = refused
            waited = time.monotonic() - began
            if not passing or tried == _TRIES or waited > max(60.0, self._orders.lock_timeout):
                # Not within the `except`: what the driver said holds rows, and must not hang on to this.
                raise failure
            nap = self._dice.uniform(0.5, 1) * min(_LONGEST_NAP, 0.5 * 2**tried)
            log.warning("%s Trying again in %.1f s (%s of %s).", failure, nap, tried + 1, _TRIES)
            self._sleep(nap)
        raise AssertionError("unreachable")

    def _try(
        self, rowsets: Sequence[Rowset], do: Callable[[Load], Any]
    ) -> tuple[Any, tuple[VoiceOSError, bool] | None]:
        session: Session | None = None
        load: Load | None = None
        try:
            session = self._dialect.open(self._connect())
            load = Load(session, self._dialect, self._orders, rowsets)
            return do(load), None
        except VoiceOSError as error:
            return None, (error, isinstance(error, InterferenceError) and not self._dialect.locks)
        except Exception as error:  # noqa: BLE001  each driver has errors of its own
            if load is not None and load.unread is not None:  # of which a driver makes one of its own
                return None, (load.unread, False)
            if is_disk_full(error):
                return None, (disk_error(error), False)
            refusal = unreached(error) if isinstance(error, OSError) else self._dialect.refusal(error)
            doing = load.doing if load else "connect"
            failure = refusal.error(self._dialect.title, doing, frank=load is None or not load.sent)
            return None, (failure, refusal.passing and (bool(rowsets) or not refusal.lost))
        finally:
            if session is not None and load is not None:
                with suppress(Exception):
                    load.tidy()
            if session is not None:
                with suppress(Exception):
                    session.close()


class SqlWriter:
    """Takes rows, then loads them. Made by `SqlDestination.open`."""

    def __init__(
        self,
        target: SqlDestination,
        folder: Path,
        tables: Sequence[Table],
        orders: LoadPlan,
        *,
        max_bad_records: int,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._target = target
        self._folder = folder
        self._tables = tuple(tables)
        self._orders = orders
        self._max_rejected = max_bad_records
        with disk_errors(folder):
            self._spool = Spool(folder, tables, written=checkpoint.written if checkpoint else None)

    def write(self, rows: Mapping[str, Rows]) -> None:
        """Take rows. Of those of one conversation, the last ones count."""
        with disk_errors(self._folder):
            self._spool.append(rows)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Set conversations aside.

        :raises VoiceOSExportError: once there are more than allowed
        """
        if not rejected:
            return
        with disk_errors(self._folder):
            self._spool.reject(rejected)
        if self._spool.rejected > self._max_rejected:
            raise VoiceOSExportError(
                f"{self._spool.rejected:,} conversations cannot be keyed ({rejected[-1].reason}), more than "
                f"max_bad_records={self._max_rejected}. Nothing was loaded. A higher value sets them aside in the "
                f"table {self._orders.place.prefix}{REJECTED.name}."
            )

    def secure(self) -> SpooledRows:
        """Write all rows to files that outlive this process, and return what a retry needs to find them."""
        with disk_errors(self._folder):
            return self._spool.checkpoint()

    def left(self) -> Resumed:
        """What an earlier writer has left to this one."""
        return self._spool.resumed()

    def publish(self, reading: Reading) -> ExportReceipt:
        """Load all rows in one transaction, where the engine has them.

        :raises VoiceOSExportError: if the numbers do not add up, or the engine refuses
        """
        with disk_errors(self._folder):
            replaced = self._spool.close()
            reading = self._spool.reconcile(reading)
        receipt = ExportReceipt.of(
            reading,
            exported=self._spool.conversations - replaced,
            replaced=replaced,
            target=self._target.uri,
        )
        with disk_errors(self._folder):
            rowsets = self._rowsets()
        loaded = self._target.load(rowsets, Load.run)
        return replace(receipt, tables=loaded)

    def _rowsets(self) -> list[Rowset]:
        """The rows of each table; of conversations that are not asked for, only whose they are."""
        rowsets = [
            Rowset(table, self._spool.rows(table), partial(self._spool.batches, table), table.columns)
            for table in self._tables
        ]
        if CONVERSATIONS not in self._tables:
            (id_,) = (column for column in CONVERSATIONS.columns if column.name == "id")
            rows = self._spool.rows(CONVERSATIONS)
            rowsets.append(Rowset(CONVERSATIONS, rows, partial(self._spool.batches, CONVERSATIONS), (id_,)))
        if self._max_rejected:
            batch = self._rejects()
            rowsets.append(Rowset(REJECTED, len(batch), lambda: iter([batch]), REJECTED.columns))
        return rowsets

    def _rejects(self) -> pa.RecordBatch:
        interval = self._orders.interval
        rows = [
            {
                "ordinal": ordinal,
                "reason": rejected.reason,
                "conversation": bytes(rejected.raw).decode(),
                "_interval_start": interval.start,
                "_interval_end": interval.end,
                "_exported_at": self._orders.exported_at,
            }
            for ordinal, rejected in enumerate(self._spool.rejects(), 1)
        ]
        return pa.RecordBatch.from_pylist(rows, schema=REJECTED.schema)
