"""How does SQLite take rows? By the standard library's module, in one transaction that waits for other writers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Table

_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
_OF_THE_FILE = (
    *_PASSING,
    "SQLITE_READONLY",
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR",
    "SQLITE_NOTADB",
)
"""Errors whose text holds no value of a row; that of any other may be a trigger's."""


class SQLite(Dialect):
    """A SQLite file.

    It has neither date-times nor decimals: instants are text in RFC 3339, which sorts as time does, and money is a
    double.
    """

    name = "sqlite"
    title = "SQLite"
    creates_in_transaction = True
    locks = True
    loads_directly = True
    temporary = "TEMPORARY "
    updates_by_inserting = False
    instants = "'%Y-%m-%dT%H:%M:%S.%fZ'"
    unlike = "{ours} IS NOT {theirs}"
    types: ClassVar[Mapping[str, str]] = {
        "text": "TEXT",
        "instant": "TEXT",
        "money": "REAL",
        "number": "REAL",
        "count": "INTEGER",
        "flag": "INTEGER",
        "json": "TEXT",
    }

    def finish(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """An index for appended tables, which have no key."""
        if keyed:
            return []
        schema = f"{self.quote(place.schema)}." if place.schema else ""
        name = self.quote(f"{place.prefix}{table.name}_key_idx")
        return [
            f"CREATE INDEX IF NOT EXISTS {schema}{name} ON {self.bare(place, table)} "
            f"({', '.join(map(self.quote, table.key))})"
        ]

    def existing(self, session: Session, place: Namespace, table: Table) -> dict[str, str] | None:
        """The columns with their declared types."""
        schema = self.text(place.schema or "main")
        found = session.rows(
            f"SELECT name, type FROM pragma_table_info({self.text(place.prefix + table.name)}, {schema})"
        )
        return dict(found) or None

    def open(self, connection: Any) -> Session:
        """A session in which nothing is visible before its commit."""
        connection.isolation_level = None  # the module would begin and commit where it thinks fit
        return _SQLiteSession(connection)

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction as the only writer, and wait until nobody else is one."""
        session.run(f"PRAGMA busy_timeout = {round(lock_timeout * 1000)}")
        session.run("PRAGMA temp_store = FILE")
        session.run("BEGIN IMMEDIATE")

    def filled(self, session: Session, place: Namespace, table: Table) -> None:
        """Look staged rows up by their key: otherwise each row of the table is compared with every one of them."""
        staging = self.staging(place)
        name = self.quote(f"{staging.prefix}{table.name}_key_idx")
        key = ", ".join(map(self.quote, table.key))
        session.run(f"CREATE INDEX {name} ON {self.at(staging, table)} ({key})")

    def values(self, column: pa.Array) -> list[Any]:
        """Date-times as text, decimals as doubles."""
        if pa.types.is_timestamp(column.type):
            column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")  # with its fraction
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.string()).cast(
                pa.float64()
            )  # the nearest one; a direct cast may be the next
        return super().values(column)

    def refusal(self, error: Exception) -> Refusal:
        """SQLite has names of its own for what went wrong."""
        code = str(getattr(error, "sqlite_errorname", None) or type(error).__name__)
        said = str(error)
        return Refusal(
            kind=type(error).__name__,
            code=code,
            message=said,
            plain=code.startswith(_OF_THE_FILE)
            or (code == "SQLITE_ERROR" and said.startswith("no such table: ")),
            passing=code.startswith(_PASSING),
        )


class _SQLiteSession(Session):
    """Transactions are begun by a statement."""

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        if self.connection.in_transaction:
            self.run("ROLLBACK")
