"""How is an open connection asked?"""

from __future__ import annotations

from typing import Any


class Session:
    """An open connection, asked in SQL text only.

    :param connection: a DB-API connection that does not commit by itself
    """

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

    def commit(self) -> None:
        """End the transaction: all of it is visible now."""
        self.connection.commit()

    def rollback(self) -> None:
        """End the transaction: nothing of it was."""
        self.connection.rollback()

    def close(self) -> None:
        """Let go of the server."""
        self.connection.close()
