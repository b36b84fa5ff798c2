"""DuckDB: rows are loaded as Arrow batches."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from voiceos_provider.load.sql.capabilities import Capabilities, ColumnType
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import LOCK_TIMEOUT, Failure
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.sql.session import StatementSession
from voiceos_provider.transform import Table

_TEXT = "VARCHAR|ENUM"
_LOCKING = {"TransactionException", "IOException", "ConnectionException"}
"""Error classes that may concern the lock on the file, or a conflict of two transactions."""


class DuckDB(StatementSession, Dialect):
    """A DuckDB file, or MotherDuck.

    There is no primary key: its index makes every merge ten times slower, and the merge does not need it.
    """

    capabilities = Capabilities(
        name="duckdb",
        title="DuckDB",
        types={
            "text": ColumnType("VARCHAR", f"{_TEXT}|UUID"),
            "instant": ColumnType("TIMESTAMP WITH TIME ZONE", f"TIMESTAMP|{_TEXT}"),
            "money": ColumnType("DECIMAL(38, 24)", f"DECIMAL|DOUBLE|{_TEXT}"),
            "number": ColumnType("DOUBLE", f"DECIMAL|DOUBLE|{_TEXT}"),
            "count": ColumnType("BIGINT", f"BIGINT|HUGEINT|INTEGER|DOUBLE|{_TEXT}"),
            "flag": ColumnType("BOOLEAN", f"BOOLEAN|{_TEXT}"),
            "json": ColumnType("JSON", f"JSON|{_TEXT}"),
        },
        casts=True,
        instant_literal="TIMESTAMPTZ '%Y-%m-%d %H:%M:%S.%f+00'",
        comments="statement",
        add_column_guard="IF NOT EXISTS ",
        current_schema="current_schema()",
        catalog_filter=" AND table_catalog = current_database()",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        json_text="{}::VARCHAR",
        text_length="LENGTH",
    )

    def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table, without a key."""
        return super().create_table(table, keyed=False)

    def configure(self) -> None:
        """Set UTC, in which instants become naive timestamps and texts; the default is the worker's time zone."""
        self.run("SET TimeZone = 'UTC'")

    def begin(self) -> None:
        """Begin a transaction; it does not wait for locks, but fails and is retried until `lock_timeout`."""
        self.run("BEGIN TRANSACTION")

    def run(self, statement: str) -> None:
        """Execute a statement on the connection itself: a cursor is a connection of its own."""
        self.connection.execute(statement)
        self.in_transaction |= statement.startswith("BEGIN")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return [tuple(row) for row in self.connection.execute(query).fetchall()]

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Load rows from a registered Arrow reader."""
        name = f"_voiceos_rows_{table.name}"
        columns = ", ".join(map(self.quote, rows.schema.names))
        self.connection.register(name, rows)
        try:
            self.run(
                f"INSERT INTO {self.target(table, namespace)} ({columns}) "
                f"SELECT {columns} FROM {self.quote(name)}"
            )
        finally:
            self.connection.unregister(name)

    def classify(self, error: Exception) -> Failure:
        """Describe an error by its class; DuckDB has no SQLSTATE."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        locked = bool(kinds & _LOCKING) and bool(re.search("lock|conflict", str(error), re.IGNORECASE))
        kind = type(error).__name__
        sqlstate = LOCK_TIMEOUT if locked else None
        return Failure(kind=kind, sqlstate=sqlstate, code=kind, message=str(error), locked=locked)
