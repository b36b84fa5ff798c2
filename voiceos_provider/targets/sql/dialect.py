"""What does an engine want to be told, and in which words?

`Dialect` speaks plain SQL to any DB-API connection, and is the last resort. An engine is one file beside this one: a
subclass with its own types, its own way to stage rows, and its own statements to merge them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.records import Column, Table
from voiceos_provider.targets.sql.errors import Refusal, refusal_of
from voiceos_provider.targets.sql.session import Session

CONSTANTS = ("_interval_start", "_interval_end", "_exported_at")
"""For what and when a row was read; the same for all rows of an export."""

_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tables of one export stand.

    :param schema: the schema, or what the engine calls so; None for the connection's own
    :param prefix: what the names of the tables begin with
    """

    schema: str | None = None
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.prefix}*" if self.schema else f"{self.prefix}*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The staged rows `s` of one table, and the table `t` that they are to stand in.

    :param target: the table's whole name; `bare` its name alone
    :param stage: the staging table's whole name
    :param standing: the table's columns with their types
    :param columns: those that are written
    :param advance: whether rows that are the same are written, too, for their `_exported_at`
    :param gone: which rows of the table are to go, named by `bare`; empty for none
    """

    table: Table
    target: str
    bare: str
    stage: str
    standing: Mapping[str, str]
    columns: tuple[Column, ...]
    advance: bool
    gone: str = ""


class Dialect:
    """Plain SQL for an engine that nothing is known of.

    Its staging tables are ordinary ones, dropped at the end; a row that changes is deleted and inserted again.

    :param stamp: keeps the staging tables of two exports apart, where they are not each session's own
    :param placeholder: the driver's sign for a value
    """

    name: ClassVar[str] = "generic"
    title: ClassVar[str] = "The database"
    quotes: ClassVar[tuple[str, str]] = ('"', '"')
    longest_name: ClassVar[int] = 63
    creates_in_transaction: ClassVar[bool] = False
    """Whether a table that was created vanishes with a rollback."""

    locks: ClassVar[bool] = False
    """Whether `lock` keeps other exports out; else what they do at the same time is noticed, and tried again."""

    keys_late: ClassVar[bool] = False
    """Whether a new table gets its key when it is full, by the statements of `key`."""

    loads_directly: ClassVar[bool] = False
    """Whether a new table takes the rows as fast as a staging table."""

    temporary: ClassVar[str] = ""
    """How a table of the session's own is created; empty where it is an ordinary one, to be dropped."""

    types: ClassVar[Mapping[str, str]] = {
        "text": "VARCHAR",
        "instant": "TIMESTAMP",
        "money": "DECIMAL(38, 24)",
        "number": "DOUBLE PRECISION",
        "count": "BIGINT",
        "flag": "BOOLEAN",
        "json": "VARCHAR",
    }
    fitting: ClassVar[Mapping[str, str]] = {}
    """Per kind of column, a pattern of the types that an existing column may have; any by default."""

    current_schema: ClassVar[str] = "CURRENT_SCHEMA"
    needs_schema: ClassVar[bool] = False
    """Whether the connection has no schema of its own."""

    def __init__(self, *, stamp: str = "0", placeholder: str = "?") -> None:
        self._stamp = stamp
        self._placeholder = placeholder

    # Names and values

    def quote(self, name: str) -> str:
        """An identifier that means this name and nothing else."""
        opening, closing = self.quotes
        return f"{opening}{name.replace(closing, closing * 2)}{closing}"

    def require_name(self, parameter: str, name: str) -> None:
        """:raises VoiceOSValueError: if nothing can be called so"""
        if not name.isprintable():
            raise VoiceOSValueError(f"{parameter} {name!r} holds a character that no name has.")
        if len(name.encode()) > self.longest_name:
            raise VoiceOSValueError(
                f"{parameter} makes the name {name!r}; {self.title} takes at most {self.longest_name} bytes."
            )

    def bare(self, place: Place, table: Table) -> str:
        """The table's name alone, quoted: how its columns are qualified inside a statement."""
        return self.quote(place.prefix + table.name)

    def at(self, place: Place, table: Table) -> str:
        """The table's whole name, quoted."""
        return (f"{self.quote(place.schema)}." if place.schema else "") + self.bare(place, table)

    def staging(self, place: Place) -> Place:
        """Where staging tables stand."""
        return Place(None if self.temporary else place.schema, f"_voiceos_{self._stamp}_")

    def instant(self, moment: datetime) -> str:
        """A literal."""
        return f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"

    def text(self, value: str) -> str:
        """A literal."""
        return "'" + value.replace("'", "''") + "'"

    # Definitions

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """The type of a column; one in a key may need another."""
        return self.types[column.kind.name]

    def create(self, place: Place, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that make the table, if it is not there.

        :param keyed: whether its key is to be unique
        """
        lines = [self.definition(column, key=column.name in table.key) for column in table.columns]
        lines += [f"PRIMARY KEY ({', '.join(map(self.quote, table.key))})"] if keyed and table.key else []
        body = ",\n  ".join(lines)
        return [f"CREATE TABLE IF NOT EXISTS {self.at(place, table)} (\n  {body}\n)"]

    def definition(self, column: Column, *, key: bool = False) -> str:
        """A column's line in a table's definition."""
        null = "" if column.nullable else " NOT NULL"
        return f"{self.quote(column.name)} {self.type_of(column, key=key)}{null}"

    def key(self, place: Place, table: Table) -> list[str]:
        """Statements that make the key unique in a table that is full."""
        return []

    def finish(self, place: Place, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that a new table gets once it is full: comments, and indexes for the usual questions."""
        return []

    def add_column(self, place: Place, table: Table, column: Column) -> list[str]:
        """Statements that add a missing column. Old rows have none of it, so it may be null."""
        return [
            f"ALTER TABLE {self.at(place, table)} ADD COLUMN {self.quote(column.name)} {self.type_of(column)}"
        ]

    def existing(self, session: Session, place: Place, table: Table) -> dict[str, str] | None:
        """The columns that stand there with their types; None if there is no such table."""
        schema = self.text(place.schema) if place.schema else self.current_schema
        found = session.rows(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = {self.text(place.prefix + table.name)} AND table_schema = {schema}"
        )
        return {str(name): str(kind) for name, kind in found} or None

    def fits(self, column: Column, kind: str) -> bool:
        """Whether an existing column of this type takes the values."""
        pattern = self.fitting.get(column.kind.name)
        return pattern is None or re.match(pattern, kind, re.IGNORECASE) is not None

    # A session's walk

    def open(self, connection: Any) -> Session:
        """A session on a connection that the caller has opened."""
        return Session(connection)

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction that waits so many seconds for whoever is in its way."""

    def lock(self, session: Session, place: Place, *, lock_timeout: float) -> None:
        """Wait until no other export writes here."""

    def unlock(self, session: Session, place: Place) -> None:
        """Let others write, once the transaction has ended."""

    def create_stage(self, session: Session, place: Place, table: Table, columns: Sequence[Column]) -> None:
        """Make an empty staging table of these columns."""
        lines = ", ".join(f"{self.quote(c.name)} {self.type_of(c, key=c.name in table.key)}" for c in columns)
        session.run(f"CREATE {self.temporary}TABLE {self.at(self.staging(place), table)} ({lines})")

    def fill(
        self,
        session: Session,
        place: Place,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Put rows into a table: a staging table, or a new one if the dialect `loads_directly`."""
        columns = ", ".join(map(self.quote, schema.names))
        names = f"INSERT INTO {self.at(place, table)} ({columns})"
        if self._placeholder == "%s":
            names = names.replace("%", "%%")
        marks = ", ".join([self._placeholder] * len(schema))
        cursor = session.connection.cursor()
        try:
            for rows in self.value_rows(batches):
                cursor.executemany(f"{names} VALUES ({marks})", rows)
        finally:
            cursor.close()

    def value_rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[list[tuple[Any, ...]]]:
        """Rows as Python values, some at a time."""
        for batch in batches:
            for start in range(0, len(batch), _ROWS_AT_ONCE):
                some = batch.slice(start, _ROWS_AT_ONCE)
                yield list(zip(*(self.values(column) for column in some.columns), strict=True))

    def values(self, column: pa.Array) -> list[Any]:
        """A column as Python values that the driver takes."""
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us"))  # in UTC, and without saying so
        values: list[Any] = column.to_pylist()
        return values

    def filled(self, session: Session, place: Place, table: Table) -> None:
        """All rows are in the staging table."""

    def drop_stage(self, session: Session, place: Place, table: Table) -> None:
        """Remove a staging table."""
        session.run(f"DROP TABLE IF EXISTS {self.at(self.staging(place), table)}")

    def refusal(self, error: Exception) -> Refusal:
        """What the driver's error says. Without a lock, another export may have been the first to insert a key."""
        refusal = refusal_of(error)
        return replace(
            refusal, passing=refusal.passing or refusal.kind in ("IntegrityError", "UniqueViolation")
        )

    # Merging: `s` is the staging table, `t` the table or whatever its columns are qualified with

    def read(self, column: Column, kind: str) -> str:
        """A staged value, as a column of this type takes it."""
        return f"s.{self.quote(column.name)}"

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Whether the staged value is another than the one that stands."""
        ours, theirs = self.read(column, kind), f"{t}.{self.quote(column.name)}"
        return (
            f"({ours} <> {theirs} OR ({ours} IS NULL AND {theirs} IS NOT NULL) "
            f"OR ({ours} IS NOT NULL AND {theirs} IS NULL))"
        )

    def same_row(self, merge: Merge, t: str = "t") -> str:
        """Whether both are the same row."""
        keys = [column for column in merge.columns if column.name in merge.table.key]
        return " AND ".join(
            f"{t}.{self.quote(c.name)} = {self.read(c, merge.standing.get(c.name, ''))}" for c in keys
        )

    def not_staged(self, merge: Merge) -> str:
        """Whether a row of the table was not staged."""
        return f"NOT EXISTS (SELECT 1 FROM {merge.stage} s WHERE {self.same_row(merge, merge.bare)})"

    def changed(self, merge: Merge, t: str = "t") -> str:
        """Whether the two say something else, times of exports apart."""
        told = [c for c in merge.columns if c.name not in (*merge.table.key, *CONSTANTS)]
        return "(" + " OR ".join(self.differs(c, merge.standing.get(c.name, ""), t) for c in told) + ")"

    def staged(self, merge: Merge) -> str:
        """The staged values that are written."""
        return ", ".join(self.read(column, merge.standing.get(column.name, "")) for column in merge.columns)

    def insert(self, merge: Merge, *, new: bool = True) -> str:
        """Insert the staged rows: those that do not stand yet, or all of them."""
        columns = ", ".join(self.quote(column.name) for column in merge.columns)
        key = [f"s.{self.quote(name)}" for name in merge.table.key]
        only = ""
        if new:
            only = (
                f" LEFT JOIN {merge.target} t ON {self.same_row(merge)}"
                f" WHERE t.{self.quote(merge.table.key[0])} IS NULL"
            )
        # In the order of the key: two writers that meet the same rows then meet them in the same order.
        order = f" ORDER BY {', '.join(key)}" if key else ""
        return f"INSERT INTO {merge.target} ({columns}) SELECT {self.staged(merge)} FROM {merge.stage} s{only}{order}"

    def assignments(self, merge: Merge, t: str = "") -> str:
        """What an update sets."""
        return ", ".join(
            f"{t}{self.quote(c.name)} = {self.read(c, merge.standing.get(c.name, ''))}"
            for c in merge.columns
            if c.name not in merge.table.key
        )

    def update(self, merge: Merge) -> list[str]:
        """Statements that make rows that stand say what was staged; `insert` follows."""
        only = "" if merge.advance else f" AND {self.changed(merge, merge.bare)}"
        return [
            f"DELETE FROM {merge.target} WHERE EXISTS (SELECT 1 FROM {merge.stage} s "
            f"WHERE {self.same_row(merge, merge.bare)}{only})"
        ]

    def write(self, merge: Merge, *, new: int, old: int, gone: int) -> list[str]:
        """Statements that make the table say what was staged.

        :param new: rows that do not stand yet
        :param old: rows to be written over
        :param gone: rows to be removed
        """
        statements = [f"DELETE FROM {merge.target} WHERE {merge.gone}"] if gone else []
        if old:
            statements += self.update(merge)
        if new or (old and self.updates_by_inserting):
            statements.append(self.insert(merge))
        return statements

    updates_by_inserting: ClassVar[bool] = True
    """Whether `update` only removes rows, so that `insert` brings them back."""

    def take_out(self, stage: str, key: str, target: str, on: str) -> str:
        """Remove staged rows that meet rows of a table."""
        name = self.quote(key)
        return f"DELETE FROM {stage} WHERE {name} IN (SELECT s.{name} FROM {stage} s JOIN {target} t ON {on})"
