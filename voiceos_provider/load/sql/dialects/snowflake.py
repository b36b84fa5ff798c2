"""Snowflake: rows are loaded as Parquet by `write_pandas`, some types as text that the merge converts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.load.sql.capabilities import BACKSLASH_ESCAPES, Capabilities, JsonLimits
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import LOCK_TIMEOUT, Failure, failure_of
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_ROWS_AT_ONCE = 200_000
_LOST = (250001, 250003, 390114)
_LOCKED = 625
_NAMES_ONLY = (*_LOST, _LOCKED, 604, 606, 630, 904, 2003, 2043, 3001, 90105, 90106)
"""Cancelled, no warehouse, too slow, no such column, no such object, no rights, no database or schema chosen.

Only their texts are repeated: others contain values, such as 100090, which quotes a whole row.
"""


class Snowflake(Dialect):
    """Snowflake. Plain names are written in capitals, as Snowflake does, so that queries need no quotes."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="snowflake",
        title="Snowflake",
        experimental=True,
        column_types={
            "text": "VARCHAR",
            "instant": "TIMESTAMP_TZ",
            "money": "NUMBER(38, 24)",
            "number": "FLOAT",
            "count": "NUMBER(38, 0)",
            "flag": "BOOLEAN",
            "json": "VARIANT",
        },
        # Parquet and Snowflake read these types differently.
        staging_types={"instant": "VARCHAR", "money": "VARCHAR", "json": "VARCHAR"},
        accepted_types={
            "text": "TEXT|VARCHAR",
            "instant": "TIMESTAMP|TEXT|VARCHAR",
            "money": "NUMBER|DECIMAL|FLOAT|TEXT|VARCHAR",
            "number": "NUMBER|FLOAT|DOUBLE|TEXT|VARCHAR",
            "count": "NUMBER|DECIMAL|BIGINT|FLOAT|TEXT|VARCHAR",
            "flag": "BOOLEAN|TEXT|VARCHAR",
            "json": "VARIANT|OBJECT|JSON|TEXT|VARCHAR",
        },
        max_identifier_bytes=255,
        literal_escapes=BACKSLASH_ESCAPES,
        instant_literal="'%Y-%m-%d %H:%M:%S.%f+00:00'::TIMESTAMP_TZ",
        comments="inline",
        current_schema="CURRENT_SCHEMA()",
        temporary="TEMPORARY ",
        staging_in_schema=True,  # temporary tables, too, belong to a schema
        json_text="TO_JSON({})",
        json_limits=JsonLimits(depth=500, exponents=(-307, 307)),
        max_text_bytes=16_777_216,
        text_length="LENGTH",
    )

    def quote(self, name: str) -> str:
        """Return a quoted identifier: a plain name in capitals, any other unchanged."""
        return super().quote(name.upper() if _PLAIN.fullmatch(name) else name)

    def finish_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement for the table's comment. Clustering costs credits, and is left to the user."""
        return [f"COMMENT ON TABLE {self.qualified_name(namespace, table)} IS {self.text(table.description)}"]

    def existing_columns(self, session: Session, namespace: Namespace, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their types, by the names in `table`."""
        schema = self._catalog(namespace.schema) if namespace.schema else self.capabilities.current_schema
        found = session.rows(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = {self._catalog(namespace.prefix + table.name)} AND table_schema = {schema}"
        )
        ours = {column.name.upper(): column.name for column in table.columns}
        return {ours.get(str(name), str(name)): str(kind) for name, kind in found} or None

    def _catalog(self, name: str) -> str:
        return self.text(name.upper() if _PLAIN.fullmatch(name) else name)

    def open(self, connection: Any) -> Session:
        """Return a session with explicit transactions."""
        return _SnowflakeSession(connection)

    def configure(self, session: Session, *, lock_timeout: float) -> None:
        """Set UTC and the lock timeout."""
        for setting in self.settings(lock_timeout):
            session.run(f"ALTER SESSION SET {setting}")

    def settings(self, lock_timeout: float) -> list[str]:
        """Return the settings of the session."""
        return [f"LOCK_TIMEOUT = {max(1, round(lock_timeout))}", "TIMEZONE = 'UTC'"]

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction."""
        session.run("BEGIN")

    def load_rows(
        self,
        session: Session,
        namespace: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Load rows with `write_pandas`."""
        from snowflake.connector.pandas_tools import write_pandas

        chunk: list[pa.RecordBatch] = []

        def put() -> None:
            frame = pa.Table.from_batches([_with_texts(batch) for batch in chunk]).to_pandas()
            frame.columns = [self.quote(name)[1:-1] for name in frame.columns]
            write_pandas(
                session.connection,
                frame,
                self.quote(namespace.prefix + table.name)[1:-1],
                database=session.connection.database if namespace.schema else None,
                schema=self.quote(namespace.schema)[1:-1] if namespace.schema else None,
                quote_identifiers=True,
            )
            chunk.clear()

        for batch in batches:
            chunk.append(batch)
            if sum(map(len, chunk)) >= _ROWS_AT_ONCE:
                put()
        if chunk and sum(map(len, chunk)):
            put()

    def classify(self, error: Exception) -> Failure:
        """Describe an error by SQLSTATE and number."""
        failure = failure_of(error)
        number = getattr(error, "errno", None)
        return Failure(
            kind=failure.kind,
            sqlstate=LOCK_TIMEOUT if number == _LOCKED else failure.sqlstate,
            code=None if number is None else str(number),
            message=" ".join(str(getattr(error, "raw_msg", None) or "").split()),
            names_only=number in _NAMES_ONLY,
            transient=failure.transient or number in _LOST,
            lost=number in _LOST,
        )

    def staged_value(self, column: Column, kind: str) -> str:
        """Return the staged value; staged texts become values of the column's type."""
        name = f"s.{self.quote(column.name)}"
        if column.kind.name == "json":
            return f"PARSE_JSON({name})" if kind.upper() in ("VARIANT", "JSON", "OBJECT", "") else name
        if column.kind.name not in self.capabilities.staging_types:
            return name
        return f"{name}::{self.capabilities.column_types[column.kind.name]}"


class _SnowflakeSession(Session):
    """Session of a connection that autocommits unless a statement began a transaction."""

    in_transaction = False

    def run(self, statement: str) -> None:
        super().run(statement)
        self.in_transaction |= statement == "BEGIN"

    def commit(self) -> None:
        if self.in_transaction:
            self.run("COMMIT")
            self.in_transaction = False

    def rollback(self) -> None:
        if self.in_transaction:
            self.run("ROLLBACK")
            self.in_transaction = False


def _with_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(map(_as_text, batch.columns)), names=batch.schema.names)


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, format="%Y-%m-%d %H:%M:%S+00:00")
    return column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
