"""Dialect of last resort for engines without one of their own."""

from __future__ import annotations

from typing import ClassVar

from voiceos_provider.load.sql.capabilities import Capabilities
from voiceos_provider.load.sql.dialect import Dialect


class Generic(Dialect):
    """Plain SQL over any DB-API connection.

    Staging tables are ordinary tables, and changed rows are deleted and inserted. No statement sets the time zone of a
    session on every engine, so existing columns with a time zone are refused.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="generic",
        title="The database",
        column_types={
            "text": "VARCHAR",
            "instant": "TIMESTAMP",
            "money": "DECIMAL(38, 24)",
            "number": "DOUBLE PRECISION",
            "count": "BIGINT",
            "flag": "BOOLEAN",
            "json": "VARCHAR",
        },
        accepted_types={"instant": r"(?!.*(with (local )?time zone|timestamp_?l?tz|datetimeoffset))"},
        updates_in_place=False,
        is_distinct=(
            "({ours} <> {theirs} OR ({ours} IS NULL AND {theirs} IS NOT NULL) "
            "OR ({ours} IS NOT NULL AND {theirs} IS NULL))"
        ),
    )
