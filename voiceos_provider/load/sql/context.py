"""Context that the steps of one load share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.plan import OWNER, REJECTED, LoadPlan, Merge, Rowset
from voiceos_provider.load.sql.session import Session
from voiceos_provider.load.sql.staging import StorableRows
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS


class LoadContext:
    """One load in one session, with what it has found out so far.

    :param rowsets: the rows to load; those of `conversations` are always among them
    """

    def __init__(self, session: Session, dialect: Dialect, plan: LoadPlan, rowsets: Sequence[Rowset]) -> None:
        self.session = session
        self.dialect = dialect
        self.plan = plan
        self.rowsets = {rowset.table.name: rowset for rowset in rowsets}
        self.action = "connect"  # for error messages
        self.existing: dict[str, dict[str, str]] = {}  # types of the existing columns, per table
        self.outdated: dict[str, int] = {}  # staged rows older than the existing ones
        self.loaded: dict[str, StorableRows] = {}  # what was sent to the engine
        self.row_version = dialect.instant(plan.exported_at)
        self._staging = dialect.staging_namespace(plan.namespace)

    def table(self, table: Table) -> str:
        """Return the qualified name of a table."""
        return self.dialect.qualified_name(self.plan.namespace, table)

    def staging_table(self, table: Table) -> str:
        """Return the qualified name of its staging table."""
        return self.dialect.qualified_name(self._staging, table)

    def quote(self, name: str) -> str:
        """Return a quoted identifier."""
        return self.dialect.quote(name)

    def in_interval(self, qualifier: str = "") -> str:
        """Return the condition for rows created within the interval, whichever interval they were read for."""
        start, end = (self.dialect.instant(at) for at in (self.plan.interval.start, self.plan.interval.end))
        return (
            f"{qualifier}{self.quote('_interval_start')} >= {start} "
            f"AND {qualifier}{self.quote('_interval_end')} <= {end}"
        )

    def merge(self, table: Table) -> Merge:
        """Return the merge of a table."""
        merge = Merge(
            table=table,
            target=self.table(table),
            name=self.dialect.table_name(self.plan.namespace, table),
            staging=self.staging_table(table),
            existing=self.existing[table.name],
            columns=self.rowsets[table.name].columns,
            # A conversation carries the row version for its child rows, if conversations are loaded.
            touch_unchanged=table in (CONVERSATIONS, REJECTED)
            or (table is not AGENT_CONFIGS and CONVERSATIONS not in self.plan.tables),
        )
        return replace(merge, stale=self._stale(merge))

    def _stale(self, merge: Merge) -> str:
        """Return the condition for rows to delete: those of the exported conversations, and of a replaced interval."""
        replaces = self.plan.disposition == "replace"
        if merge.table is REJECTED:
            return f"{self.in_interval(f'{merge.name}.')} AND {self.dialect.not_staged(merge)}"
        if merge.table is AGENT_CONFIGS or (merge.table is CONVERSATIONS and not replaces):
            return ""
        conditions: list[str] = []
        if merge.table is not CONVERSATIONS:
            owner = f"{merge.name}.{self.quote(OWNER)}"
            (id_,) = (column for column in CONVERSATIONS.columns if column.name == "id")
            value = self.dialect.staged_value(id_, merge.existing[OWNER])
            owners = f"SELECT {value} FROM {self.staging_table(CONVERSATIONS)} s"
            if replaces and CONVERSATIONS in self.plan.tables:
                owners += (
                    f" UNION ALL SELECT o.{self.quote('id')} FROM {self.table(CONVERSATIONS)} o "
                    f"WHERE {self.in_interval('o.')}"
                )
            conditions.append(f"{owner} IN ({owners})")
        if replaces and (merge.table is CONVERSATIONS or CONVERSATIONS not in self.plan.tables):
            conditions.append(self.in_interval(f"{merge.name}."))
        return f"({' OR '.join(conditions)}) AND {self.dialect.not_staged(merge)}"
