"""SQL dialect of an engine: quoting, table definitions, staging and merge statements.

`Dialect` generates plain SQL from the capabilities of an engine, and executes it in a session. Each engine is one
subclass in `dialects`. In merge statements `s` is the staging table, and `t` the table with the existing rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.plan import AUDIT_COLUMNS
from voiceos_provider.load.sql.capabilities import Capabilities
from voiceos_provider.load.sql.errors import Failure, failure_of
from voiceos_provider.load.sql.plan import Merge, Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

STAMP = "%Y%m%d%H%M%S%f"
"""Format of the start of a load in the names of its staging tables."""

STAGING_PREFIX = "_voiceos_"
_ABANDONED_AFTER = timedelta(days=1)
_ROWS_AT_ONCE = 1_000
_TIME = re.compile(r".*(timestamp|datetime)", re.IGNORECASE)
_TEXT = re.compile(r"text|string|(var|n)?char|character", re.IGNORECASE)


class Dialect(Session):
    """SQL of an engine, for the tables of one namespace.

    :param namespace: where the tables are
    :param stamp: the start of the load in the format `STAMP`; it separates the staging tables of two loads
    :param placeholder: the driver's placeholder for a value, if it is not that of the engine's usual driver
    :param lock_timeout: seconds to wait for other writers
    """

    capabilities: Capabilities

    def __init__(
        self,
        namespace: Namespace = Namespace(),  # noqa: B008  it is frozen
        *,
        stamp: str = "0",
        placeholder: str | None = None,
        lock_timeout: float = 300.0,
    ) -> None:
        self.namespace = namespace
        self.stamp = stamp
        self.placeholder = placeholder or self.capabilities.placeholder
        self.lock_timeout = lock_timeout

    # Names and literals

    def stored_name(self, name: str) -> str:
        """Return a name as the engine stores it."""
        return name

    def quote(self, name: str) -> str:
        """Return a quoted identifier."""
        name, quote = self.stored_name(name), self.capabilities.identifier_quote
        if self.capabilities.escaped_identifiers:
            name = name.replace("\\", "\\\\").replace(quote, f"\\{quote}")
        else:
            name = name.replace(quote, quote * 2)
        return f"{quote}{name}{quote}"

    def require_names(self, tables: Sequence[Table]) -> None:
        """Raise VoiceOSValueError if the engine cannot use the names of the schema or of a table."""
        if self.namespace.schema is not None:
            self.require_name("schema", self.namespace.schema)
        for table in tables:
            self.require_name("table_prefix", self.namespace.prefix + table.name)

    def require_name(self, parameter: str, name: str) -> None:
        """Raise VoiceOSValueError if the engine cannot use the name."""
        if not name.isprintable():
            raise VoiceOSValueError(f"{parameter} {name!r} contains a control character.")
        if len(name.encode()) > self.capabilities.max_identifier_bytes:
            raise VoiceOSValueError(
                f"{parameter} is too long: it makes the name {name!r}, and {self.capabilities.title} takes at most "
                f"{self.capabilities.max_identifier_bytes} bytes."
            )

    def derived_name(self, name: str) -> str:
        """Return the name of an index, shortened with a hash if it is too long for the engine."""
        limit, raw = self.capabilities.max_identifier_bytes, name.encode()
        if len(raw) <= limit:
            return name
        digest = hashlib.sha256(raw).hexdigest()[:12]
        return f"{raw[: limit - len(digest) - 1].decode(errors='ignore')}_{digest}"

    def target(self, table: Table, namespace: Namespace | None = None) -> str:
        """Return the qualified name of a table, in the namespace of the dialect by default."""
        namespace = namespace or self.namespace
        return self.in_schema(namespace.prefix + table.name, namespace)

    def staging_table(self, table: Table) -> str:
        """Return the qualified name of a staging table."""
        return self.target(table, self.staging)

    def in_schema(self, name: str, namespace: Namespace | None = None) -> str:
        """Return the qualified name of a table or another object of the schema."""
        schema = (namespace or self.namespace).schema
        return f"{self.quote(schema)}.{self.quote(name)}" if schema else self.quote(name)

    def table_name(self, table: Table) -> str:
        """Return the quoted name of a table without its schema."""
        return self.quote(self.namespace.prefix + table.name)

    @property
    def staging(self) -> Namespace:
        """The namespace of the staging tables."""
        private = self.capabilities.temporary and not self.capabilities.staging_in_schema
        return Namespace(None if private else self.namespace.schema, f"{STAGING_PREFIX}{self.stamp}_")

    def is_abandoned(self, name: str) -> bool:
        """Return whether a table is a staging table of a load that started a day before this one."""
        staged = re.fullmatch(rf"{STAGING_PREFIX}(\d{{20}})_\w+", name, re.IGNORECASE)
        return staged is not None and self.is_old(staged[1])

    def is_old(self, stamp: str) -> bool:
        """Return whether a load started a day before this one."""
        try:
            theirs, ours = (
                datetime.strptime(each, STAMP).replace(tzinfo=UTC) for each in (stamp, self.stamp)
            )
        except ValueError:
            return False
        return ours - theirs > _ABANDONED_AFTER

    def instant(self, moment: datetime) -> str:
        """Return a literal for an instant."""
        at = moment.astimezone(UTC)
        # strftime pads the year on some platforms only.
        return at.strftime(self.capabilities.instant_literal.replace("%Y", f"{at.year:04}"))

    def text(self, value: str) -> str:
        """Return a literal for a text."""
        escapes = self.capabilities.literal_escapes
        return "'" + "".join(escapes.get(letter, letter) for letter in value) + "'"

    # Table definitions

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """Return the type of a column; key columns may need another one."""
        return self.capabilities.types[column.kind.name].name

    def staging_type_of(self, column: Column, *, key: bool = False) -> str:
        """Return the type of a column in the staging table."""
        return self.capabilities.types[column.kind.name].staged or self.type_of(column, key=key)

    def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return statements that create a missing table."""
        lines = [self.column_definition(column, key=column.name in table.key) for column in table.columns]
        lines += [self.primary_key(table)] if keyed and table.key else []
        body = ",\n  ".join(lines)
        return [f"CREATE TABLE IF NOT EXISTS {self.target(table)} (\n  {body}\n)"]

    def column_definition(self, column: Column, *, key: bool = False) -> str:
        """Return the definition of a column in CREATE TABLE."""
        null = "" if column.nullable else " NOT NULL"
        comment = self.inline_comment(column.description)
        return f"{self.quote(column.name)} {self.type_of(column, key=key)}{null}{comment}"

    def primary_key(self, table: Table) -> str:
        """Return the definition of the primary key in CREATE TABLE."""
        return f"PRIMARY KEY ({', '.join(map(self.quote, table.key))})"

    def inline_comment(self, description: str) -> str:
        """Return the comment within a column definition."""
        return f" COMMENT {self.text(description)}" if self.capabilities.comments == "inline" else ""

    def finish_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return statements for a new table after its first rows: comments and indexes."""
        if self.capabilities.comments != "statement":
            return []
        return [
            f"COMMENT ON TABLE {self.target(table)} IS {self.text(table.description)}",
            *(self._comment_on(table, column) for column in table.columns),
        ]

    def add_column(self, table: Table, column: Column) -> list[str]:
        """Return statements that add a missing column, nullable because existing rows have no value."""
        guard, comment = self.capabilities.add_column_guard, self.inline_comment(column.description)
        definition = f"{guard}{self.quote(column.name)} {self.type_of(column)}{comment}"
        statements = [f"ALTER TABLE {self.target(table)} ADD COLUMN {definition}"]
        if self.capabilities.comments == "statement":
            statements.append(self._comment_on(table, column))
        return statements

    def _comment_on(self, table: Table, column: Column) -> str:
        name = f"{self.target(table)}.{self.quote(column.name)}"
        return f"COMMENT ON COLUMN {name} IS {self.text(column.description)}"

    def existing_columns(self, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their types, or None if the table is missing."""
        found = self.rows(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = {self.text(self.stored_name(self.namespace.prefix + table.name))} "
            f"AND table_schema = {self.schema_expression}{self.capabilities.catalog_filter}"
        )
        ours = {self.stored_name(column.name): column.name for column in table.columns}
        return {ours.get(str(name), str(name)): str(kind) for name, kind in found} or None

    @property
    def schema_expression(self) -> str:
        """The name of the schema, as an expression."""
        schema = self.namespace.schema
        return self.text(self.stored_name(schema)) if schema else self.capabilities.current_schema

    def accepts(self, column: Column, kind: str) -> bool:
        """Return whether an existing column of this type can hold the values unchanged."""
        types = self.capabilities.types
        if column.name in AUDIT_COLUMNS and _TIME.match(types["instant"].name) and not _TIME.match(kind):
            return False  # row versions are compared as instants
        return re.match(types[column.kind.name].accepts, kind, re.IGNORECASE) is not None

    # Sessions and locks

    def configure(self) -> None:
        """Set what must hold for the whole session, above all UTC as its time zone."""

    def begin(self) -> None:
        """Begin a transaction that waits for locks at most `lock_timeout` seconds."""

    def lock(self) -> None:
        """Wait until no other load writes to the namespace."""
        if not self.try_lock():
            with self.waiting(self.namespace, self.lock_timeout):
                self.wait_for_lock()

    def try_lock(self) -> bool:
        """Take the load lock without waiting; return whether that succeeded."""
        return True

    def wait_for_lock(self) -> None:
        """Take the load lock."""

    def unlock(self) -> None:
        """Release the load lock after the transaction."""

    def classify(self, error: Exception) -> Failure:
        """Describe a driver's error. Without a load lock, another load may have inserted a key first."""
        failure = failure_of(error)
        duplicate = failure.kind in ("IntegrityError", "UniqueViolation")
        if duplicate and not self.capabilities.has_load_lock:
            return replace(failure, transient=True)
        return failure

    # Staging tables

    def create_staging_table(self, table: Table, columns: Sequence[Column]) -> None:
        """Create an empty staging table with these columns."""
        if not self.capabilities.temporary:
            self.drop_staging_table(table)  # left by an attempt that lost its connection
        lines = self.staging_definitions(table, columns)
        self.run(f"CREATE {self.capabilities.temporary}TABLE {self.staging_table(table)} ({lines})")

    def staging_definitions(self, table: Table, columns: Sequence[Column]) -> str:
        """Return the column definitions of a staging table."""
        return ", ".join(
            f"{self.quote(c.name)} {self.staging_type_of(c, key=c.name in table.key)}" for c in columns
        )

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Load rows into a staging table, or into a new table if the engine has `direct_load`.

        :param namespace: the namespace of the staging tables, or that of the tables
        """
        columns = ", ".join(map(self.quote, rows.schema.names))
        insert = f"INSERT INTO {self.target(table, namespace)} ({columns})"
        if self.placeholder == "%s":
            insert = insert.replace("%", "%%")
        marks = ", ".join([self.placeholder] * len(rows.schema))
        cursor = self.connection.cursor()
        try:
            for values in self.python_rows(rows, _ROWS_AT_ONCE):
                cursor.executemany(f"{insert} VALUES ({marks})", values)
        finally:
            cursor.close()

    def python_rows(self, rows: pa.RecordBatchReader, at_once: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield chunks of rows as Python values."""
        for batch in rows:
            for start in range(0, len(batch), at_once):
                chunk = batch.slice(start, at_once)
                yield list(zip(*(self.python_values(column) for column in chunk.columns), strict=True))

    def python_values(self, column: pa.Array) -> list[Any]:
        """Return a column as Python values that the driver accepts."""
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us"))  # naive, in UTC
        values: list[Any] = column.to_pylist()
        return values

    def finish_staging_table(self, table: Table) -> None:
        """Prepare a filled staging table for the merge."""

    def drop_staging_table(self, table: Table) -> None:
        """Drop a staging table."""
        self.run(f"DROP TABLE IF EXISTS {self.staging_table(table)}")

    def drop_abandoned_tables(self) -> None:
        """Drop staging tables of killed loads that started a day before this one."""
        for name in self.list_tables():
            if self.is_abandoned(name):
                self.run(f"DROP TABLE IF EXISTS {self.in_schema(name)}")

    def list_tables(self) -> list[str]:
        """Return the names of all tables of the schema."""
        found = self.rows(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = {self.schema_expression}"
        )
        return [str(name) for (name,) in found]

    # Merge statements

    def staged_value(self, column: Column, kind: str) -> str:
        """Return the staged value, converted to the type of the existing column."""
        value, type_ = f"s.{self.quote(column.name)}", self.capabilities.types[column.kind.name]
        if column.kind.name == "json" and type_.staged:
            return value if _TEXT.match(kind) else self.capabilities.parse_json.format(value)
        if type_.staged:
            return f"CAST({value} AS {type_.name})"
        if self.capabilities.casts and kind and _plain(kind) != _plain(type_.name):
            return f"CAST({value} AS {kind})"
        return value

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Return the condition for a staged value that differs from the existing one."""
        ours, theirs = self.staged_value(column, kind), f"{t}.{self.quote(column.name)}"
        type_ = self.capabilities.types[column.kind.name]
        if column.kind.name == "json" and not (type_.staged and _TEXT.match(kind)):
            ours, theirs = (self.capabilities.json_text.format(value) for value in (ours, theirs))
        return self.capabilities.is_distinct.format(ours=ours, theirs=theirs)

    def same_key(self, merge: Merge, t: str = "t") -> str:
        """Return the condition for a staged and an existing row with the same key."""
        return " AND ".join(
            f"{t}.{self.quote(c.name)} = {self.staged_value(c, merge.existing.get(c.name, ''))}"
            for c in merge.columns
            if c.name in merge.table.key
        )

    def not_staged(self, merge: Merge) -> str:
        """Return the condition for an existing row that is not staged."""
        return f"NOT EXISTS (SELECT 1 FROM {merge.staging} s WHERE {self.same_key(merge, merge.name)})"

    def changed(self, merge: Merge, t: str = "t") -> str:
        """Return the condition for a staged row that differs from the existing one, audit columns apart."""
        compared = [c for c in merge.columns if c.name not in (*merge.table.key, *AUDIT_COLUMNS)]
        return "(" + " OR ".join(self.differs(c, merge.existing.get(c.name, ""), t) for c in compared) + ")"

    def column_list(self, merge: Merge) -> str:
        """Return the names of the columns to write."""
        return ", ".join(self.quote(column.name) for column in merge.columns)

    def staged_list(self, merge: Merge) -> str:
        """Return the staged values to write."""
        return ", ".join(self.staged_value(c, merge.existing.get(c.name, "")) for c in merge.columns)

    def insert(self, merge: Merge) -> str:
        """Return the statement that inserts staged rows without an existing row."""
        key = ", ".join(f"s.{self.quote(name)}" for name in merge.table.key)
        # In the order of the key, so that two writers lock rows in the same order.
        return (
            f"{self.append(merge)} LEFT JOIN {merge.target} t ON {self.same_key(merge)}"
            f" WHERE t.{self.quote(merge.table.key[0])} IS NULL ORDER BY {key}"
        )

    def append(self, merge: Merge) -> str:
        """Return the statement that inserts all staged rows."""
        return (
            f"INSERT INTO {merge.target} ({self.column_list(merge)}) "
            f"SELECT {self.staged_list(merge)} FROM {merge.staging} s"
        )

    def assignments(self, merge: Merge, t: str = "") -> str:
        """Return the assignments of an update."""
        return ", ".join(
            f"{t}{self.quote(c.name)} = {self.staged_value(c, merge.existing.get(c.name, ''))}"
            for c in merge.columns
            if c.name not in merge.table.key
        )

    def update(self, merge: Merge) -> str:
        """Return the statement that updates existing rows; columns that a user added keep their values."""
        return (
            f"UPDATE {merge.target} SET {self.assignments(merge)} FROM {merge.staging} s "
            f"WHERE {self.to_update(merge)}"
        )

    def to_update(self, merge: Merge) -> str:
        """Return the condition for a staged and an existing row that is to be updated."""
        only = "" if merge.touch_unchanged else f" AND {self.changed(merge, merge.name)}"
        return f"{self.same_key(merge, merge.name)}{only}"

    def write(self, merge: Merge, *, new: int, updated: int, stale: int) -> list[str]:
        """Return the statements of a merge.

        :param new: rows to insert
        :param updated: rows to update
        :param stale: rows to delete
        """
        statements = [f"DELETE FROM {merge.target} WHERE {merge.stale}"] if stale else []
        if updated:
            statements.append(self.update(merge))
        if new:
            statements.append(self.insert(merge))
        return statements

    def delete(self, target: str, condition: str) -> str:
        """Return the statement that erases rows of a table."""
        return f"DELETE FROM {target} WHERE {condition}"

    def purge(self) -> None:
        """Remove what deleted rows leave in the file of the database, if the engine can do so in place."""

    def delete_matching(self, staging: str, key: str, target: str, on: str) -> str:
        """Return the statement that deletes staged rows which match rows of a table."""
        name = self.quote(key)
        return f"DELETE FROM {staging} WHERE {name} IN (SELECT s.{name} FROM {staging} s JOIN {target} t ON {on})"

    def delete_orphans(self, staging: str, owner: str, owners: str, key: str) -> str:
        """Return the statement that deletes staged rows whose owner is not staged.

        :param owners: staging table of the owners, with the key column `key`
        """
        return (
            f"DELETE FROM {staging} WHERE {self.quote(owner)} NOT IN (SELECT {self.quote(key)} FROM {owners})"
        )


def _plain(kind: str) -> str:
    return kind.replace(" ", "").lower()


def as_utc(value: Any) -> datetime:
    """Return a driver's date-time in UTC: text if the engine has no type for it, and naive if it is UTC."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
