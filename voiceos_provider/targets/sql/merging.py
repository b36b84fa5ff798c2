"""How do engines merge that have a MERGE statement?"""

from __future__ import annotations

from voiceos_provider.targets.sql.dialect import Dialect, Merge


class MergingDialect(Dialect):
    """One statement updates and inserts; columns that a user added stay."""

    updates_by_inserting = False

    def write(self, merge: Merge, *, new: int, old: int, gone: int) -> list[str]:
        """A DELETE of the rows that are gone, and a MERGE of the others."""
        statements = [f"DELETE FROM {merge.target} WHERE {merge.gone}"] if gone else []
        if new or old:
            only = "" if merge.advance else f" AND {self.changed(merge)}"
            names = ", ".join(self.quote(column.name) for column in merge.columns)
            statements.append(
                f"MERGE INTO {merge.target} t USING {merge.stage} s ON {self.same_row(merge)} "
                f"WHEN MATCHED{only} THEN UPDATE SET {self.assignments(merge)} "
                f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({self.staged(merge)})"
            )
        return statements
