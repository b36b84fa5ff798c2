"""DuckDB: rows are loaded as Arrow batches."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

import pyarrow as pa

from voiceos_provider.load.sql.capabilities import Capabilities
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import LOCK_TIMEOUT, Failure
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

_TEXT = "VARCHAR|ENUM"
_LOCKING = {"TransactionException", "IOException", "ConnectionException"}
"""Error classes that may concern the lock on the file, or a conflict of two transactions."""


class DuckDB(Dialect):
    """A DuckDB file, or MotherDuck.

    There is no primary key: its index makes every merge ten times slower, and the merge does not need it.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="duckdb",
        title="DuckDB",
        column_types={
            "text": "VARCHAR",
            "instant": "TIMESTAMP WITH TIME ZONE",
            "money": "DECIMAL(38, 24)",
            "number": "DOUBLE",
            "count": "BIGINT",
            "flag": "BOOLEAN",
            "json": "JSON",
        },
        accepted_types={
            "text": f"{_TEXT}|UUID",
            "instant": f"TIMESTAMP|{_TEXT}",
            "money": f"DECIMAL|DOUBLE|{_TEXT}",
            "number": f"DECIMAL|DOUBLE|{_TEXT}",
            "count": f"BIGINT|HUGEINT|INTEGER|DOUBLE|{_TEXT}",
            "flag": f"BOOLEAN|{_TEXT}",
            "json": f"JSON|{_TEXT}",
        },
        instant_literal="TIMESTAMPTZ '%Y-%m-%d %H:%M:%S.%f+00'",
        comments="statement",
        add_column_guard="IF NOT EXISTS ",
        current_schema="current_schema()",
        catalog_filter=" AND table_catalog = current_database()",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        direct_load=True,
        json_text="{}::VARCHAR",
        text_length="LENGTH",
    )

    def create_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table, without a key."""
        return super().create_table(namespace, table, keyed=False)

    def open(self, connection: Any) -> Session:
        """Return a session with explicit transactions."""
        return _DuckDBSession(connection)

    def configure(self, session: Session, *, lock_timeout: float) -> None:
        """Set UTC, in which instants become naive timestamps and texts; the default is the worker's time zone."""
        session.run("SET TimeZone = 'UTC'")

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction; it does not wait for locks, but fails and is retried until `lock_timeout`."""
        session.run("BEGIN TRANSACTION")

    def load_rows(
        self,
        session: Session,
        namespace: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Load rows from a registered Arrow reader."""
        name = f"_voiceos_rows_{table.name}"
        columns = ", ".join(map(self.quote, schema.names))
        session.connection.register(name, pa.RecordBatchReader.from_batches(schema, batches))
        try:
            session.run(
                f"INSERT INTO {self.qualified_name(namespace, table)} ({columns}) "
                f"SELECT {columns} FROM {self.quote(name)}"
            )
        finally:
            session.connection.unregister(name)

    def classify(self, error: Exception) -> Failure:
        """Describe an error by its class; DuckDB has no SQLSTATE."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        locked = bool(kinds & _LOCKING) and bool(re.search("lock|conflict", str(error), re.IGNORECASE))
        kind = type(error).__name__
        return Failure(
            kind=kind,
            sqlstate=LOCK_TIMEOUT if locked else None,
            code=kind,
            message=str(error),
            transient=locked,
            locked=locked,
        )

    def staged_value(self, column: Column, kind: str) -> str:
        """Return the staged value, cast to the column's type."""
        name = super().staged_value(column, kind)
        return f"CAST({name} AS {kind})" if kind and column.kind.name != "json" else name


class _DuckDBSession(Session):
    """Session of a connection that autocommits unless a statement began a transaction; cursors are connections."""

    def run(self, statement: str) -> None:
        self.connection.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(query).fetchall()]

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        self.run("ROLLBACK")
