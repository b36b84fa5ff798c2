"""How does Redshift take rows? By multi-row INSERT into temporary tables, which is what a connection alone can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import pyarrow as pa

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal, is_plain
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

_MOST_PARAMETERS = 32_000
_LONGEST = "VARCHAR(65535)"


class Redshift(Dialect):
    """Redshift. A text has 65,535 bytes at most, and a longer one is an error; JSON is SUPER."""

    name = "redshift"
    title = "Redshift"
    longest_name = 127
    creates_in_transaction = True
    temporary = "TEMPORARY "
    updates_by_inserting = False
    comments = "apart"
    unlike = "({ours} <> {theirs} OR ({ours} IS NULL) <> ({theirs} IS NULL))"
    types: ClassVar[Mapping[str, str]] = {
        "text": _LONGEST,
        "instant": "TIMESTAMPTZ",
        "money": "DECIMAL(38, 24)",
        "number": "DOUBLE PRECISION",
        "count": "BIGINT",
        "flag": "BOOLEAN",
        "json": "SUPER",
    }
    current_schema = "CURRENT_SCHEMA()"

    def create(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that make the table, if it is not there; what belongs together lies together, in order of time."""
        (statement,) = super().create(place, table, keyed=keyed)
        if table is AGENT_CONFIGS:
            return [f"{statement} DISTSTYLE ALL"]
        start = "started_at" if table is CONVERSATIONS else table.key[0]
        return [f"{statement} DISTKEY ({self.quote(table.key[0])}) SORTKEY ({self.quote(start)})"]

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction; Redshift ends a statement that waits for too long, and knows no other limit."""
        session.run(f"SET statement_timeout TO {max(1, round(lock_timeout * 1000)) * 12}")

    def create_stage(
        self, session: Session, place: Namespace, table: Table, columns: Iterable[Column]
    ) -> None:
        """A temporary table; JSON is text until it is merged."""
        lines = ", ".join(
            f"{self.quote(c.name)} {_LONGEST if c.kind.name == 'json' else self.type_of(c)}" for c in columns
        )
        session.run(f"CREATE TEMPORARY TABLE {self.at(self.staging(place), table)} ({lines})")

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Insert as many rows at a time as a statement takes parameters."""
        columns = ", ".join(map(self.quote, schema.names))
        row = f"({', '.join(['%s'] * len(schema))})"
        most = _MOST_PARAMETERS // len(schema)
        names = f"INSERT INTO {self.at(place, table)} ({columns}) VALUES ".replace("%", "%%")
        cursor = session.connection.cursor()
        try:
            for rows in self.value_rows(batches):
                for start in range(0, len(rows), most):
                    some = rows[start : start + most]
                    cursor.execute(
                        names + ", ".join([row] * len(some)), [value for one in some for value in one]
                    )
        finally:
            cursor.close()

    def refusal(self, error: Exception) -> Refusal:
        """What the server says, by its SQLSTATE; `redshift_connector` has it in a mapping."""
        told = error.args[0] if error.args and isinstance(error.args[0], dict) else None
        if told is None:
            return super().refusal(error)
        sqlstate, message = str(told.get("C", "")), str(told.get("M", ""))
        serialization = "1023" in message
        return Refusal(
            kind=type(error).__name__,
            sqlstate="40001" if serialization else sqlstate or None,
            message=message,
            plain=is_plain(sqlstate, context=told.get("W"), position=told.get("P")),
            passing=serialization or sqlstate.startswith(("08", "40")),
        )

    def read(self, column: Column, kind: str) -> str:
        """Text becomes SUPER where the column is one."""
        name = super().read(column, kind)
        return f"JSON_PARSE({name})" if column.kind.name == "json" and kind.upper() in ("SUPER", "") else name

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Null-safe; a SUPER is compared as its text."""
        ours, theirs = self.read(column, kind), f"{t}.{self.quote(column.name)}"
        if column.kind.name == "json" and kind.upper() in ("SUPER", ""):
            ours, theirs = f"JSON_SERIALIZE({ours})", f"JSON_SERIALIZE({theirs})"
        return self.unlike.format(ours=ours, theirs=theirs)
