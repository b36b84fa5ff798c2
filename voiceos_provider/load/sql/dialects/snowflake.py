"""Snowflake: rows are loaded as Parquet by `write_pandas`, some types as text that the merge converts."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.load.sql.capabilities import BACKSLASH_ESCAPES, Capabilities, ColumnType, JsonLimits
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import LOCK_TIMEOUT, Failure, failure_of
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.sql.session import StatementSession
from voiceos_provider.load.sql.staging import at_least
from voiceos_provider.transform import Table

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_ROWS_AT_ONCE = 200_000
_LOST = (250001, 250003, 390114)
_LOCKED = 625
_NAMES_ONLY = (*_LOST, _LOCKED, 604, 606, 630, 904, 2003, 2043, 3001, 90105, 90106)
"""Cancelled, no warehouse, too slow, no such column, no such object, no rights, no database or schema chosen.

Only their texts are repeated: others contain values, such as 100090, which quotes a whole row.
"""


class Snowflake(StatementSession, Dialect):
    """Snowflake. Plain names are written in capitals, as Snowflake does, so that queries need no quotes."""

    capabilities = Capabilities(
        name="snowflake",
        title="Snowflake",
        experimental=True,
        types={
            "text": ColumnType("VARCHAR", "TEXT|VARCHAR"),
            # Parquet and Snowflake read instants, amounts and documents differently.
            "instant": ColumnType("TIMESTAMP_TZ", "TIMESTAMP|TEXT|VARCHAR", staged="VARCHAR"),
            "money": ColumnType("NUMBER(38, 24)", "NUMBER|DECIMAL|FLOAT|TEXT|VARCHAR", staged="VARCHAR"),
            "number": ColumnType("FLOAT", "NUMBER|FLOAT|DOUBLE|TEXT|VARCHAR"),
            "count": ColumnType("NUMBER(38, 0)", "NUMBER|DECIMAL|BIGINT|FLOAT|TEXT|VARCHAR"),
            "flag": ColumnType("BOOLEAN", "BOOLEAN|TEXT|VARCHAR"),
            "json": ColumnType("VARIANT", "VARIANT|OBJECT|JSON|TEXT|VARCHAR", staged="VARCHAR"),
        },
        max_identifier_bytes=255,
        literal_escapes=BACKSLASH_ESCAPES,
        instant_literal="'%Y-%m-%d %H:%M:%S.%f+00:00'::TIMESTAMP_TZ",
        comments="inline",
        current_schema="CURRENT_SCHEMA()",
        temporary="TEMPORARY ",
        staging_in_schema=True,  # temporary tables, too, belong to a schema
        parse_json="PARSE_JSON({})",
        json_text="TO_JSON({})",
        json_limits=JsonLimits(depth=500, exponents=(-307, 307)),
        max_text_bytes=16_777_216,
        text_length="LENGTH",
    )

    def stored_name(self, name: str) -> str:
        """Return a plain name in capitals, any other unchanged."""
        return name.upper() if _PLAIN.fullmatch(name) else name

    def finish_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement for the table's comment. Clustering costs credits, and is left to the user."""
        return [f"COMMENT ON TABLE {self.target(table)} IS {self.text(table.description)}"]

    def configure(self) -> None:
        """Set UTC and the lock timeout."""
        for setting in self.settings():
            self.run(f"ALTER SESSION SET {setting}")

    def settings(self) -> list[str]:
        """Return the settings of the session."""
        return [f"LOCK_TIMEOUT = {max(1, round(self.lock_timeout))}", "TIMEZONE = 'UTC'"]

    def begin(self) -> None:
        """Begin a transaction."""
        self.run("BEGIN")

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Load rows with `write_pandas`."""
        from snowflake.connector.pandas_tools import write_pandas

        for chunk in at_least(rows, _ROWS_AT_ONCE):
            texts = [pa.chunked_array(map(_as_text, column.chunks)) for column in chunk.columns]
            write_pandas(
                self.connection,
                pa.table(texts, list(map(self._escaped, chunk.schema.names))).to_pandas(),
                self._escaped(namespace.prefix + table.name),
                database=self.connection.database if namespace.schema else None,
                schema=self._escaped(namespace.schema) if namespace.schema else None,
                quote_identifiers=True,
            )

    def _escaped(self, name: str) -> str:
        return self.quote(name)[1:-1]

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
            lost=failure.lost or number in _LOST,
        )


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, format="%Y-%m-%d %H:%M:%S+00:00")
    return column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
