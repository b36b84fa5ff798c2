"""Load job: staged rows become rows of the tables, the same way for every engine.

All rows go to staging tables, which readers do not use. Staged rows older than existing ones are dropped. Then each
table is merged with its staging table. Changes are counted before the merge, and values compared after it; if they
disagree, the transaction is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from voiceos_provider.client.requests import ENDED
from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.load.erasure import Erased
from voiceos_provider.load.plan import LoadPlan
from voiceos_provider.load.receipt import LoadedTable
from voiceos_provider.load.sql import erasure, schema_sync
from voiceos_provider.load.sql.context import LoadContext
from voiceos_provider.load.sql.dialect import Dialect, as_utc
from voiceos_provider.load.sql.merge import drop_outdated, merge_table
from voiceos_provider.load.sql.plan import Namespace, Rowset
from voiceos_provider.load.sql.staging import StorableRows
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import CONVERSATIONS


class LoadJob:
    """One load on one connection.

    :param rowsets: the rows to load; those of `conversations` are always among them
    """

    def __init__(self, dialect: Dialect, plan: LoadPlan, rowsets: Sequence[Rowset]) -> None:
        self.rows_sent = False  # a message of the engine may contain rows
        self.read_error: VoiceOSError | None = None  # a row on this machine could not be read
        self._context = LoadContext(dialect, plan, {rowset.table.name: rowset for rowset in rowsets})
        self._dialect = dialect
        self._plan = plan
        self._staged = False

    @property
    def action(self) -> str:
        """What the job was doing, for error messages."""
        return self._context.action

    def open(self, connection: Any) -> None:
        """Use a new connection."""
        self._dialect.open(connection)
        self._context.action = "configure the session"
        self._dialect.configure()

    def run(self) -> dict[str, LoadedTable]:
        """Load the rows and commit.

        :raises VoiceOSError: if the tables cannot take the rows; then they are unchanged
        """
        context, capabilities = self._context, self._dialect.capabilities
        schema_sync.prepare(context)
        if not capabilities.transactional_ddl:
            self._stage()  # creating staging tables may end a transaction
            self._dialect.commit()
        self._begin()
        missing = self._create_missing_tables()
        if capabilities.direct_load and len(missing) == len(self._plan.tables):
            loaded = self._load_directly()
        else:
            if capabilities.transactional_ddl:
                self._stage()
            if not missing:
                schema_sync.lock(context)
            drop_outdated(context)
            loaded = {table.name: merge_table(context, table) for table in reversed(self._plan.tables)}
        schema_sync.finish_tables(context, missing)
        context.action = "commit"
        self._dialect.commit()
        return {table.name: self._with_adapted(loaded[table.name], table.name) for table in self._plan.tables}

    def clean_up(self) -> None:
        """Roll back what is not committed, release the lock, and drop staging tables.

        Also those of killed loads, one day after their start: until then, such a load may still be running.
        """
        self._dialect.rollback()
        self._dialect.unlock()
        if self._staged and not self._dialect.capabilities.temporary:
            for rowset in self._context.rowsets.values():
                self._dialect.drop_staging_table(rowset.table)
            self._dialect.commit()
            self._dialect.drop_abandoned_tables()
            self._dialect.commit()

    def check(self) -> None:
        """Check that the tables exist or can be created, and can be written to; changes are rolled back.

        Without transactional DDL, the missing tables that this creates remain, without rows.

        :raises VoiceOSError: if they cannot take rows
        """
        context, dialect = self._context, self._dialect
        if not dialect.capabilities.transactional_ddl:
            schema_sync.prepare(context)
            return
        self._begin()
        missing = self._create_missing_tables()
        for table in self._plan.tables:
            if table not in missing:
                context.action = f"write to the table {dialect.target(table)}"
                dialect.run(f"DELETE FROM {dialect.target(table)} WHERE 1 = 0")

    def pending(self, after: datetime, until: datetime) -> dict[str, Interval]:
        """Return conversations that have not ended, of intervals that ended after one instant and not after another.

        :raises VoiceOSError: if the columns of the table do not match
        """
        context, dialect = self._context, self._dialect
        schema_sync.inspect_tables(context)
        if not context.existing.get(CONVERSATIONS.name):
            return {}
        table = dialect.target(CONVERSATIONS)
        context.action = f"read the table {table}"
        id_, status, start, end = (
            f"t.{dialect.quote(name)}" for name in ("id", "status", "_interval_start", "_interval_end")
        )
        self.rows_sent = True  # a message may contain existing rows
        found = self._dialect.rows(
            f"SELECT {id_}, {start}, {end} FROM {table} t "
            f"WHERE ({status} IS NULL OR {status} <> {dialect.text(ENDED)}) "
            f"AND {end} > {dialect.instant(after)} AND {end} <= {dialect.instant(until)} ORDER BY 1"
        )
        return {str(row[0]): Interval(as_utc(row[1]), as_utc(row[2])) for row in found}

    def intervals(self) -> list[tuple[Any, ...]]:
        """Return each interval in the table of conversations: bounds, latest export, rows, pending ones, cost.

        :raises VoiceOSError: if the columns of the table do not match
        """
        context, dialect = self._context, self._dialect
        schema_sync.inspect_tables(context)
        if not context.existing.get(CONVERSATIONS.name):
            return []
        table = dialect.target(CONVERSATIONS)
        context.action = f"read the table {table}"
        start, end, exported_at, status, cost = (
            f"t.{dialect.quote(name)}"
            for name in ("_interval_start", "_interval_end", "_exported_at", "status", "total_cost")
        )
        ended = f"CASE WHEN {status} = {dialect.text(ENDED)} THEN 1 ELSE 0 END"
        found = dialect.rows(
            f"SELECT {start}, {end}, MAX({exported_at}), COUNT(*), COUNT(*) - SUM({ended}), SUM({cost}) "
            f"FROM {table} t GROUP BY {start}, {end}"
        )
        return [(*map(as_utc, row[:3]), *row[3:]) for row in found]

    def erase(self, ids: Sequence[str]) -> Erased:
        """Delete the rows of conversations, and the configurations to which no other conversation refers."""
        dialect, erased = self._dialect, Erased()
        self.rows_sent = True  # statements contain ids
        self._begin()
        self._context.action = f"inspect the tables {dialect.namespace}"
        existing = [table for table in self._plan.tables if dialect.existing_columns(table)]
        erased.exists = bool(existing)
        if existing:
            schema_sync.lock(self._context)
            # Without transactions, the rows of conversations have to remain until nothing else does.
            for table in sorted(existing, key=lambda table: table is CONVERSATIONS):
                self._context.action = f"delete from the table {dialect.target(table)}"
                erasure.delete_rows(dialect, table, ids, erased, with_owners=CONVERSATIONS in existing)
            self._context.action = "commit"
            dialect.commit()
            self._context.action = "remove deleted rows from the file"
            dialect.purge()
            if not dialect.capabilities.temporary:
                dialect.drop_abandoned_tables()
                dialect.commit()
        return erased

    def _begin(self) -> None:
        self._context.action = "begin a transaction"
        self._dialect.begin()

    def _create_missing_tables(self) -> list[Table]:
        missing = schema_sync.inspect_tables(self._context)
        if missing:
            schema_sync.lock(self._context)
            missing = schema_sync.inspect_tables(self._context)  # another load may have created them
            schema_sync.create_tables(self._context, missing)
        return missing

    def _load_directly(self) -> dict[str, LoadedTable]:
        loaded = {}
        for table in self._plan.tables:
            rowset = self._context.rowsets[table.name]
            self._load_rows(self._dialect.namespace, rowset)
            loaded[table.name] = LoadedTable(inserted=rowset.rows)
        return loaded

    def _stage(self) -> None:
        self._staged = True
        for rowset in self._context.rowsets.values():
            self._context.action = f"stage rows of {rowset.table.name}"
            self._dialect.create_staging_table(rowset.table, rowset.columns)
            self._load_rows(self._dialect.staging, rowset)
            self._dialect.finish_staging_table(rowset.table)

    def _load_rows(self, namespace: Namespace, rowset: Rowset) -> None:
        name = self._dialect.target(rowset.table, namespace)
        self._context.action = f"load rows into {name}"
        self.rows_sent = True
        rows = self._context.loaded[rowset.table.name] = StorableRows(rowset, self._dialect)
        reader = pa.RecordBatchReader.from_batches(rowset.schema, self._read(rows))
        self._dialect.load_rows(namespace, rowset.table, reader)
        rows.require_loaded(name)

    def _read(self, rows: StorableRows) -> Iterator[pa.RecordBatch]:
        try:
            yield from rows.read()
        except VoiceOSError as error:  # the driver may raise an error of its own in its place
            self.read_error = error
            raise

    def _with_adapted(self, loaded: LoadedTable, name: str) -> LoadedTable:
        rows = self._context.loaded[name]
        return replace(loaded, json_as_text=rows.json_as_text, oversized=rows.oversized)
