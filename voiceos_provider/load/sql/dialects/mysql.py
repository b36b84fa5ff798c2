"""MySQL and MariaDB: rows are loaded by LOAD DATA LOCAL if both sides allow it, else by multi-row INSERT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.sql.capabilities import BACKSLASH_ESCAPES, Capabilities, ColumnType, JsonLimits
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import LOCK_TIMEOUT, Failure
from voiceos_provider.load.sql.plan import OWNER, Merge, Namespace
from voiceos_provider.load.workdir import disk_errors, local_file
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS

_TEXT = "char|varchar|tinytext|text|mediumtext|longtext|enum"
_COLLATION = "/*M! utf8mb4_nopad_bin */ /*!80017 utf8mb4_0900_bin */"
"""The collation that compares every character, trailing spaces included; MariaDB reads one comment, MySQL the other."""

_MAX_ID_LENGTH = 700
_KEY_LENGTHS = {"id": _MAX_ID_LENGTH, OWNER: _MAX_ID_LENGTH, "component": 64}
"""Characters of the texts in primary keys: an index entry has at most 3,072 bytes, and a character up to 4."""

_MARIADB_JSON = JsonLimits(depth=30)

_SQLSTATES = {
    1040: "08004",  # too many connections
    1053: "57P01",  # shutting down
    1213: "40001",  # deadlock
    2002: "08001",
    2003: "08001",
    2006: "08006",  # gone away
    2013: "08006",  # lost
    2055: "08006",
    1044: "42501",
    1045: "28000",
    1049: "3D000",
    1142: "42501",
    1143: "42501",
    1227: "42501",
    1021: "53100",
    1146: "42P01",  # no such table
    1205: LOCK_TIMEOUT,
    1054: "42703",  # no such column
}
"""SQLSTATEs that other engines have for these error numbers; MySQL's own is HY000 or 42000 for most.

Only the texts of these are repeated: any other may contain a value of a row, or come from a user's trigger.
"""

_ABOUT_VALUES = {1062: "23505", 1264: "22003", 1406: "22001"}
"""Duplicate key, out of range, too long: their texts contain values."""

_NO_FILES = (1148, 2068, 3948, 3950, 4166)
"""Error numbers of a client or a server that does not allow local files."""

_INDEXES = {CONVERSATIONS.name: ("started_at", "_interval_start")}


class MySQL(Dialect):
    """MySQL 8.0.17 or newer, and MariaDB 10.5 or newer.

    It has no date-times with a time zone: instants are DATETIME(6) in UTC. Texts are compared by every character,
    trailing spaces included.
    """

    capabilities = Capabilities(
        name="mysql",
        title="MySQL",
        types={
            "text": ColumnType("LONGTEXT", _TEXT),
            "instant": ColumnType("DATETIME(6)", f"datetime|timestamp|{_TEXT}"),
            "money": ColumnType("DECIMAL(38, 24)", f"decimal|double|float|{_TEXT}"),
            "number": ColumnType("DOUBLE", f"decimal|double|float|{_TEXT}"),
            "count": ColumnType("BIGINT", f"bigint|int|decimal|double|{_TEXT}"),
            "flag": ColumnType("BOOLEAN", f"tinyint|smallint|int|bit|bool|{_TEXT}"),
            "json": ColumnType("JSON", f"json|longtext|{_TEXT}"),
        },
        identifier_quote="`",
        max_identifier_bytes=64,
        literal_escapes=BACKSLASH_ESCAPES,
        comments="inline",
        current_schema="DATABASE()",
        temporary="TEMPORARY ",
        staging_in_schema=True,  # the connection may have no default database
        has_load_lock=True,
        is_distinct="NOT ({ours} <=> {theirs})",
        json_text="CAST({} AS CHAR)",
        json_limits=JsonLimits(depth=100, exponents=(-307, 307), key_bytes=65_535),
        max_id_length=_MAX_ID_LENGTH,
    )

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """Return the type of a column; texts in a key have a length, because an index needs one."""
        if key and column.kind.name == "text":
            return f"VARCHAR({_KEY_LENGTHS.get(column.name, 255)})"
        return super().type_of(column, key=key)

    def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table with its indexes."""
        (statement,) = super().create_table(table, keyed=keyed)
        indexed = [*_INDEXES.get(table.name, ()), *(() if keyed else table.key[:1])]
        indexes = "".join(f",\n  INDEX ({self.quote(name)})" for name in indexed)
        return [
            statement.removesuffix("\n)")
            + f"{indexes}\n) CHARACTER SET utf8mb4 COLLATE {_COLLATION} COMMENT {self.text(table.description)}"
        ]

    def open(self, connection: Any) -> None:
        """Use a new connection; its session stores rows unchanged or refuses them."""
        super().open(connection)
        self.run(f"SET NAMES utf8mb4 COLLATE {_COLLATION}")
        for setting in (
            "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'",
            "time_zone = '+00:00'",  # TIMESTAMP columns of a user's own depend on it
            "TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "autocommit = 0",
            # The session of a worker whose machine has vanished is silent, and keeps its locks until it is ended.
            f"wait_timeout = {self.capabilities.idle_timeout}",
        ):
            self.run(f"SET SESSION {setting}")
        ((version,),) = self.rows("SELECT VERSION()")
        if "mariadb" in str(version).lower():
            self.capabilities = replace(self.capabilities, json_limits=_MARIADB_JSON)

    def configure(self) -> None:
        """Set how long statements wait for locks on rows and on tables."""
        for setting in ("innodb_lock_wait_timeout", "lock_wait_timeout"):
            self.run(f"SET SESSION {setting} = {self._whole_lock_timeout}")

    @property
    def _whole_lock_timeout(self) -> int:
        return max(1, round(self.lock_timeout))

    def begin(self) -> None:
        """Begin a transaction."""
        self.run("START TRANSACTION")

    def try_lock(self) -> bool:
        """Take the load lock, a lock of the session by name."""
        if self.namespace.schema:
            self.run(f"USE {self.quote(self.namespace.schema)}")  # a deletion by alias needs it
        return self._get_lock(0)

    def wait_for_lock(self) -> None:
        """Wait for the load lock."""
        if not self._get_lock(self._whole_lock_timeout):
            raise VoiceOSDestinationError(
                f"Another load into {self.namespace} took longer than lock_timeout={self.lock_timeout:g} seconds. "
                "Raise lock_timeout, or run fewer loads at once."
            )

    def unlock(self) -> None:
        """Release the load lock."""
        self.rows(f"SELECT RELEASE_LOCK({self._lock_name})")

    def _get_lock(self, timeout: int) -> bool:
        return self.rows(f"SELECT GET_LOCK({self._lock_name}, {timeout})") == [(1,)]

    @property
    def _lock_name(self) -> str:
        # A name has at most 64 characters; MySQL 9.6 and newer have no MD5.
        name = f"CONCAT_WS(' ', {self.schema_expression}, {self.text(self.namespace.prefix)})"
        return f"CONCAT('voiceos ', LEFT(SHA2({name}, 256), 56))"

    def create_staging_table(self, table: Table, columns: Sequence[Column]) -> None:
        """Create an empty staging table with the collation of the tables."""
        lines = f"{self.staging_definitions(table, columns)}, {self.primary_key(table)}"
        name = self.staging_table(table)
        self.run(f"CREATE TEMPORARY TABLE {name} ({lines}) CHARACTER SET utf8mb4 COLLATE {_COLLATION}")

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """LOAD DATA from a local file, if client and server allow it; else multi-row INSERT.

        :raises InterferenceError: if the server altered a value: with a local file, data errors are only warnings
        """
        names = rows.schema.names
        columns = ", ".join(f"@v{at}" for at in range(len(names)))
        values = ", ".join(f"{self.quote(name)} = @v{at}" for at, name in enumerate(names))
        for batch in rows:
            try:
                with local_file(".tsv") as file:
                    with disk_errors(file.parent):
                        file.write_bytes(_tab_separated(batch))
                    self.run(
                        f"LOAD DATA LOCAL INFILE {self.text(str(file))} INTO TABLE {self.target(table, namespace)} "
                        f"CHARACTER SET utf8mb4 ({columns}) SET {values}"
                    )
                    self._require_no_warnings(table)
            except Exception as error:
                if not error.args or error.args[0] not in _NO_FILES:
                    raise
                remaining = pa.RecordBatchReader.from_batches(rows.schema, chain([batch], rows))
                super().load_rows(namespace, table, remaining)

    def _require_no_warnings(self, table: Table) -> None:
        warnings = [row for row in self.rows("SHOW WARNINGS") if row[0] != "Note"]
        if warnings:
            _, code, message = warnings[0]
            column = _column_of(str(message))
            raise self.interference(
                f"MySQL altered rows of {table.name} while loading them (warning {code}"
                + (f" at {column})" if column else ")")
            )

    def python_values(self, column: pa.Array) -> list[Any]:
        """Return decimals as text, which the server reads exactly."""
        return super().python_values(column.cast(pa.string()) if pa.types.is_decimal(column.type) else column)

    def classify(self, error: Exception) -> Failure:
        """Describe an error by its number."""
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        number = getattr(error, "errno", None) or number
        known = _SQLSTATES.get(number or 0)
        message = str(error.args[1]) if len(error.args) > 1 else ""
        return Failure(
            kind=type(error).__name__,
            sqlstate=known or _ABOUT_VALUES.get(number or 0),
            code=None if number is None else str(number),
            constraint=_column_of(message) if number in _ABOUT_VALUES else None,
            message=message,
            names_only=known is not None,
        )

    def staged_value(self, column: Column, kind: str) -> str:
        """Return the staged value; a text with our collation, also if a user's own column has another one."""
        value = super().staged_value(column, kind)
        return f"{value} COLLATE {_COLLATION}" if column.kind.name == "text" else value

    def update(self, merge: Merge) -> str:
        """Return the statement that updates changed rows in place."""
        only = "" if merge.touch_unchanged else f" WHERE {self.changed(merge)}"
        return (
            f"UPDATE {merge.target} t JOIN {merge.staging} s ON {self.same_key(merge)} "
            f"SET {self.assignments(merge, 't.')}{only}"
        )

    def delete_matching(self, staging: str, key: str, target: str, on: str) -> str:
        """Return a deletion by join: MySQL cannot delete from a table that a subquery reads."""
        return f"DELETE s FROM {staging} s JOIN {target} t ON {on}"


def _column_of(message: str) -> str | None:
    found = re.search(r"for (?:column|key) '([\w.]+)'", message)
    return found[1] if found else None


def _tab_separated(batch: pa.RecordBatch) -> bytes:
    """Return rows in the default format of LOAD DATA."""
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
