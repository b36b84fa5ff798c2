"""How do MySQL and MariaDB take rows? By LOAD DATA LOCAL where both sides allow it, else by multi-row INSERT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal
from voiceos_provider.load.sql.namespace import Merge, Namespace
from voiceos_provider.load.sql.quoting import BACKSLASH_ESCAPES, STAGED
from voiceos_provider.load.sql.session import Session
from voiceos_provider.load.workdir import disk_errors, local_file
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS

_TEXT = "char|varchar|tinytext|text|mediumtext|longtext|enum"
_KEY = "VARCHAR(255)"
_SORTED_BY = "COLLATE utf8mb4_bin"

_PASSING = {
    1040: "08004",  # too many connections
    1053: "57P01",  # shutting down
    1205: "40P01",  # lock wait timeout
    1213: "40001",  # deadlock
    2002: "08001",
    2003: "08001",
    2006: "08006",  # gone away
    2013: "08006",  # lost
    2055: "08006",
}
_TOLD = {
    1044: "42501",
    1045: "28000",
    1049: "3D000",
    1142: "42501",
    1143: "42501",
    1227: "42501",
    1021: "53100",
    1146: "42P01",  # no such table
    1054: "42703",  # no such column
}
"""Numbers of errors, with the SQLSTATE that others have for the same; MySQL says HY000 or 42000 for most.

Only their texts are repeated: any other may hold a value of a row, or what a user's trigger says of it.
"""

_NO_FILES = (1148, 2068, 3948, 3950, 4166)
"""Errors of a client or a server that sends or takes no files."""

_INDEXES = {CONVERSATIONS.name: ("started_at", "_interval_start")}


class MySQL(Dialect):
    """MySQL 8 or newer, and MariaDB 10.5 or newer.

    It has no date-times with zone: instants are DATETIME(6) in UTC. Texts are told apart by every letter.
    """

    name = "mysql"
    title = "MySQL"
    quotes = ("`", "`")
    longest_name = 64
    locks = True
    temporary = "TEMPORARY "
    updates_by_inserting = False
    escapes = BACKSLASH_ESCAPES
    comments = "within"
    unlike = "NOT ({ours} <=> {theirs})"
    document = "CAST({} AS CHAR)"
    types: ClassVar[Mapping[str, str]] = {
        "text": "LONGTEXT",
        "instant": "DATETIME(6)",
        "money": "DECIMAL(38, 24)",
        "number": "DOUBLE",
        "count": "BIGINT",
        "flag": "BOOLEAN",
        "json": "JSON",
    }
    fitting: ClassVar[Mapping[str, str]] = {
        "text": _TEXT,
        "instant": f"datetime|timestamp|{_TEXT}",
        "money": f"decimal|double|float|{_TEXT}",
        "number": f"decimal|double|float|{_TEXT}",
        "count": f"bigint|int|decimal|double|{_TEXT}",
        "flag": f"tinyint|smallint|int|bit|bool|{_TEXT}",
        "json": f"json|longtext|{_TEXT}",
    }
    current_schema = "DATABASE()"

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """A key has a length, for an index takes no more."""
        if column.kind.name == "text":
            return _KEY if key else self.types["text"]
        return super().type_of(column, key=key)

    def create(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that make the table, if it is not there, with its indexes."""
        (statement,) = super().create(place, table, keyed=keyed)
        indexed = list(_INDEXES.get(table.name, ())) + ([] if keyed else list(table.key[:1]))
        indexes = "".join(f",\n  INDEX ({self.quote(name)})" for name in indexed)
        return [
            statement.removesuffix("\n)")
            + f"{indexes}\n) CHARACTER SET utf8mb4 {_SORTED_BY} COMMENT {self.text(table.description)}"
        ]

    def open(self, connection: Any) -> Session:
        """A session that takes rows as they are, or refuses them."""
        session = Session(connection)
        session.run(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'"
        )
        session.run("SET NAMES utf8mb4 COLLATE utf8mb4_bin")
        session.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        session.run("SET SESSION autocommit = 0")
        # A worker whose machine has vanished says nothing, and keeps its locks until somebody notices.
        session.run(f"SET SESSION wait_timeout = {self.longest_silence}")
        return session

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction."""
        session.run(f"SET SESSION innodb_lock_wait_timeout = {max(1, round(lock_timeout))}")
        session.run("START TRANSACTION")

    def lock(self, session: Session, place: Namespace, *, lock_timeout: float) -> None:
        """Wait until no other export writes here; a lock of the session's, by name."""
        if place.schema:
            session.run(f"USE {self.quote(place.schema)}")  # a deletion by alias asks for it
        got = session.rows(f"SELECT GET_LOCK({self._lock(place)}, {max(1, round(lock_timeout))})")
        if got != [(1,)]:
            raise VoiceOSDestinationError(
                f"Another export wrote to {place} for longer than lock_timeout={lock_timeout:g} seconds."
            )

    def unlock(self, session: Session, place: Namespace) -> None:
        """Let others write."""
        session.rows(f"SELECT RELEASE_LOCK({self._lock(place)})")

    def _lock(self, place: Namespace) -> str:
        schema = self.text(place.schema) if place.schema else "DATABASE()"
        # A name may have 64 letters; MySQL 9.6 and newer have no MD5.
        return f"CONCAT('voiceos ', LEFT(SHA2(CONCAT({schema}, ' ', {self.text(place.prefix)}), 256), 56))"

    def create_stage(
        self, session: Session, place: Namespace, table: Table, columns: Iterable[Column]
    ) -> None:
        """Make an empty staging table, whose texts are compared as those of the tables."""
        columns = list(columns)
        lines = [f"{self.quote(c.name)} {self.type_of(c, key=c.name in table.key)}" for c in columns]
        lines.append(f"PRIMARY KEY ({', '.join(map(self.quote, table.key))})")
        session.run(
            f"CREATE TEMPORARY TABLE {self.at(self.staging(place), table)} ({', '.join(lines)}) "
            f"CHARACTER SET utf8mb4 {_SORTED_BY}"
        )

    def staging(self, place: Namespace) -> Namespace:
        """Temporary tables, too, stand in a database, and the connection may have chosen none."""
        return Namespace(place.schema, f"{STAGED}{self._stamp}_")

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """LOAD DATA from a local file, if client and server allow it; else insert many rows at a time."""
        columns = ", ".join(f"@v{at}" for at in range(len(schema)))
        values = ", ".join(f"{self.quote(name)} = @v{at}" for at, name in enumerate(schema.names))
        left = iter(batches)
        for batch in left:
            try:
                with local_file(".tsv") as file:
                    with disk_errors(file.parent):
                        file.write_bytes(_tab_separated(batch))
                    session.run(
                        f"LOAD DATA LOCAL INFILE {self.text(str(file))} INTO TABLE {self.at(place, table)} "
                        f"CHARACTER SET utf8mb4 ({columns}) SET {values}"
                    )
            except Exception as error:
                if not error.args or error.args[0] not in _NO_FILES:
                    raise
                super().fill(session, place, table, schema, chain([batch], left))

    def values(self, column: pa.Array) -> list[Any]:
        """Decimals as text, which the server reads exactly."""
        return super().values(column.cast(pa.string()) if pa.types.is_decimal(column.type) else column)

    def refusal(self, error: Exception) -> Refusal:
        """MySQL has a number for each error."""
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        number = getattr(error, "errno", None) or number
        sqlstate = {**_PASSING, **_TOLD}.get(number or 0)
        message = str(error.args[1]) if len(error.args) > 1 else ""
        return Refusal(
            kind=type(error).__name__,
            sqlstate=sqlstate,
            code=None if number is None else str(number),
            message=message,
            plain=sqlstate is not None,
            passing=number in _PASSING,
            lost=(sqlstate or "").startswith("08"),
        )

    def update(self, merge: Merge) -> list[str]:
        """Only what has changed is written, and columns that a user added stay."""
        only = "" if merge.advance else f" WHERE {self.changed(merge)}"
        return [
            f"UPDATE {merge.target} t JOIN {merge.stage} s ON {self.same_row(merge)} "
            f"SET {self.assignments(merge, 't.')}{only}"
        ]

    def take_out(self, stage: str, key: str, target: str, on: str) -> str:
        """It cannot delete from a table that it selects from, unless both are one statement."""
        return f"DELETE s FROM {stage} s JOIN {target} t ON {on}"


def _tab_separated(batch: pa.RecordBatch) -> bytes:
    """Rows as LOAD DATA reads them by default."""
    columns = [_escaped(column) for column in batch.columns]
    lines = pc.binary_join_element_wise(*columns, "\t")
    return ("\n".join(lines.to_pylist()) + "\n").encode() if len(batch) else b""


def _escaped(column: pa.Array) -> pa.Array:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us"))
    text = column.cast(pa.string())
    for raw, escaped in _ESCAPES.items():
        text = pc.replace_substring(text, raw, escaped)
    return pc.fill_null(text, "\\N")


_ESCAPES: Mapping[str, str] = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
