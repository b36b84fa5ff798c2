"""What does an engine want to be told, and when?

`Dialect` speaks plain SQL to any DB-API connection, and is the last resort. An engine is one file beside this one: a
subclass with its own `words`, `definitions` and `statements`, and its own way to stage rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa

from voiceos_provider.load.sql.dml import Statements
from voiceos_provider.load.sql.errors import Refusal, refusal_of
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table

_ROWS_AT_ONCE = 1_000


class Dialect(Statements):
    """Plain SQL for an engine that nothing is known of.

    Its staging tables are ordinary ones, dropped at the end; a row that changes is deleted and inserted again.
    """

    creates_in_transaction: ClassVar[bool] = False
    """Whether a table that was created vanishes with a rollback."""

    locks: ClassVar[bool] = False
    """Whether `lock` keeps other exports out; else what they do at the same time is noticed, and tried again."""

    longest_silence: ClassVar[int] = 600
    """Seconds after which a server that can be told so takes a session that says nothing for gone, with its locks."""

    keys_late: ClassVar[bool] = False
    """Whether a new table gets its key when it is full, by the statements of `key`."""

    loads_directly: ClassVar[bool] = False
    """Whether a new table takes the rows as fast as a staging table."""

    def open(self, connection: Any) -> Session:
        """A session on a connection that the caller has opened."""
        return Session(connection)

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction that waits so many seconds for whoever is in its way."""

    def lock(self, session: Session, place: Namespace, *, lock_timeout: float) -> None:
        """Wait until no other export writes here."""

    def unlock(self, session: Session, place: Namespace) -> None:
        """Let others write, once the transaction has ended."""

    def create_stage(
        self, session: Session, place: Namespace, table: Table, columns: Sequence[Column]
    ) -> None:
        """Make an empty staging table of these columns."""
        lines = ", ".join(f"{self.quote(c.name)} {self.type_of(c, key=c.name in table.key)}" for c in columns)
        if not self.temporary:
            self.drop_stage(session, place, table)  # of a try whose connection was lost
        session.run(f"CREATE {self.temporary}TABLE {self.at(self.staging(place), table)} ({lines})")

    def fill(
        self,
        session: Session,
        place: Namespace,
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

    def filled(self, session: Session, place: Namespace, table: Table) -> None:
        """All rows are in the staging table."""

    def drop_stage(self, session: Session, place: Namespace, table: Table) -> None:
        """Remove a staging table."""
        session.run(f"DROP TABLE IF EXISTS {self.at(self.staging(place), table)}")

    def drop_abandoned(self, session: Session, place: Namespace) -> None:
        """Remove staging tables of loads that were killed: those that began a day before this one."""
        schema = f"{self.quote(place.schema)}." if place.schema else ""
        for name in self.tables(session, place):
            if self.is_abandoned(name):
                session.run(f"DROP TABLE IF EXISTS {schema}{self.quote(name)}")

    def tables(self, session: Session, place: Namespace) -> list[str]:
        """The names of the tables that stand there."""
        schema = self.text(place.schema) if place.schema else self.current_schema
        found = session.rows(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}"
        )
        return [str(name) for (name,) in found]

    def refusal(self, error: Exception) -> Refusal:
        """What the driver's error says. Without a lock, another export may have been the first to insert a key."""
        refusal = refusal_of(error)
        return replace(
            refusal, passing=refusal.passing or refusal.kind in ("IntegrityError", "UniqueViolation")
        )
