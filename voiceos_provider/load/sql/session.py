"""Open connection to a database, used with SQL text only."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from voiceos_provider.load.sql.errors import InterferenceError

log = logging.getLogger(__name__)


class Session:
    """A connection, in which dialects execute their statements."""

    connection: Any
    """A DB-API connection without autocommit, or the client of an engine that has no such connection."""

    lock_wait: float = 0.0
    """Seconds that loads have waited for other loads."""

    rollback_note: ClassVar[str] = "Nothing was written."
    """What an error message says about the failed transaction."""

    def open(self, connection: Any) -> None:
        """Use a new connection."""
        self.connection = connection

    def run(self, statement: str) -> None:
        """Execute a statement, and discard its result."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def numbers(self, query: str) -> tuple[int, ...]:
        """Return the single row of a query whose columns are numbers."""
        (row,) = self.rows(query)
        return tuple(int(number or 0) for number in row)

    def change(self, statement: str) -> None:
        """Execute a statement within the transaction, at the latest when it is committed."""
        self.run(statement)

    def require(self, query: str, expected: int, complaint: str) -> None:
        """Fail the transaction unless the query, after the changes so far, returns this number.

        :raises InterferenceError: if it returns another one, at the latest when the transaction is committed
        """
        (found,) = self.numbers(query)
        if found != expected:
            raise self.interference(f"{complaint}: {found:,} rows instead of {expected:,}")

    def interference(self, complaint: str) -> InterferenceError:
        """Return the error for tables that do not hold what was written."""
        return InterferenceError(
            f"{complaint}. Check triggers and rules of the database, and other writers. {self.rollback_note}"
        )

    @contextmanager
    def waiting(self, target: object, lock_timeout: float) -> Iterator[None]:
        """Log that another load holds the lock, and measure the wait."""
        log.info("Waiting for another load into %s; lock_timeout is %g s.", target, lock_timeout)
        started = time.monotonic()
        try:
            yield
        finally:
            self.lock_wait += time.monotonic() - started

    def commit(self) -> None:
        """Commit the transaction."""
        self.connection.commit()

    def rollback(self) -> None:
        """Roll the transaction back."""
        self.connection.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class StatementSession(Session):
    """A connection whose transactions begin with a statement of the dialect, and end with one."""

    in_transaction = False

    def open(self, connection: Any) -> None:
        """Use a new connection, which has no transaction yet."""
        super().open(connection)
        self.in_transaction = False

    def run(self, statement: str) -> None:
        """Execute a statement, and note whether it begins a transaction."""
        super().run(statement)
        self.in_transaction |= statement.startswith("BEGIN")

    def commit(self) -> None:
        """Commit the transaction, if there is one."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Roll the transaction back, if there is one."""
        self._end("ROLLBACK")

    def _end(self, statement: str) -> None:
        if self.in_transaction:
            self.run(statement)
            self.in_transaction = False


class AutocommitSession(Session):
    """A connection that commits each statement."""

    rollback_note = "A retry completes the load."

    def commit(self) -> None:
        """Do nothing: each statement is committed."""

    def rollback(self) -> None:
        """Do nothing: each statement is committed."""
