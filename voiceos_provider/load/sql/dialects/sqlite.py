"""SQLite: rows are loaded through the standard library, in one transaction that waits for other writers."""

from __future__ import annotations

import sqlite3
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.load.sql.capabilities import Capabilities
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import LOCK_TIMEOUT, Failure
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.sql.session import Session
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


class SQLite(Dialect):
    """A SQLite file.

    It has neither date-times nor decimals: instants are text in RFC 3339, which sorts by time, and money is a double.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="sqlite",
        title="SQLite",
        column_types={
            "text": "TEXT",
            "instant": "TEXT",
            "money": "REAL",
            "number": "REAL",
            "count": "INTEGER",
            "flag": "INTEGER",
            "json": "TEXT",
        },
        # A column of another affinity turns texts such as "007" into numbers.
        accepted_types={"text": _TEXT, "instant": rf"{_TEXT}|date|timestamp", "json": rf"{_TEXT}|json"},
        instant_literal="'%Y-%m-%dT%H:%M:%S.%fZ'",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        has_load_lock=True,
        direct_load=True,
        is_distinct="{ours} IS NOT {theirs}",
        text_length="LENGTH",
    )

    def finish_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement for an index of an appended table, which has no key."""
        if keyed:
            return []
        schema = f"{self.quote(namespace.schema)}." if namespace.schema else ""
        name = self.quote(self.derived_name(f"{namespace.prefix}{table.name}_key_idx"))
        return [
            f"CREATE INDEX IF NOT EXISTS {schema}{name} ON {self.table_name(namespace, table)} "
            f"({', '.join(map(self.quote, table.key))})"
        ]

    def existing_columns(self, session: Session, namespace: Namespace, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their declared types."""
        schema = self.text(namespace.schema or "main")
        found = session.rows(
            f"SELECT name, type FROM pragma_table_info({self.text(namespace.prefix + table.name)}, {schema})"
        )
        return dict(found) or None

    def open(self, connection: Any) -> Session:
        """Return a session with explicit transactions."""
        connection.isolation_level = None  # otherwise the module begins and commits by itself
        return _SQLiteSession(connection)

    def configure(self, session: Session, *, lock_timeout: float) -> None:
        """Keep temporary tables on disk."""
        session.run("PRAGMA temp_store = FILE")

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction as the only writer; wait for another one at most `lock_timeout` seconds."""
        wait = f"PRAGMA busy_timeout = {round(lock_timeout * 1000)}"
        session.run("PRAGMA busy_timeout = 0")
        try:
            session.run("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                raise
            with session.waiting("the SQLite file", lock_timeout=lock_timeout):
                session.run(wait)
                session.run("BEGIN IMMEDIATE")
        session.run(wait)  # the commit waits for readers

    def finish_staging_table(self, session: Session, namespace: Namespace, table: Table) -> None:
        """Index the key, or each row of the table is compared with every staged row."""
        staging = self.staging_namespace(namespace)
        name = self.quote(f"{staging.prefix}{table.name}_key_idx")
        key = ", ".join(map(self.quote, table.key))
        session.run(f"CREATE INDEX {name} ON {self.qualified_name(staging, table)} ({key})")

    def python_values(self, column: pa.Array) -> list[Any]:
        """Return date-times as text, decimals as doubles."""
        if pa.types.is_timestamp(column.type):
            column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")  # with its fraction
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.string()).cast(
                pa.float64()
            )  # the nearest one; a direct cast may be the next
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


class _SQLiteSession(Session):
    """Session whose transactions begin with a statement."""

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        if self.connection.in_transaction:
            self.run("ROLLBACK")
