"""How are the tables defined, and how is it seen how they stand?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.quoting import Words
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table


class Definitions(Words):
    """The definitions of most engines."""

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

    comments: ClassVar[Literal["none", "within", "apart"]] = "none"
    """Whether descriptions stand within a definition, or are statements of their own."""

    current_schema: ClassVar[str] = "CURRENT_SCHEMA"
    only_here: ClassVar[str] = ""
    """A condition on the information schema, where that tells of other databases, too."""

    def type_of(self, column: Column, *, key: bool = False) -> str:
        """The type of a column; one in a key may need another."""
        return self.types[column.kind.name]

    def create(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that make the table, if it is not there.

        :param keyed: whether its key is to be unique
        """
        lines = [self.definition(column, key=column.name in table.key) for column in table.columns]
        lines += [self.key_line(table)] if keyed and table.key else []
        body = ",\n  ".join(lines)
        return [f"CREATE TABLE IF NOT EXISTS {self.at(place, table)} (\n  {body}\n)"]

    def definition(self, column: Column, *, key: bool = False) -> str:
        """A column's line in a table's definition."""
        null = "" if column.nullable else " NOT NULL"
        return f"{self.quote(column.name)} {self.type_of(column, key=key)}{null}{self.comment(column.description)}"

    def key_line(self, table: Table) -> str:
        """The key's line in a table's definition."""
        return f"PRIMARY KEY ({', '.join(map(self.quote, table.key))})"

    def comment(self, description: str) -> str:
        """What a definition says of a column, where it stands within."""
        return f" COMMENT {self.text(description)}" if self.comments == "within" else ""

    def key(self, place: Namespace, table: Table) -> list[str]:
        """Statements that make the key unique in a table that is full."""
        return []

    def finish(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that a new table gets once it is full: comments, and indexes for the usual questions."""
        if self.comments != "apart":
            return []
        at = self.at(place, table)
        return [
            f"COMMENT ON TABLE {at} IS {self.text(table.description)}",
            *(self._comment_on(place, table, column) for column in table.columns),
        ]

    def add_column(self, place: Namespace, table: Table, column: Column) -> list[str]:
        """Statements that add a missing column. Old rows have none of it, so it may be null."""
        line = f"{self.quote(column.name)} {self.type_of(column)}{self.comment(column.description)}"
        apart = [self._comment_on(place, table, column)] if self.comments == "apart" else []
        return [f"ALTER TABLE {self.at(place, table)} ADD COLUMN {self.unless_there}{line}", *apart]

    unless_there: ClassVar[str] = ""
    """What lets a column be added that another export is adding, too."""

    def _comment_on(self, place: Namespace, table: Table, column: Column) -> str:
        name = f"{self.at(place, table)}.{self.quote(column.name)}"
        return f"COMMENT ON COLUMN {name} IS {self.text(column.description)}"

    def existing(self, session: Session, place: Namespace, table: Table) -> dict[str, str] | None:
        """The columns that stand there with their types; None if there is no such table."""
        schema = self.text(place.schema) if place.schema else self.current_schema
        found = session.rows(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = {self.text(place.prefix + table.name)} AND table_schema = {schema}{self.only_here}"
        )
        return {str(name): str(kind) for name, kind in found} or None

    def fits(self, column: Column, kind: str) -> bool:
        """Whether an existing column of this type takes the values."""
        pattern = self.fitting.get(column.kind.name)
        return pattern is None or re.match(pattern, kind, re.IGNORECASE) is not None
