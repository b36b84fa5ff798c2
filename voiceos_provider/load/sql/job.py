"""How do staged rows become the rows of the tables? The one way, for every engine.

All rows go to staging tables, which nobody reads. What is older than what stands is taken out of them. Then each table
is made to say what its staging table says: rows that are gone are deleted, others updated or inserted. What was to
happen is counted before, and what stands is counted after; if the two disagree, nothing has happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.load.receipt import LoadedTable
from voiceos_provider.load.sql import merge, row_versions, schema_sync
from voiceos_provider.load.sql.context import LoadContext
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.plan import LoadPlan, Rowset
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform.schema import CONVERSATIONS


class Load:
    """One load, in one session.

    :param dialect: the engine's
    :param orders: what to do
    :param rowsets: the rows; those of `conversations` are always among them
    """

    def __init__(
        self, session: Session, dialect: Dialect, orders: LoadPlan, rowsets: Sequence[Rowset]
    ) -> None:
        self.sent = False  # whether a message of the engine may hold rows
        self.unread: VoiceOSError | None = None  # why rows on this machine cannot be read
        self._work = LoadContext(session, dialect, orders, rowsets)
        self._session = session
        self._dialect = dialect
        self._orders = orders
        self._staged = False

    @property
    def doing(self) -> str:
        """What whoever has to tell that it failed says."""
        return self._work.doing

    def run(self) -> dict[str, LoadedTable]:
        """Load and commit.

        :raises VoiceOSError: if the tables cannot take the rows; then they are as they were
        """
        work, session, dialect = self._work, self._session, self._dialect
        schema_sync.prepare(work)
        if not dialect.creates_in_transaction:
            self._stage()  # whose creation may end a transaction
            session.commit()
        work.doing = "begin a transaction"
        dialect.begin(session, lock_timeout=self._orders.lock_timeout)
        new = schema_sync.look(work)
        if new:
            schema_sync.lock(work)
            new = schema_sync.look(work)
            schema_sync.create(work, new)
        if dialect.loads_directly and len(new) == len(self._orders.tables):
            loaded = self._load_directly()
        else:
            if dialect.creates_in_transaction:
                self._stage()
            if not new:
                schema_sync.lock(work)
            row_versions.resolve_versions(work)
            loaded = {table.name: merge.write(work, table) for table in reversed(self._orders.tables)}
        schema_sync.finish(work, new)
        work.doing = "commit"
        session.commit()
        return {table.name: loaded[table.name] for table in self._orders.tables}

    def tidy(self) -> None:
        """Undo what is not committed, let others write, and remove staging tables that are not the session's own.

        Also those that loads have left which were killed: after a day, for before that one might be alive.
        """
        self._session.rollback()
        self._dialect.unlock(self._session, self._orders.place)
        if self._staged and not self._dialect.temporary:
            for rowset in self._work.rowsets.values():
                self._dialect.drop_stage(self._session, self._orders.place, rowset.table)
            self._session.commit()
            self._dialect.drop_abandoned(self._session, self._orders.place)
            self._session.commit()

    def look(self) -> None:
        """Learn whether the tables are there or can be made, and may be written to. Rolled back, nothing has changed.

        An engine that cannot take back what it creates has the tables from now on, and they are empty.

        :raises VoiceOSError: if they cannot take rows
        """
        work, dialect, session = self._work, self._dialect, self._session
        if not dialect.creates_in_transaction:
            schema_sync.prepare(work)
            return
        work.doing = "begin a transaction"
        dialect.begin(session, lock_timeout=self._orders.lock_timeout)
        if new := schema_sync.look(work):
            schema_sync.lock(work)
            new = schema_sync.look(work)
            schema_sync.create(work, new)
        for table in self._orders.tables:
            if table not in new:
                work.doing = f"write to the table {work.at(table)}"
                session.run(f"DELETE FROM {work.at(table)} WHERE 1 = 0")

    def unfinished(self, after: datetime, until: datetime) -> dict[str, Interval]:
        """Conversations that have not ended, of intervals that ended after one instant and not after another.

        :raises VoiceOSError: if the table is of another shape
        """
        work, dialect, session = self._work, self._dialect, self._session
        dialect.begin(session, lock_timeout=self._orders.lock_timeout)
        schema_sync.look(work)
        if not work.standing.get(CONVERSATIONS.name):
            return {}
        table = work.at(CONVERSATIONS)
        work.doing = f"look at the table {table}"
        id_, state, start, end = (
            f"t.{work.quote(name)}" for name in ("id", "status", "_interval_start", "_interval_end")
        )
        self.sent = True  # a message may hold what stands there
        found = session.rows(
            f"SELECT {id_}, {start}, {end} FROM {table} t "
            f"WHERE ({state} IS NULL OR {state} <> {dialect.text('ended')}) "
            f"AND {end} > {dialect.instant(after)} AND {end} <= {dialect.instant(until)} ORDER BY 1"
        )
        return {str(row[0]): Interval(_instant(row[1]), _instant(row[2])) for row in found}

    def _load_directly(self) -> dict[str, LoadedTable]:
        work, self.sent = self._work, True
        loaded = {}
        for table in self._orders.tables:
            rowset = work.rowsets[table.name]
            work.doing = f"write to the table {work.at(table)}"
            self._dialect.fill(self._session, self._orders.place, table, rowset.schema, self._read(rowset))
            work.require_rows(work.at(table), rowset.rows)
            loaded[table.name] = LoadedTable(inserted=rowset.rows)
        return loaded

    def _stage(self) -> None:
        work, self._staged, self.sent = self._work, True, True
        for rowset in work.rowsets.values():
            work.doing = f"stage rows of {rowset.table.name}"
            self._dialect.create_stage(self._session, self._orders.place, rowset.table, rowset.columns)
            self._dialect.fill(self._session, work.staging, rowset.table, rowset.schema, self._read(rowset))
            work.require_rows(work.stage(rowset.table), rowset.rows)
            self._dialect.filled(self._session, self._orders.place, rowset.table)

    def _read(self, rowset: Rowset) -> Iterator[pa.RecordBatch]:
        try:
            yield from rowset.read()
        except VoiceOSError as error:
            self.unread = error
            raise


def _instant(value: Any) -> datetime:
    """A time as a driver gives it: text where the engine has no type for it, and without a zone if that is UTC."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
