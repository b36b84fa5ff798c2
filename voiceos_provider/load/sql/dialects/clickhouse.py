"""How does ClickHouse take rows? Arrow, by its own client; and what is newest wins whenever it is read.

There are no transactions. Tables are `ReplacingMergeTree(_exported_at)`: a changed row is inserted beside the old one,
and a reader who says FINAL sees the newer. What belongs to conversations is written before them, so that whoever sees
a conversation finds what belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal
from voiceos_provider.load.sql.namespace import Merge, Namespace
from voiceos_provider.load.sql.quoting import BACKSLASH_ESCAPES
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

    name = "clickhouse"
    title = "ClickHouse"
    quotes = ("`", "`")
    longest_name = 200
    escapes = BACKSLASH_ESCAPES
    instants = "toDateTime64('%Y-%m-%d %H:%M:%S.%f', 6, 'UTC')"
    comments = "within"
    unless_there = "IF NOT EXISTS "
    types: ClassVar[Mapping[str, str]] = {
        "text": "String",
        "instant": "DateTime64(6, 'UTC')",
        "money": "Decimal(38, 24)",
        "number": "Float64",
        "count": "Int64",
        "flag": "Bool",
        "json": "String",
    }
    fitting: ClassVar[Mapping[str, str]] = {
        "text": r".*String|.*Enum|.*UUID",
        "instant": r".*DateTime",
        "money": r".*Decimal|.*Float|.*String",
        "number": r".*Decimal|.*Float|.*String",
        "count": r".*Int|.*Decimal|.*Float|.*String",
        "flag": r".*Bool|.*Int",
        "json": r".*String|.*JSON",
    }
    current_schema = "currentDatabase()"

    def quote(self, name: str) -> str:
        """An identifier; a backslash would escape what follows."""
        return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """Nullable, where it is."""
        kind = self.types[column.kind.name]
        return f"Nullable({kind})" if column.nullable and not key else kind

    def create(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that make the table, if it is not there; an appended table keeps every row."""
        columns = ",\n  ".join(
            f"{self.quote(c.name)} {self.type_of(c)}{self.comment(c.description)}" for c in table.columns
        )
        engine = "ReplacingMergeTree(_exported_at)" if keyed else "MergeTree"
        key = ", ".join(map(self.quote, table.key))
        return [
            f"CREATE TABLE IF NOT EXISTS {self.at(place, table)} (\n  {columns}\n) ENGINE = {engine} "
            f"ORDER BY ({key}) COMMENT {self.text(table.description)}"
        ]

    def existing(self, session: Session, place: Namespace, table: Table) -> dict[str, str] | None:
        """The columns with their types."""
        schema = self.text(place.schema) if place.schema else self.current_schema
        found = session.rows(
            f"SELECT name, type FROM system.columns WHERE database = {schema} "
            f"AND table = {self.text(place.prefix + table.name)}"
        )
        return dict(found) or None

    def open(self, connection: Any) -> Session:
        """A session of a `clickhouse_connect` client.

        :raises VoiceOSValueError: if the server is too old
        """
        version = str(connection.server_version)
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
            raise VoiceOSValueError(
                f"This is ClickHouse {version}, and {'.'.join(map(str, _OLDEST))} or newer is needed."
            )
        return _ClickHouseSession(connection)

    def create_stage(
        self, session: Session, place: Namespace, table: Table, columns: Sequence[Column]
    ) -> None:
        """A table of its own; the client keeps no session between two statements."""
        lines = ", ".join(f"{self.quote(c.name)} {self.type_of(c)}" for c in columns)
        key = ", ".join(self.quote(c.name) for c in columns if c.name in table.key)
        self.drop_stage(session, place, table)  # of a try whose connection was lost
        session.run(
            f"CREATE TABLE {self.at(self.staging(place), table)} ({lines}) ENGINE = MergeTree ORDER BY ({key})"
        )

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Insert Arrow."""
        name = self.at(place, table)
        some: list[pa.RecordBatch] = []
        for batch in batches:
            some.append(batch)
            if sum(map(len, some)) >= _ROWS_AT_ONCE:
                session.connection.insert_arrow(name, pa.Table.from_batches(some, schema))
                some = []
        if any(map(len, some)):
            session.connection.insert_arrow(name, pa.Table.from_batches(some, schema))

    def refusal(self, error: Exception) -> Refusal:
        """The client's classes of errors; what the server says may hold values, and is not repeated."""
        kind = type(error).__name__
        lost = kind in ("OperationalError", "InterfaceError", "StreamClosedError")
        return Refusal(kind=kind, code=None if lost else kind, message=str(error), passing=lost, lost=lost)

    def not_staged(self, merge: Merge) -> str:
        """By the whole key at once, for a deletion takes no correlated query."""
        key = ", ".join(map(self.quote, merge.table.key))
        return f"({key}) NOT IN (SELECT {key} FROM {merge.stage})"

    def write(self, merge: Merge, *, new: int, old: int, gone: int) -> list[str]:
        """Insert what is new or says something else, then remove what is gone."""
        statements = []
        if new or old:
            key = f"t.{self.quote(merge.table.key[0])}"
            only = "" if merge.advance else f" WHERE {key} IS NULL OR {self.changed(merge)}"
            statements.append(
                f"INSERT INTO {merge.target} ({self.names(merge)}) SELECT {self.staged(merge)} FROM {merge.stage} s "
                f"LEFT JOIN {merge.target} t ON {self.same_row(merge)}{only}"
            )
        if gone:
            statements.append(f"DELETE FROM {merge.target} WHERE {merge.gone.replace(f'{merge.bare}.', '')}")
        return statements


class _ClickHouseSession(Session):
    """A client in place of a connection; each statement stands for itself."""

    undone = "A retry completes what was written."

    def run(self, statement: str) -> None:
        self.connection.command(statement, settings=dict(_SETTINGS))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.query(query, settings=dict(_SETTINGS)).result_rows]

    def commit(self) -> None:
        """Nothing to do."""

    def rollback(self) -> None:
        """Nothing can be done."""
