"""How is an open connection asked?"""

from __future__ import annotations

from typing import Any, ClassVar

from voiceos_provider.load.sql.errors import InterferenceError


class Session:
    """An open connection, asked in SQL text only.

    :param connection: a DB-API connection that does not commit by itself
    """

    undone: ClassVar[str] = "Nothing was written."
    """What has become of a transaction that fails."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def run(self, statement: str) -> None:
        """Do it, and look at no answer."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The whole answer."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def numbers(self, query: str) -> tuple[int, ...]:
        """The one row of the answer, of numbers."""
        (row,) = self.rows(query)
        return tuple(int(number or 0) for number in row)

    def change(self, statement: str) -> None:
        """Do it as a part of the transaction, at the latest when that is committed."""
        self.run(statement)

    def require(self, query: str, expected: int, complaint: str) -> None:
        """Let the transaction fail unless the answer, after the changes so far, is this number.

        :raises InterferenceError: if it is another one; at the latest when the transaction is committed
        """
        self.confirm(query, expected, complaint)

    def confirm(self, query: str, expected: int, complaint: str) -> None:
        """Ask now.

        :raises InterferenceError: if the answer is another number
        """
        (found,) = self.numbers(query)
        if found != expected:
            raise self.interference(f"{complaint}: {found:,}, where there should be {expected:,}")

    def interference(self, complaint: str) -> InterferenceError:
        """The error to raise when the tables do not hold what was written."""
        return InterferenceError(
            f"{complaint}. A trigger or a rule of the database, or somebody else, may interfere. {self.undone}"
        )

    def commit(self) -> None:
        """End the transaction: all of it is visible now."""
        self.connection.commit()

    def rollback(self) -> None:
        """End the transaction: nothing of it was."""
        self.connection.rollback()

    def close(self) -> None:
        """Let go of the server."""
        self.connection.close()
