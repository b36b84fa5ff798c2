"""Which statements make a table say what was staged?

`s` is the staging table, `t` the table or whatever its columns are qualified with.
"""

from __future__ import annotations

from typing import ClassVar

from voiceos_provider.load.sql.ddl import Definitions
from voiceos_provider.load.sql.namespace import CONSTANTS, Merge
from voiceos_provider.transform import Column


class Statements(Definitions):
    """The statements of most engines."""

    updates_by_inserting: ClassVar[bool] = True
    """Whether `update` only removes rows, so that `insert` brings them back."""

    inserts_in_order: ClassVar[bool] = True
    """Whether rows are inserted in the order of the key: two writers of the same rows then meet in the same order."""

    unlike: ClassVar[str] = (
        "({ours} <> {theirs} OR ({ours} IS NULL AND {theirs} IS NOT NULL) "
        "OR ({ours} IS NOT NULL AND {theirs} IS NULL))"
    )
    """How two values are told apart, of which either may be null."""

    document: ClassVar[str] = "{}"
    """How a JSON becomes something that can be compared."""

    def read(self, column: Column, kind: str) -> str:
        """A staged value, as a column of this type takes it."""
        return f"s.{self.quote(column.name)}"

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Whether the staged value is another than the one that stands."""
        ours, theirs = self.read(column, kind), f"{t}.{self.quote(column.name)}"
        if column.kind.name == "json":
            ours, theirs = self.document.format(ours), self.document.format(theirs)
        return self.unlike.format(ours=ours, theirs=theirs)

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

    def names(self, merge: Merge) -> str:
        """The columns that are written."""
        return ", ".join(self.quote(column.name) for column in merge.columns)

    def staged(self, merge: Merge) -> str:
        """The staged values that are written."""
        return ", ".join(self.read(column, merge.standing.get(column.name, "")) for column in merge.columns)

    def insert(self, merge: Merge, *, new: bool = True) -> str:
        """Insert the staged rows: those that do not stand yet, or all of them."""
        key = [f"s.{self.quote(name)}" for name in merge.table.key]
        only = ""
        if new:
            only = (
                f" LEFT JOIN {merge.target} t ON {self.same_row(merge)}"
                f" WHERE t.{self.quote(merge.table.key[0])} IS NULL"
            )
        order = f" ORDER BY {', '.join(key)}" if key and self.inserts_in_order else ""
        return (
            f"INSERT INTO {merge.target} ({self.names(merge)}) "
            f"SELECT {self.staged(merge)} FROM {merge.stage} s{only}{order}"
        )

    def assignments(self, merge: Merge, t: str = "") -> str:
        """What an update sets."""
        return ", ".join(
            f"{t}{self.quote(c.name)} = {self.read(c, merge.standing.get(c.name, ''))}"
            for c in merge.columns
            if c.name not in merge.table.key
        )

    def update(self, merge: Merge) -> list[str]:
        """Statements that make rows that stand say what was staged.

        Where they can be updated in place, only what has changed is written, and columns that a user added stay.
        """
        only = "" if merge.advance else f" AND {self.changed(merge, merge.bare)}"
        same = f"{self.same_row(merge, merge.bare)}{only}"
        if self.updates_by_inserting:
            return [f"DELETE FROM {merge.target} WHERE EXISTS (SELECT 1 FROM {merge.stage} s WHERE {same})"]
        return [f"UPDATE {merge.target} SET {self.assignments(merge)} FROM {merge.stage} s WHERE {same}"]

    def upsert(self, merge: Merge) -> str:
        """One statement that updates and inserts, for engines that have it."""
        only = "" if merge.advance else f" AND {self.changed(merge)}"
        return (
            f"MERGE INTO {merge.target} t USING {merge.stage} s ON {self.same_row(merge)} "
            f"WHEN MATCHED{only} THEN UPDATE SET {self.assignments(merge)} "
            f"WHEN NOT MATCHED THEN INSERT ({self.names(merge)}) VALUES ({self.staged(merge)})"
        )

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

    def take_out(self, stage: str, key: str, target: str, on: str) -> str:
        """Remove staged rows that meet rows of a table."""
        name = self.quote(key)
        return f"DELETE FROM {stage} WHERE {name} IN (SELECT s.{name} FROM {stage} s JOIN {target} t ON {on})"

    def take_out_orphans(self, stage: str, owner: str, owners: str, key: str) -> str:
        """Remove staged rows whose owner is not staged.

        :param owner: the column that names it
        :param owners: the staging table of the owners, and `key` their key
        """
        return (
            f"DELETE FROM {stage} WHERE {self.quote(owner)} NOT IN (SELECT {self.quote(key)} FROM {owners})"
        )
