"""Redshift: rows are loaded by multi-row INSERT, which needs nothing but a connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import pyarrow as pa

from voiceos_provider.load.sql.capabilities import Capabilities, JsonLimits
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Failure, has_names_only
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

_MOST_PARAMETERS = 32_000
_MAX_TEXT_BYTES = 65_535
_LONGEST = f"VARCHAR({_MAX_TEXT_BYTES})"


class Redshift(Dialect):
    """Redshift. A text has at most 65,535 bytes; JSON is SUPER."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="redshift",
        title="Redshift",
        experimental=True,
        column_types={
            "text": _LONGEST,
            "instant": "TIMESTAMPTZ",
            "money": "DECIMAL(38, 24)",
            "number": "DOUBLE PRECISION",
            "count": "BIGINT",
            "flag": "BOOLEAN",
            "json": "SUPER",
        },
        staging_types={"json": _LONGEST},
        max_identifier_bytes=127,
        comments="statement",
        current_schema="CURRENT_SCHEMA()",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        is_distinct="({ours} <> {theirs} OR ({ours} IS NULL) <> ({theirs} IS NULL))",
        json_limits=JsonLimits(depth=500, exponents=(-307, 307)),
        max_text_bytes=_MAX_TEXT_BYTES,
    )

    def create_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table, distributed by conversation and sorted by time."""
        (statement,) = super().create_table(namespace, table, keyed=keyed)
        if table is AGENT_CONFIGS:
            return [f"{statement} DISTSTYLE ALL"]
        start = "started_at" if table is CONVERSATIONS else table.key[0]
        return [f"{statement} DISTKEY ({self.quote(table.key[0])}) SORTKEY ({self.quote(start)})"]

    def configure(self, session: Session, *, lock_timeout: float) -> None:
        """Set UTC, in which rows are sent; the default may be another time zone of the login."""
        session.run("SET timezone TO 'UTC'")
        session.commit()

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Limit the duration of statements, the only limit that Redshift has for a wait."""
        session.run(f"SET statement_timeout TO {max(1, round(lock_timeout * 1000)) * 12}")

    def load_rows(
        self,
        session: Session,
        namespace: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Insert as many rows at a time as a statement takes parameters."""
        columns = ", ".join(map(self.quote, schema.names))
        row = f"({', '.join(['%s'] * len(schema))})"
        most = _MOST_PARAMETERS // len(schema)
        names = f"INSERT INTO {self.qualified_name(namespace, table)} ({columns}) VALUES ".replace("%", "%%")
        cursor = session.connection.cursor()
        try:
            for rows in self.python_rows(batches):
                for start in range(0, len(rows), most):
                    chunk = rows[start : start + most]
                    cursor.execute(
                        names + ", ".join([row] * len(chunk)), [value for one in chunk for value in one]
                    )
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
            transient=serialization or sqlstate.startswith(("08", "40")),
        )

    def staged_value(self, column: Column, kind: str) -> str:
        """Return the staged value; text becomes SUPER if the column is."""
        name = super().staged_value(column, kind)
        return f"JSON_PARSE({name})" if column.kind.name == "json" and kind.upper() in ("SUPER", "") else name

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Return the condition for a different value; a SUPER is compared as text."""
        ours, theirs = self.staged_value(column, kind), f"{t}.{self.quote(column.name)}"
        if column.kind.name == "json" and kind.upper() in ("SUPER", ""):
            ours, theirs = f"JSON_SERIALIZE({ours})", f"JSON_SERIALIZE({theirs})"
        return self.capabilities.is_distinct.format(ours=ours, theirs=theirs)
