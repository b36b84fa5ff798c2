"""Redshift: rows are loaded by multi-row INSERT, which needs nothing but a connection."""

from __future__ import annotations

from itertools import chain

import pyarrow as pa

from voiceos_provider.load.sql.capabilities import Capabilities, ColumnType, JsonLimits
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Failure, has_names_only
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

_MOST_PARAMETERS = 32_000
_MAX_TEXT_BYTES = 65_535
_LONGEST = f"VARCHAR({_MAX_TEXT_BYTES})"


class Redshift(Dialect):
    """Redshift. A text has at most 65,535 bytes; JSON is SUPER."""

    capabilities = Capabilities(
        name="redshift",
        title="Redshift",
        experimental=True,
        types={
            "text": ColumnType(_LONGEST),
            "instant": ColumnType("TIMESTAMPTZ"),
            "money": ColumnType("DECIMAL(38, 24)"),
            "number": ColumnType("DOUBLE PRECISION"),
            "count": ColumnType("BIGINT"),
            "flag": ColumnType("BOOLEAN"),
            "json": ColumnType("SUPER", staged=_LONGEST),
        },
        max_identifier_bytes=127,
        comments="statement",
        current_schema="CURRENT_SCHEMA()",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        is_distinct="({ours} <> {theirs} OR ({ours} IS NULL) <> ({theirs} IS NULL))",
        parse_json="JSON_PARSE({})",
        json_text="JSON_SERIALIZE({})",
        json_limits=JsonLimits(depth=500, exponents=(-307, 307)),
        max_text_bytes=_MAX_TEXT_BYTES,
    )

    def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table, distributed by conversation and sorted by time."""
        (statement,) = super().create_table(table, keyed=keyed)
        if table is AGENT_CONFIGS:
            return [f"{statement} DISTSTYLE ALL"]
        start = "started_at" if table is CONVERSATIONS else table.key[0]
        return [f"{statement} DISTKEY ({self.quote(table.key[0])}) SORTKEY ({self.quote(start)})"]

    def configure(self) -> None:
        """Set UTC, in which rows are sent; the default may be another time zone of the login."""
        self.run("SET timezone TO 'UTC'")
        self.commit()

    def begin(self) -> None:
        """Limit the duration of statements, the only limit that Redshift has for a wait."""
        self.run(f"SET statement_timeout TO {max(1, round(self.lock_timeout * 1000)) * 12}")

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Insert as many rows at a time as a statement takes parameters."""
        columns = ", ".join(map(self.quote, rows.schema.names))
        row = f"({', '.join(['%s'] * len(rows.schema))})"
        insert = f"INSERT INTO {self.target(table, namespace)} ({columns}) VALUES ".replace("%", "%%")
        cursor = self.connection.cursor()
        try:
            for chunk in self.python_rows(rows, _MOST_PARAMETERS // len(rows.schema)):
                cursor.execute(insert + ", ".join([row] * len(chunk)), list(chain.from_iterable(chunk)))
        finally:
            cursor.close()

    def classify(self, error: Exception) -> Failure:
        """Describe an error by its SQLSTATE; `redshift_connector` has it in a mapping."""
        details = error.args[0] if error.args and isinstance(error.args[0], dict) else None
        if details is None:
            return super().classify(error)
        sqlstate, message = str(details.get("C", "")), str(details.get("M", ""))
        serialization = "1023" in message
        return Failure(
            kind=type(error).__name__,
            sqlstate="40001" if serialization else sqlstate or None,
            message=message,
            names_only=has_names_only(sqlstate, context=details.get("W"), position=details.get("P")),
        )
