"""How does Snowflake take rows? As Parquet that `write_pandas` stages, spelled as text, and cast in the merge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal, refusal_of
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.quoting import BACKSLASH_ESCAPES, STAGED
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_ROWS_AT_ONCE = 200_000
_LOST = (250001, 250003, 390114)
_PASSING = (*_LOST, 625)  # a lock
_NAMES_THINGS = (*_PASSING, 604, 606, 630, 904, 2003, 2043, 3001, 90105, 90106)
"""Cancelled, no warehouse, too slow, no such column, no such object, no rights, no database or schema chosen.

Only their texts are repeated: others hold values, such as 100090, which quotes a whole row.
"""


class Snowflake(Dialect):
    """Snowflake. Plain names are written in capitals, as it does itself, so that nobody has to quote them."""

    name = "snowflake"
    title = "Snowflake"
    longest_name = 255
    temporary = "TEMPORARY "
    updates_by_inserting = False
    escapes = BACKSLASH_ESCAPES
    instants = "'%Y-%m-%d %H:%M:%S.%f+00:00'::TIMESTAMP_TZ"
    comments = "within"
    unlike = "{ours} IS DISTINCT FROM {theirs}"
    document = "TO_JSON({})"
    types: ClassVar[Mapping[str, str]] = {
        "text": "VARCHAR",
        "instant": "TIMESTAMP_TZ",
        "money": "NUMBER(38, 24)",
        "number": "FLOAT",
        "count": "NUMBER(38, 0)",
        "flag": "BOOLEAN",
        "json": "VARIANT",
    }
    fitting: ClassVar[Mapping[str, str]] = {
        "text": "TEXT|VARCHAR",
        "instant": "TIMESTAMP|TEXT|VARCHAR",
        "money": "NUMBER|DECIMAL|FLOAT|TEXT|VARCHAR",
        "number": "NUMBER|FLOAT|DOUBLE|TEXT|VARCHAR",
        "count": "NUMBER|DECIMAL|BIGINT|FLOAT|TEXT|VARCHAR",
        "flag": "BOOLEAN|TEXT|VARCHAR",
        "json": "VARIANT|OBJECT|JSON|TEXT|VARCHAR",
    }
    current_schema = "CURRENT_SCHEMA()"

    def quote(self, name: str) -> str:
        """A plain name in capitals, any other as it is."""
        return super().quote(name.upper() if _PLAIN.fullmatch(name) else name)

    def finish(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """The table's comment. Clustering costs credits for ever, so that is left to whoever pays for it."""
        return [f"COMMENT ON TABLE {self.at(place, table)} IS {self.text(table.description)}"]

    def existing(self, session: Session, place: Namespace, table: Table) -> dict[str, str] | None:
        """The columns with their types, by the names that we have for them."""
        schema = self._catalog(place.schema) if place.schema else self.current_schema
        found = session.rows(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = {self._catalog(place.prefix + table.name)} AND table_schema = {schema}"
        )
        ours = {column.name.upper(): column.name for column in table.columns}
        return {ours.get(str(name), str(name)): str(kind) for name, kind in found} or None

    def _catalog(self, name: str) -> str:
        return self.text(name.upper() if _PLAIN.fullmatch(name) else name)

    def open(self, connection: Any) -> Session:
        """A session whose transactions are begun by a statement."""
        return _SnowflakeSession(connection)

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction."""
        for setting in self.settings(lock_timeout):
            session.run(f"ALTER SESSION SET {setting}")
        session.run("BEGIN")

    def settings(self, lock_timeout: float) -> list[str]:
        """Of the session."""
        return [f"LOCK_TIMEOUT = {max(1, round(lock_timeout))}", "TIMEZONE = 'UTC'"]

    def create_stage(
        self, session: Session, place: Namespace, table: Table, columns: Sequence[Column]
    ) -> None:
        """A temporary table; whatever Parquet and Snowflake could understand differently is text."""
        lines = ", ".join(
            f"{self.quote(c.name)} {self.types[c.kind.name] if c.kind.name in _AS_IS else 'VARCHAR'}"
            for c in columns
        )
        session.run(f"CREATE TEMPORARY TABLE {self.at(self.staging(place), table)} ({lines})")

    def staging(self, place: Namespace) -> Namespace:
        """Temporary tables, too, stand in a schema."""
        return Namespace(place.schema, f"{STAGED}{self._stamp}_")

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Write Parquet, put it, copy it."""
        from snowflake.connector.pandas_tools import write_pandas

        some: list[pa.RecordBatch] = []

        def put() -> None:
            frame = pa.Table.from_batches([_spelled(batch) for batch in some]).to_pandas()
            frame.columns = [self.quote(name)[1:-1] for name in frame.columns]
            write_pandas(
                session.connection,
                frame,
                self.quote(place.prefix + table.name)[1:-1],
                database=session.connection.database if place.schema else None,
                schema=self.quote(place.schema)[1:-1] if place.schema else None,
                quote_identifiers=True,
            )
            some.clear()

        for batch in batches:
            some.append(batch)
            if sum(map(len, some)) >= _ROWS_AT_ONCE:
                put()
        if some and sum(map(len, some)):
            put()

    def refusal(self, error: Exception) -> Refusal:
        """Snowflake's numbers beside its SQLSTATE."""
        refusal = refusal_of(error)
        number = getattr(error, "errno", None)
        return Refusal(
            kind=refusal.kind,
            sqlstate=refusal.sqlstate,
            code=None if number is None else str(number),
            message=" ".join(str(getattr(error, "raw_msg", None) or "").split()),
            plain=number in _NAMES_THINGS,
            passing=refusal.passing or number in _PASSING,
            lost=number in _LOST,
        )

    def read(self, column: Column, kind: str) -> str:
        """Text becomes what the column is."""
        name = f"s.{self.quote(column.name)}"
        if column.kind.name == "json":
            return f"PARSE_JSON({name})" if kind.upper() in ("VARIANT", "JSON", "OBJECT", "") else name
        if column.kind.name in _AS_IS or column.kind.name == "text":
            return name
        return f"{name}::{self.types[column.kind.name]}"


_AS_IS = ("number", "count", "flag")


class _SnowflakeSession(Session):
    """Its connection commits by itself unless a transaction was begun by a statement."""

    begun = False

    def run(self, statement: str) -> None:
        super().run(statement)
        self.begun |= statement == "BEGIN"

    def commit(self) -> None:
        if self.begun:
            self.run("COMMIT")
            self.begun = False

    def rollback(self) -> None:
        if self.begun:
            self.run("ROLLBACK")
            self.begun = False


def _spelled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(map(_as_text, batch.columns)), names=batch.schema.names)


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, format="%Y-%m-%d %H:%M:%S+00:00")
    return column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
