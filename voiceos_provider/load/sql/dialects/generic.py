"""Dialect of last resort for engines without one of their own."""

from __future__ import annotations

from voiceos_provider.load.sql.capabilities import IS_DISTINCT, Capabilities, ColumnType
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.plan import Merge


class Generic(Dialect):
    """Plain SQL over any DB-API connection.

    Staging tables are ordinary tables, and changed rows are deleted and inserted. No statement sets the time zone of a
    session on every engine, so existing columns with a time zone are refused.
    """

    capabilities = Capabilities(
        name="generic",
        title="The database",
        types={
            "text": ColumnType("VARCHAR"),
            "instant": ColumnType(
                "TIMESTAMP", r"(?!.*(with (local )?time zone|timestamp_?l?tz|datetimeoffset))"
            ),
            "money": ColumnType("DECIMAL(38, 24)"),
            "number": ColumnType("DOUBLE PRECISION"),
            "count": ColumnType("BIGINT"),
            "flag": ColumnType("BOOLEAN"),
            "json": ColumnType("VARCHAR"),
        },
        is_distinct=IS_DISTINCT,
    )

    def update(self, merge: Merge) -> str:
        """Return the statement that deletes changed rows; they are inserted again."""
        return (
            f"DELETE FROM {merge.target} "
            f"WHERE EXISTS (SELECT 1 FROM {merge.staging} s WHERE {self.to_update(merge)})"
        )

    def write(self, merge: Merge, *, new: int, updated: int, stale: int) -> list[str]:
        """Return the statements of a merge, in which updated rows are inserted again."""
        return super().write(merge, new=new + updated, updated=updated, stale=stale)
