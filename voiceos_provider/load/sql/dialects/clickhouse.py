"""ClickHouse: rows are loaded as Arrow by its own client, and deduplicated when they are read.

There are no transactions. Tables are `ReplacingMergeTree(_exported_at)`: a changed row is inserted beside the existing
one, and a query with FINAL returns the newer. Child rows are written before their conversations, so that a reader who
finds a conversation finds its child rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.capabilities import (
    BACKSLASH_ESCAPES,
    IS_DISTINCT,
    Capabilities,
    ColumnType,
)
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Failure
from voiceos_provider.load.sql.plan import Merge, Namespace
from voiceos_provider.load.sql.session import AutocommitSession
from voiceos_provider.load.sql.staging import at_least
from voiceos_provider.transform import Column, Table

_ROWS_AT_ONCE = 100_000
_OLDEST = (24, 4)  # which brought the last of these settings
_SETTINGS: Mapping[str, int] = {
    "final": 1,
    "join_use_nulls": 1,
    "mutations_sync": 2,
    "lightweight_deletes_sync": 2,
}


class ClickHouse(AutocommitSession, Dialect):
    """ClickHouse 24.4 or newer. JSON is text, which its JSON functions read."""

    capabilities = Capabilities(
        name="clickhouse",
        title="ClickHouse",
        types={
            "text": ColumnType("String", r".*\bString|.*Enum|.*UUID"),
            "instant": ColumnType("DateTime64(6, 'UTC')", r".*DateTime"),
            "money": ColumnType("Decimal(38, 24)", r".*Decimal|.*Float|.*\bString"),
            "number": ColumnType("Float64", r".*Decimal|.*Float|.*\bString"),
            "count": ColumnType("Int64", r".*Int|.*Decimal|.*Float|.*\bString"),
            "flag": ColumnType("Bool", r".*Bool|.*Int"),
            "json": ColumnType("String", r".*\bString|.*JSON"),
        },
        identifier_quote="`",
        escaped_identifiers=True,
        max_identifier_bytes=200,
        literal_escapes=BACKSLASH_ESCAPES,
        instant_literal="toDateTime64('%Y-%m-%d %H:%M:%S.%f', 6, 'UTC')",
        comments="inline",
        add_column_guard="IF NOT EXISTS ",
        current_schema="currentDatabase()",
        is_distinct=IS_DISTINCT,
    )

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """Return the type, Nullable if the column is."""
        kind = super().type_of(column)
        return f"Nullable({kind})" if column.nullable and not key else kind

    def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table; an appended table keeps every row."""
        columns = ",\n  ".join(
            f"{self.quote(c.name)} {self.type_of(c)}{self.inline_comment(c.description)}"
            for c in table.columns
        )
        engine = "ReplacingMergeTree(_exported_at)" if keyed else "MergeTree"
        key = ", ".join(map(self.quote, table.key))
        return [
            f"CREATE TABLE IF NOT EXISTS {self.target(table)} (\n  {columns}\n) ENGINE = {engine} "
            f"ORDER BY ({key}) COMMENT {self.text(table.description)}"
        ]

    def open(self, connection: Any) -> None:
        """Use a new `clickhouse_connect` client.

        :raises VoiceOSValueError: if the server is too old
        """
        super().open(connection)
        version = str(connection.server_version)
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
            raise VoiceOSValueError(
                f"This is ClickHouse {version}, and {'.'.join(map(str, _OLDEST))} or newer is needed."
            )

    def run(self, statement: str) -> None:
        """Execute a statement, and discard its result."""
        self.connection.command(statement, settings=dict(_SETTINGS))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return [tuple(row) for row in self.connection.query(query, settings=dict(_SETTINGS)).result_rows]

    def create_staging_table(self, table: Table, columns: Sequence[Column]) -> None:
        """Create an ordinary table, because the client has no session that lasts longer than a statement."""
        self.drop_staging_table(table)  # left by an attempt that lost its connection
        lines = ", ".join(f"{self.quote(c.name)} {self.type_of(c)}" for c in columns)
        key = ", ".join(self.quote(c.name) for c in columns if c.name in table.key)
        self.run(f"CREATE TABLE {self.staging_table(table)} ({lines}) ENGINE = MergeTree ORDER BY ({key})")

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Load rows as Arrow."""
        for chunk in at_least(rows, _ROWS_AT_ONCE):
            self.connection.insert_arrow(self.target(table, namespace), chunk)

    def classify(self, error: Exception) -> Failure:
        """Describe an error by the client's class; the server's message may contain values, and is not repeated."""
        kind = type(error).__name__
        lost = kind in ("OperationalError", "InterfaceError", "StreamClosedError")
        return Failure(kind=kind, code=None if lost else kind, message=str(error), lost=lost)

    def not_staged(self, merge: Merge) -> str:
        """Return the condition with the whole key at once: a deletion allows no correlated query."""
        key = ", ".join(map(self.quote, merge.table.key))
        return f"({key}) NOT IN (SELECT {key} FROM {merge.staging})"

    def delete(self, target: str, condition: str) -> str:
        """Return a mutation, which writes parts anew; DELETE only hides rows until parts are merged."""
        return f"ALTER TABLE {target} DELETE WHERE {condition}"

    def write(self, merge: Merge, *, new: int, updated: int, stale: int) -> list[str]:
        """Insert new and changed rows, then delete stale ones."""
        statements = []
        if new or updated:
            key = f"t.{self.quote(merge.table.key[0])}"
            only = "" if merge.touch_unchanged else f" WHERE {key} IS NULL OR {self.changed(merge)}"
            join = f"LEFT JOIN {merge.target} t ON {self.same_key(merge)}"
            statements.append(f"{self.append(merge)} {join}{only}")
        if stale:
            statements.append(f"DELETE FROM {merge.target} WHERE {merge.stale.replace(f'{merge.name}.', '')}")
        return statements
