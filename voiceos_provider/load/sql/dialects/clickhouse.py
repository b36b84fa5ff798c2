"""ClickHouse: rows are loaded as Arrow by its own client, and deduplicated when they are read.

There are no transactions. Tables are `ReplacingMergeTree(_exported_at)`: a changed row is inserted beside the existing
one, and a query with FINAL returns the newer. Child rows are written before their conversations, so that a reader who
finds a conversation finds its child rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.capabilities import BACKSLASH_ESCAPES, Capabilities
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Failure
from voiceos_provider.load.sql.plan import Merge, Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

_ROWS_AT_ONCE = 100_000
_OLDEST = (24, 4)  # which brought the last of these settings
_SETTINGS: Mapping[str, int] = {
    "final": 1,
    "join_use_nulls": 1,
    "mutations_sync": 2,
    "lightweight_deletes_sync": 2,
}


class ClickHouse(Dialect):
    """ClickHouse 24.4 or newer. JSON is text, which its JSON functions read."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="clickhouse",
        title="ClickHouse",
        column_types={
            "text": "String",
            "instant": "DateTime64(6, 'UTC')",
            "money": "Decimal(38, 24)",
            "number": "Float64",
            "count": "Int64",
            "flag": "Bool",
            "json": "String",
        },
        accepted_types={
            "text": r".*\bString|.*Enum|.*UUID",
            "instant": r".*DateTime",
            "money": r".*Decimal|.*Float|.*\bString",
            "number": r".*Decimal|.*Float|.*\bString",
            "count": r".*Int|.*Decimal|.*Float|.*\bString",
            "flag": r".*Bool|.*Int",
            "json": r".*\bString|.*JSON",
        },
        identifier_quotes=("`", "`"),
        max_identifier_bytes=200,
        literal_escapes=BACKSLASH_ESCAPES,
        instant_literal="toDateTime64('%Y-%m-%d %H:%M:%S.%f', 6, 'UTC')",
        comments="inline",
        add_column_guard="IF NOT EXISTS ",
        current_schema="currentDatabase()",
        is_distinct=(
            "({ours} <> {theirs} OR ({ours} IS NULL AND {theirs} IS NOT NULL) "
            "OR ({ours} IS NOT NULL AND {theirs} IS NULL))"
        ),
    )

    def quote(self, name: str) -> str:
        """Return a quoted identifier; a backslash escapes the next character."""
        return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """Return the type, Nullable if the column is."""
        kind = self.capabilities.column_types[column.kind.name]
        return f"Nullable({kind})" if column.nullable and not key else kind

    def create_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table; an appended table keeps every row."""
        columns = ",\n  ".join(
            f"{self.quote(c.name)} {self.type_of(c)}{self.inline_comment(c.description)}"
            for c in table.columns
        )
        engine = "ReplacingMergeTree(_exported_at)" if keyed else "MergeTree"
        key = ", ".join(map(self.quote, table.key))
        return [
            f"CREATE TABLE IF NOT EXISTS {self.qualified_name(namespace, table)} (\n  {columns}\n) ENGINE = {engine} "
            f"ORDER BY ({key}) COMMENT {self.text(table.description)}"
        ]

    def existing_columns(self, session: Session, namespace: Namespace, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their types."""
        schema = self.text(namespace.schema) if namespace.schema else self.capabilities.current_schema
        found = session.rows(
            f"SELECT name, type FROM system.columns WHERE database = {schema} "
            f"AND table = {self.text(namespace.prefix + table.name)}"
        )
        return dict(found) or None

    def open(self, connection: Any) -> Session:
        """Return a session of a `clickhouse_connect` client.

        :raises VoiceOSValueError: if the server is too old
        """
        version = str(connection.server_version)
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
            raise VoiceOSValueError(
                f"This is ClickHouse {version}, and {'.'.join(map(str, _OLDEST))} or newer is needed."
            )
        return _ClickHouseSession(connection)

    def create_staging_table(
        self, session: Session, namespace: Namespace, table: Table, columns: Sequence[Column]
    ) -> None:
        """Create an ordinary table, because the client has no session that lasts longer than a statement."""
        name = self.qualified_name(self.staging_namespace(namespace), table)
        lines = ", ".join(f"{self.quote(c.name)} {self.type_of(c)}" for c in columns)
        key = ", ".join(self.quote(c.name) for c in columns if c.name in table.key)
        self.drop_staging_table(session, namespace, table)  # left by an attempt that lost its connection
        session.run(f"CREATE TABLE {name} ({lines}) ENGINE = MergeTree ORDER BY ({key})")

    def load_rows(
        self,
        session: Session,
        namespace: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Load rows as Arrow."""
        name = self.qualified_name(namespace, table)
        chunk: list[pa.RecordBatch] = []
        for batch in batches:
            chunk.append(batch)
            if sum(map(len, chunk)) >= _ROWS_AT_ONCE:
                session.connection.insert_arrow(name, pa.Table.from_batches(chunk, schema))
                chunk = []
        if any(map(len, chunk)):
            session.connection.insert_arrow(name, pa.Table.from_batches(chunk, schema))

    def classify(self, error: Exception) -> Failure:
        """Describe an error by the client's class; the server's message may contain values, and is not repeated."""
        kind = type(error).__name__
        lost = kind in ("OperationalError", "InterfaceError", "StreamClosedError")
        return Failure(kind=kind, code=None if lost else kind, message=str(error), transient=lost, lost=lost)

    def not_staged(self, merge: Merge) -> str:
        """Return the condition with the whole key at once: a deletion allows no correlated query."""
        key = ", ".join(map(self.quote, merge.table.key))
        return f"({key}) NOT IN (SELECT {key} FROM {merge.staging})"

    def write(self, merge: Merge, *, new: int, updated: int, stale: int) -> list[str]:
        """Insert new and changed rows, then delete stale ones."""
        statements = []
        if new or updated:
            key = f"t.{self.quote(merge.table.key[0])}"
            only = "" if merge.touch_unchanged else f" WHERE {key} IS NULL OR {self.changed(merge)}"
            statements.append(
                f"INSERT INTO {merge.target} ({self.column_list(merge)}) "
                f"SELECT {self.staged_list(merge)} FROM {merge.staging} s "
                f"LEFT JOIN {merge.target} t ON {self.same_key(merge)}{only}"
            )
        if stale:
            statements.append(f"DELETE FROM {merge.target} WHERE {merge.stale.replace(f'{merge.name}.', '')}")
        return statements


class _ClickHouseSession(Session):
    """Session of a client that commits each statement."""

    rollback_note = "A retry completes the load."

    def run(self, statement: str) -> None:
        self.connection.command(statement, settings=dict(_SETTINGS))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.query(query, settings=dict(_SETTINGS)).result_rows]

    def commit(self) -> None:
        """Do nothing: each statement is committed."""

    def rollback(self) -> None:
        """Do nothing: each statement is committed."""
