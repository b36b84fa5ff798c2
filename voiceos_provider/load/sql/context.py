"""What do the steps of one load share?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.namespace import Merge
from voiceos_provider.load.sql.plan import REJECTED, LoadPlan, Rowset
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

OWNER = "conversation_id"
"""In a child table, whose row it is."""


class LoadContext:
    """One load, in one session: its orders, and what has been learned so far.

    :param dialect: the engine's
    :param orders: what to do
    :param rowsets: the rows; those of `conversations` are always among them
    """

    def __init__(
        self, session: Session, dialect: Dialect, orders: LoadPlan, rowsets: Sequence[Rowset]
    ) -> None:
        self.session = session
        self.dialect = dialect
        self.orders = orders
        self.rowsets = {rowset.table.name: rowset for rowset in rowsets}
        self.doing = "begin"  # what whoever has to tell that it failed says
        self.standing: dict[str, dict[str, str]] = {}  # the columns of the tables, with their types
        self.outdated: dict[str, int] = {}  # staged rows that were older than what stands
        self.now = dialect.instant(orders.exported_at)
        self.staging = dialect.staging(orders.place)

    def at(self, table: Table) -> str:
        """The whole name of a table."""
        return self.dialect.at(self.orders.place, table)

    def stage(self, table: Table) -> str:
        """The whole name of its staging table."""
        return self.dialect.at(self.staging, table)

    def quote(self, name: str) -> str:
        """A column's name."""
        return self.dialect.quote(name)

    def require_rows(self, name: str, rows: int) -> None:
        """:raises InterferenceError: unless a table holds exactly so many"""
        self.session.confirm(
            f"SELECT count(*) FROM {name}", rows, f"{name} took other rows than it was given"
        )

    def within(self, qualifier: str = "") -> str:
        """Rows of which is known that they were created in this interval, whichever interval they were read for."""
        start, end = (
            self.dialect.instant(at) for at in (self.orders.interval.start, self.orders.interval.end)
        )
        return (
            f"{qualifier}{self.quote('_interval_start')} >= {start} "
            f"AND {qualifier}{self.quote('_interval_end')} <= {end}"
        )

    def merge(self, table: Table) -> Merge:
        """What a table is to become."""
        merge = Merge(
            table=table,
            target=self.at(table),
            bare=self.dialect.bare(self.orders.place, table),
            stage=self.stage(table),
            standing=self.standing[table.name],
            columns=self.rowsets[table.name].columns,
            # The version of a conversation is that of its row, where there is one; what belongs to it follows.
            advance=table in (CONVERSATIONS, REJECTED)
            or (table is not AGENT_CONFIGS and CONVERSATIONS not in self.orders.tables),
        )
        return replace(merge, gone=self._gone(merge))

    def _gone(self, merge: Merge) -> str:
        """Which rows of the table the export says are gone: those of its conversations, and of its interval."""
        replaces = self.orders.disposition == "replace"
        if merge.table is REJECTED:
            return f"{self.within(f'{merge.bare}.')} AND {self.dialect.not_staged(merge)}"
        if merge.table is AGENT_CONFIGS or (merge.table is CONVERSATIONS and not replaces):
            return ""
        ours: list[str] = []
        if merge.table is not CONVERSATIONS:
            owner = f"{merge.bare}.{self.quote(OWNER)}"
            (id_,) = (column for column in CONVERSATIONS.columns if column.name == "id")
            read = self.dialect.read(id_, merge.standing[OWNER])
            owners = f"SELECT {read} FROM {self.stage(CONVERSATIONS)} s"
            if replaces and CONVERSATIONS in self.orders.tables:
                standing = self.at(CONVERSATIONS)
                owners += (
                    f" UNION ALL SELECT o.{self.quote('id')} FROM {standing} o WHERE {self.within('o.')}"
                )
            ours.append(f"{owner} IN ({owners})")
        if replaces and (merge.table is CONVERSATIONS or CONVERSATIONS not in self.orders.tables):
            ours.append(self.within(f"{merge.bare}."))
        return f"({' OR '.join(ours)}) AND {self.dialect.not_staged(merge)}"
