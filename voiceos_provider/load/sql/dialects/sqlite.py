"""SQLite: rows are loaded through the standard library, in one transaction that waits for other writers."""

from __future__ import annotations

import sqlite3
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.sql.capabilities import Capabilities, ColumnType
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import LOCK_TIMEOUT, Failure
from voiceos_provider.load.sql.session import StatementSession
from voiceos_provider.transform import Table

_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
_ABOUT_THE_FILE = (
    *_LOCKED,
    "SQLITE_READONLY",
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR",
    "SQLITE_NOTADB",
)
"""Errors whose text contains no value of a row; the text of any other may come from a trigger."""

_TEXT = r".*(char|clob|text)|blob|$"


class SQLite(StatementSession, Dialect):
    """A SQLite file.

    It has neither date-times nor decimals: instants are text in RFC 3339, which sorts by time, and money is a double.
    """

    capabilities = Capabilities(
        name="sqlite",
        title="SQLite",
        types={
            # A column of another affinity turns texts such as "007" into numbers.
            "text": ColumnType("TEXT", _TEXT),
            "instant": ColumnType("TEXT", rf"{_TEXT}|date|timestamp"),
            "money": ColumnType("REAL"),
            "number": ColumnType("REAL"),
            "count": ColumnType("INTEGER"),
            "flag": ColumnType("INTEGER"),
            "json": ColumnType("TEXT", rf"{_TEXT}|json"),
        },
        placeholder="?",
        instant_literal="'%Y-%m-%dT%H:%M:%S.%fZ'",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        has_load_lock=True,
        is_distinct="{ours} IS NOT {theirs}",
        text_length="LENGTH",
    )

    def finish_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement for an index of an appended table, which has no key."""
        if keyed:
            return []
        name = self.in_schema(self.derived_name(f"{self.namespace.prefix}{table.name}_key_idx"))
        key = ", ".join(map(self.quote, table.key))
        return [f"CREATE INDEX IF NOT EXISTS {name} ON {self.table_name(table)} ({key})"]

    def existing_columns(self, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their declared types."""
        name, schema = self.namespace.prefix + table.name, self.namespace.schema or "main"
        found = self.rows(f"SELECT name, type FROM pragma_table_info({self.text(name)}, {self.text(schema)})")
        return dict(found) or None

    def open(self, connection: Any) -> None:
        """Use a new connection, with explicit transactions."""
        super().open(connection)
        connection.isolation_level = None  # otherwise the module begins and commits by itself

    def configure(self) -> None:
        """Keep temporary tables on disk."""
        self.run("PRAGMA temp_store = FILE")

    def begin(self) -> None:
        """Begin a transaction as the only writer; wait for another one at most `lock_timeout` seconds."""
        wait = f"PRAGMA busy_timeout = {round(self.lock_timeout * 1000)}"
        self.run("PRAGMA busy_timeout = 0")
        try:
            self.run("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                raise
            with self.waiting("the SQLite file", self.lock_timeout):
                self.run(wait)
                self.run("BEGIN IMMEDIATE")
        self.run(wait)  # the commit waits for readers

    def finish_staging_table(self, table: Table) -> None:
        """Index the key, or each row of the table is compared with every staged row."""
        name = self.quote(f"{self.staging.prefix}{table.name}_key_idx")
        key = ", ".join(map(self.quote, table.key))
        self.run(f"CREATE INDEX {name} ON {self.staging_table(table)} ({key})")

    def purge(self) -> None:
        """Write the file anew, because free pages keep deleted and updated rows; then empty its log."""
        self.run(f"VACUUM {self.quote(self.namespace.schema or 'main')}")
        ((is_busy, *_),) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if is_busy:
            raise VoiceOSDestinationError(
                "A reader of the SQLite file keeps deleted rows in it. Close its connection, and erase again."
            )

    def python_values(self, column: pa.Array) -> list[Any]:
        """Return date-times as text, decimals as doubles."""
        if pa.types.is_timestamp(column.type):
            column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")  # with its fraction
        if pa.types.is_decimal(column.type):
            # The nearest one; a direct cast may be the next.
            column = column.cast(pa.string()).cast(pa.float64())
        return super().python_values(column)

    def classify(self, error: Exception) -> Failure:
        """Describe an error by SQLite's name for it; a lock that outlasts `lock_timeout` is not waited for again."""
        code = str(getattr(error, "sqlite_errorname", None) or type(error).__name__)
        message = str(error)
        return Failure(
            kind=type(error).__name__,
            sqlstate=LOCK_TIMEOUT if code.startswith(_LOCKED) else None,
            code=code,
            message=message,
            names_only=code.startswith(_ABOUT_THE_FILE)
            or (code == "SQLITE_ERROR" and message.startswith("no such table: ")),
        )
