"""SQL dialect of an engine: quoting, table definitions, staging and merge statements.

`Dialect` generates plain SQL from the capabilities of an engine. Each engine is one subclass in `dialects`. In merge
statements `s` is the staging table, and `t` the table with the existing rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.capabilities import Capabilities, JsonLimits
from voiceos_provider.load.sql.errors import Failure, failure_of
from voiceos_provider.load.sql.plan import AUDIT_COLUMNS, Merge, Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

STAMP = "%Y%m%d%H%M%S%f"
"""Format of the start of a load in the names of its staging tables."""

STAGING_PREFIX = "_voiceos_"
ABANDONED_AFTER = timedelta(days=1)
_ROWS_AT_ONCE = 1_000
_TIME = re.compile(r".*(timestamp|datetime)", re.IGNORECASE)


class Dialect:
    """SQL of an engine.

    :param stamp: the start of the load in the format `STAMP`; it separates the staging tables of two loads
    :param placeholder: the driver's placeholder for a value
    """

    capabilities: ClassVar[Capabilities]

    def __init__(self, *, stamp: str = "0", placeholder: str = "?") -> None:
        self._stamp = stamp
        self._placeholder = placeholder

    @property
    def name(self) -> str:
        """The name of the dialect."""
        return self.capabilities.name

    @property
    def title(self) -> str:
        """The name of the engine in messages."""
        return self.capabilities.title

    @property
    def json_limits(self) -> JsonLimits:
        """The JSON documents that a session can store."""
        return self.capabilities.json_limits

    # Names and literals

    def quote(self, name: str) -> str:
        """Return a quoted identifier."""
        opening, closing = self.capabilities.identifier_quotes
        return f"{opening}{name.replace(closing, closing * 2)}{closing}"

    def require_name(self, parameter: str, name: str) -> None:
        """Raise VoiceOSValueError if the engine cannot use the name."""
        if not name.isprintable():
            raise VoiceOSValueError(f"{parameter} {name!r} contains a control character.")
        if len(name.encode()) > self.capabilities.max_identifier_bytes:
            raise VoiceOSValueError(
                f"{parameter} is too long: it makes the name {name!r}, and {self.title} takes at most "
                f"{self.capabilities.max_identifier_bytes} bytes."
            )

    def derived_name(self, name: str) -> str:
        """Return the name of an index, shortened with a hash if it is too long for the engine."""
        limit, raw = self.capabilities.max_identifier_bytes, name.encode()
        if len(raw) <= limit:
            return name
        digest = hashlib.sha256(raw).hexdigest()[:12]
        return f"{raw[: limit - len(digest) - 1].decode(errors='ignore')}_{digest}"

    def table_name(self, namespace: Namespace, table: Table) -> str:
        """Return the quoted name of a table without its schema."""
        return self.quote(namespace.prefix + table.name)

    def qualified_name(self, namespace: Namespace, table: Table) -> str:
        """Return the quoted name of a table with its schema."""
        schema = f"{self.quote(namespace.schema)}." if namespace.schema else ""
        return schema + self.table_name(namespace, table)

    def staging_namespace(self, namespace: Namespace) -> Namespace:
        """Return the namespace of the staging tables."""
        private = self.capabilities.temporary and not self.capabilities.staging_in_schema
        return Namespace(None if private else namespace.schema, f"{STAGING_PREFIX}{self._stamp}_")

    def start_load(self, at: datetime) -> None:
        """Name the staging tables of the next load after its start."""
        self._stamp = at.strftime(STAMP)

    def is_abandoned(self, name: str) -> bool:
        """Return whether a table is a staging table of a load that started a day before this one."""
        staged = re.fullmatch(rf"{STAGING_PREFIX}(\d{{20}})_\w+", name, re.IGNORECASE)
        if staged is None:
            return False
        try:
            theirs, ours = (
                datetime.strptime(stamp, STAMP).replace(tzinfo=UTC) for stamp in (staged[1], self._stamp)
            )
        except ValueError:
            return False
        return ours - theirs > ABANDONED_AFTER

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
        return self.capabilities.column_types[column.kind.name]

    def staging_type_of(self, column: Column, *, key: bool = False) -> str:
        """Return the type of a column in the staging table."""
        return self.capabilities.staging_types.get(column.kind.name) or self.type_of(column, key=key)

    def create_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return statements that create a missing table.

        :param keyed: add a primary key
        """
        lines = [self.column_definition(column, key=column.name in table.key) for column in table.columns]
        lines += [self.primary_key(table)] if keyed and table.key else []
        body = ",\n  ".join(lines)
        return [f"CREATE TABLE IF NOT EXISTS {self.qualified_name(namespace, table)} (\n  {body}\n)"]

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

    def add_primary_key(self, namespace: Namespace, table: Table) -> list[str]:
        """Return statements that add the primary key to a filled table."""
        return []

    def finish_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return statements for a new table after its first rows: comments and indexes."""
        if self.capabilities.comments != "statement":
            return []
        return [
            f"COMMENT ON TABLE {self.qualified_name(namespace, table)} IS {self.text(table.description)}",
            *(self._comment_on(namespace, table, column) for column in table.columns),
        ]

    def add_column(self, namespace: Namespace, table: Table, column: Column) -> list[str]:
        """Return statements that add a missing column, nullable because existing rows have no value."""
        name, guard = self.qualified_name(namespace, table), self.capabilities.add_column_guard
        definition = (
            f"{self.quote(column.name)} {self.type_of(column)}{self.inline_comment(column.description)}"
        )
        statements = [f"ALTER TABLE {name} ADD COLUMN {guard}{definition}"]
        if self.capabilities.comments == "statement":
            statements.append(self._comment_on(namespace, table, column))
        return statements

    def _comment_on(self, namespace: Namespace, table: Table, column: Column) -> str:
        name = f"{self.qualified_name(namespace, table)}.{self.quote(column.name)}"
        return f"COMMENT ON COLUMN {name} IS {self.text(column.description)}"

    def existing_columns(self, session: Session, namespace: Namespace, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their types, or None if the table is missing."""
        found = session.rows(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = {self.text(namespace.prefix + table.name)} "
            f"AND table_schema = {self._schema(namespace)}{self.capabilities.catalog_filter}"
        )
        return {str(name): str(kind) for name, kind in found} or None

    def _schema(self, namespace: Namespace) -> str:
        return self.text(namespace.schema) if namespace.schema else self.capabilities.current_schema

    def accepts(self, column: Column, kind: str) -> bool:
        """Return whether an existing column of this type can hold the values unchanged."""
        capabilities = self.capabilities
        typed = _TIME.match(capabilities.column_types["instant"])
        if column.name in AUDIT_COLUMNS and typed and not _TIME.match(kind):
            return False  # row versions are compared as instants
        pattern = capabilities.accepted_types.get(column.kind.name)
        return pattern is None or re.match(pattern, kind, re.IGNORECASE) is not None

    # Sessions and locks

    def open(self, connection: Any) -> Session:
        """Return a session on an open connection."""
        return Session(connection)

    def configure(self, session: Session, *, lock_timeout: float) -> None:
        """Set what must hold for the whole session, above all UTC as its time zone."""

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction that waits for locks at most `lock_timeout` seconds."""

    def lock(self, session: Session, namespace: Namespace, *, lock_timeout: float) -> None:
        """Wait until no other load writes to the namespace."""
        if not self.try_lock(session, namespace):
            with session.waiting(namespace, lock_timeout=lock_timeout):
                self.wait_for_lock(session, namespace, lock_timeout=lock_timeout)

    def try_lock(self, session: Session, namespace: Namespace) -> bool:
        """Take the load lock without waiting; return whether that succeeded."""
        return True

    def wait_for_lock(self, session: Session, namespace: Namespace, *, lock_timeout: float) -> None:
        """Take the load lock."""

    def unlock(self, session: Session, namespace: Namespace) -> None:
        """Release the load lock after the transaction."""

    def classify(self, error: Exception) -> Failure:
        """Describe a driver's error. Without a load lock, another load may have inserted a key first."""
        failure = failure_of(error)
        duplicate = failure.kind in ("IntegrityError", "UniqueViolation")
        return replace(failure, transient=failure.transient or duplicate)

    # Staging tables

    def create_staging_table(
        self, session: Session, namespace: Namespace, table: Table, columns: Sequence[Column]
    ) -> None:
        """Create an empty staging table with these columns."""
        if not self.capabilities.temporary:
            self.drop_staging_table(session, namespace, table)  # left by an attempt that lost its connection
        name = self.qualified_name(self.staging_namespace(namespace), table)
        lines = self.staging_definitions(table, columns)
        session.run(f"CREATE {self.capabilities.temporary}TABLE {name} ({lines})")

    def staging_definitions(self, table: Table, columns: Sequence[Column]) -> str:
        """Return the column definitions of a staging table."""
        return ", ".join(
            f"{self.quote(c.name)} {self.staging_type_of(c, key=c.name in table.key)}" for c in columns
        )

    def load_rows(
        self,
        session: Session,
        namespace: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Load rows into a staging table, or into a new table if the engine has `direct_load`."""
        columns = ", ".join(map(self.quote, schema.names))
        names = f"INSERT INTO {self.qualified_name(namespace, table)} ({columns})"
        if self._placeholder == "%s":
            names = names.replace("%", "%%")
        marks = ", ".join([self._placeholder] * len(schema))
        cursor = session.connection.cursor()
        try:
            for rows in self.python_rows(batches):
                cursor.executemany(f"{names} VALUES ({marks})", rows)
        finally:
            cursor.close()

    def python_rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[list[tuple[Any, ...]]]:
        """Yield chunks of rows as Python values."""
        for batch in batches:
            for start in range(0, len(batch), _ROWS_AT_ONCE):
                chunk = batch.slice(start, _ROWS_AT_ONCE)
                yield list(zip(*(self.python_values(column) for column in chunk.columns), strict=True))

    def python_values(self, column: pa.Array) -> list[Any]:
        """Return a column as Python values that the driver accepts."""
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us"))  # naive, in UTC
        values: list[Any] = column.to_pylist()
        return values

    def finish_staging_table(self, session: Session, namespace: Namespace, table: Table) -> None:
        """Prepare a filled staging table for the merge."""

    def drop_staging_table(self, session: Session, namespace: Namespace, table: Table) -> None:
        """Drop a staging table."""
        session.run(f"DROP TABLE IF EXISTS {self.qualified_name(self.staging_namespace(namespace), table)}")

    def drop_abandoned_tables(self, session: Session, namespace: Namespace) -> None:
        """Drop staging tables of killed loads that started a day before this one."""
        schema = f"{self.quote(namespace.schema)}." if namespace.schema else ""
        for name in self.list_tables(session, namespace):
            if self.is_abandoned(name):
                session.run(f"DROP TABLE IF EXISTS {schema}{self.quote(name)}")

    def list_tables(self, session: Session, namespace: Namespace) -> list[str]:
        """Return the names of all tables of the schema."""
        found = session.rows(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = {self._schema(namespace)}"
        )
        return [str(name) for (name,) in found]

    # Merge statements

    def staged_value(self, column: Column, kind: str) -> str:
        """Return the staged value, converted to the type of the existing column."""
        return f"s.{self.quote(column.name)}"

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Return the condition for a staged value that differs from the existing one."""
        ours, theirs = self.staged_value(column, kind), f"{t}.{self.quote(column.name)}"
        if column.kind.name == "json":
            ours, theirs = (self.capabilities.json_text.format(value) for value in (ours, theirs))
        return self.capabilities.is_distinct.format(ours=ours, theirs=theirs)

    def equal(self, existing: str, staged: str, column: Column) -> str:
        """Return the condition for equal keys; texts are equal if all characters are."""
        return f"{existing} = {staged}"

    def same_key(self, merge: Merge, t: str = "t") -> str:
        """Return the condition for a staged and an existing row with the same key."""
        return " AND ".join(
            self.equal(f"{t}.{self.quote(c.name)}", self.staged_value(c, merge.existing.get(c.name, "")), c)
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

    def insert(self, merge: Merge, *, new: bool = True) -> str:
        """Return the statement that inserts staged rows: those without an existing row, or all of them."""
        key = [f"s.{self.quote(name)}" for name in merge.table.key]
        only = ""
        if new:
            only = (
                f" LEFT JOIN {merge.target} t ON {self.same_key(merge)}"
                f" WHERE t.{self.quote(merge.table.key[0])} IS NULL"
            )
        order = f" ORDER BY {', '.join(key)}" if key and self.capabilities.ordered_insert else ""
        return (
            f"INSERT INTO {merge.target} ({self.column_list(merge)}) "
            f"SELECT {self.staged_list(merge)} FROM {merge.staging} s{only}{order}"
        )

    def assignments(self, merge: Merge, t: str = "") -> str:
        """Return the assignments of an update."""
        return ", ".join(
            f"{t}{self.quote(c.name)} = {self.staged_value(c, merge.existing.get(c.name, ''))}"
            for c in merge.columns
            if c.name not in merge.table.key
        )

    def update(self, merge: Merge) -> list[str]:
        """Return statements that update existing rows; columns that a user added keep their values."""
        only = "" if merge.touch_unchanged else f" AND {self.changed(merge, merge.name)}"
        match = f"{self.same_key(merge, merge.name)}{only}"
        if not self.capabilities.updates_in_place:
            return [
                f"DELETE FROM {merge.target} WHERE EXISTS (SELECT 1 FROM {merge.staging} s WHERE {match})"
            ]
        return [f"UPDATE {merge.target} SET {self.assignments(merge)} FROM {merge.staging} s WHERE {match}"]

    def upsert(self, merge: Merge) -> str:
        """Return one statement that updates and inserts."""
        only = "" if merge.touch_unchanged else f" AND {self.changed(merge)}"
        return (
            f"MERGE INTO {merge.target} t USING {merge.staging} s ON {self.same_key(merge)} "
            f"WHEN MATCHED{only} THEN UPDATE SET {self.assignments(merge)} "
            f"WHEN NOT MATCHED THEN INSERT ({self.column_list(merge)}) VALUES ({self.staged_list(merge)})"
        )

    def write(self, merge: Merge, *, new: int, updated: int, stale: int) -> list[str]:
        """Return the statements of a merge.

        :param new: rows to insert
        :param updated: rows to update
        :param stale: rows to delete
        """
        statements = [f"DELETE FROM {merge.target} WHERE {merge.stale}"] if stale else []
        if updated:
            statements += self.update(merge)
        if new or (updated and not self.capabilities.updates_in_place):
            statements.append(self.insert(merge))
        return statements

    def delete_matching(self, staging: str, key: str, target: str, on: str) -> str:
        """Return the statement that deletes staged rows which match rows of a table."""
        name = self.quote(key)
        return f"DELETE FROM {staging} WHERE {name} IN (SELECT s.{name} FROM {staging} s JOIN {target} t ON {on})"

    def delete_orphans(self, staging: str, owner: str, owners: str, key: str) -> str:
        """Return the statement that deletes staged rows whose owner is not staged.

        :param owner: the column that refers to the owner
        :param owners: staging table of the owners, with the key column `key`
        """
        return (
            f"DELETE FROM {staging} WHERE {self.quote(owner)} NOT IN (SELECT {self.quote(key)} FROM {owners})"
        )
