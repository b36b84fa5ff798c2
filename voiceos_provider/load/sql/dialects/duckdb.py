"""How does DuckDB take rows? Arrow batches, as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

_TEXT = "VARCHAR|ENUM"
_PASSING = ("TransactionException", "IOException", "ConnectionException")


class DuckDB(Dialect):
    """A DuckDB file, or MotherDuck.

    There is no primary key: its index would make every merge ten times slower, and the merge needs none.
    """

    name = "duckdb"
    title = "DuckDB"
    creates_in_transaction = True
    loads_directly = True
    temporary = "TEMPORARY "
    updates_by_inserting = False
    instants = "TIMESTAMPTZ '%Y-%m-%d %H:%M:%S.%f+00'"
    comments = "apart"
    unless_there = "IF NOT EXISTS "
    unlike = "{ours} IS DISTINCT FROM {theirs}"
    document = "{}::VARCHAR"
    types: ClassVar[Mapping[str, str]] = {
        "text": "VARCHAR",
        "instant": "TIMESTAMP WITH TIME ZONE",
        "money": "DECIMAL(38, 24)",
        "number": "DOUBLE",
        "count": "BIGINT",
        "flag": "BOOLEAN",
        "json": "JSON",
    }
    fitting: ClassVar[Mapping[str, str]] = {
        "text": f"{_TEXT}|UUID",
        "instant": f"TIMESTAMP|{_TEXT}",
        "money": f"DECIMAL|DOUBLE|{_TEXT}",
        "number": f"DECIMAL|DOUBLE|{_TEXT}",
        "count": f"BIGINT|HUGEINT|INTEGER|DOUBLE|{_TEXT}",
        "flag": f"BOOLEAN|{_TEXT}",
        "json": f"JSON|{_TEXT}",
    }
    current_schema = "current_schema()"
    only_here = " AND table_catalog = current_database()"

    def create(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Without a key: see the class."""
        return super().create(place, table, keyed=False)

    def open(self, connection: Any) -> Session:
        """A session in which nothing is visible before its commit."""
        return _DuckDBSession(connection)

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction; it waits for nobody, but fails and is tried again."""
        session.run("BEGIN TRANSACTION")

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Let it read the batches."""
        name = f"_voiceos_rows_{table.name}"
        columns = ", ".join(map(self.quote, schema.names))
        session.connection.register(name, pa.RecordBatchReader.from_batches(schema, batches))
        try:
            session.run(
                f"INSERT INTO {self.at(place, table)} ({columns}) SELECT {columns} FROM {self.quote(name)}"
            )
        finally:
            session.connection.unregister(name)

    def refusal(self, error: Exception) -> Refusal:
        """DuckDB has no SQLSTATE; its classes of errors tell."""
        kinds = [kind.__name__ for kind in type(error).__mro__]
        locked = "lock" in str(error).lower() or "conflict" in str(error).lower()
        passing = bool({*kinds} & {*_PASSING}) and locked
        return Refusal(
            kind=type(error).__name__,
            code=type(error).__name__,
            message=str(error),
            passing=passing,
            lost=passing and "IOException" in kinds,
        )

    def read(self, column: Column, kind: str) -> str:
        """A staged value, rounded as the column has it."""
        name = super().read(column, kind)
        return f"CAST({name} AS {kind})" if kind and column.kind.name != "json" else name


class _DuckDBSession(Session):
    """Its connection commits by itself unless a statement began a transaction, and its cursors are connections."""

    def run(self, statement: str) -> None:
        self.connection.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(query).fetchall()]

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        self.run("ROLLBACK")
