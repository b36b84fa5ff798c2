"""How do staged rows become the rows of the tables? The one way, for every engine.

All rows go to staging tables, which nobody reads. What is older than what stands is taken out of them. Then each table
is made to say what its staging table says: rows that are gone are deleted, others updated or inserted. What was to
happen is counted before, and what stands is counted after; if the two disagree, nothing has happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSTargetError, VoiceOSValueError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.records import Column, Table
from voiceos_provider.records.kinds import COUNT, JSON, TEXT
from voiceos_provider.records.tables import AGENT_CONFIGS, CONVERSATIONS
from voiceos_provider.targets.receipt import LoadedTable
from voiceos_provider.targets.sql.dialect import CONSTANTS, Dialect, Merge, Place
from voiceos_provider.targets.sql.session import Session

log = logging.getLogger(__name__)

WriteDisposition = Literal["merge", "append", "replace"]

_OWNER = "conversation_id"
"""In a child table, whose row it is."""


REJECTED = Table(
    "rejected_conversations",
    "One row per conversation that cannot be keyed, of the latest export of its interval.",
    ("_interval_start", "_interval_end", "ordinal"),
    (
        Column("ordinal", COUNT, "Counts them.", nullable=False),
        Column("reason", TEXT, "Why it is no row of `conversations`.", nullable=False),
        Column("conversation", JSON, "What was sent, without credentials."),
        *(column for column in CONVERSATIONS.columns if column.name in CONSTANTS),
    ),
)
"""Where an export sets aside what it cannot load, if it may."""


@dataclass(frozen=True, slots=True)
class Rowset:
    """The rows of one table, to be read as often as it takes.

    :param table: where they belong
    :param rows: how many there are
    :param batches: reads them anew
    :param columns: those to load
    """

    table: Table
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """Of the loaded columns."""
        return pa.schema(self.table.schema.field(column.name) for column in self.columns)

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows, of the loaded columns only."""
        return (batch.select(self.schema.names) for batch in self.batches())


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What an export is to do to the tables.

    :param place: where they stand
    :param tables: those to write
    :param create: whether to create what is missing
    :param lock_timeout: seconds to wait for other writers
    """

    place: Place
    tables: tuple[Table, ...]
    disposition: WriteDisposition
    interval: Interval
    exported_at: datetime
    create: bool = True
    lock_timeout: float = 300.0

    def keyed(self, table: Table) -> bool:
        """Whether a key may stand in the table once only."""
        return self.disposition != "append" or table in (AGENT_CONFIGS, REJECTED)


class InterferenceError(VoiceOSTargetError):
    """The tables do not hold what was written: somebody else wrote at the same time, or a trigger did."""


class Load:
    """One load, in one session.

    :param dialect: the engine's
    :param orders: what to do
    :param rowsets: the rows; those of `conversations` are always among them
    """

    def __init__(self, session: Session, dialect: Dialect, orders: Orders, rowsets: Sequence[Rowset]) -> None:
        self.doing = "begin"  # what whoever has to tell that it failed says
        self.sent = False  # whether a message of the engine may hold rows
        self._session = session
        self._dialect = dialect
        self._orders = orders
        self._rowsets = {rowset.table.name: rowset for rowset in rowsets}
        self._place = orders.place
        self._staging = dialect.staging(orders.place)
        self._standing: dict[str, dict[str, str]] = {}
        self._outdated: dict[str, int] = {}
        self._staged = False
        self._now = dialect.instant(orders.exported_at)

    def run(self) -> dict[str, LoadedTable]:
        """Load and commit.

        :raises VoiceOSError: if the tables cannot take the rows; then they are as they were
        """
        self._prepare()
        session, dialect = self._session, self._dialect
        if not dialect.creates_in_transaction:
            self._stage()  # whose creation may end a transaction
            session.commit()
        self.doing = "begin a transaction"
        dialect.begin(session, lock_timeout=self._orders.lock_timeout)
        new = self._look()
        if new:
            self._lock()
            new = self._look()
            self._create(new)
        if dialect.loads_directly and len(new) == len(self._orders.tables):
            loaded = self._load_directly()
        else:
            if dialect.creates_in_transaction:
                self._stage()
            if not new:
                self._lock()
            self._settle_versions()
            loaded = {table.name: self._write(table) for table in reversed(self._orders.tables)}
        self._finish(new)
        self.doing = "commit"
        session.commit()
        return {table.name: loaded[table.name] for table in self._orders.tables}

    def tidy(self) -> None:
        """Undo what is not committed, let others write, and remove staging tables that are not the session's own."""
        self._session.rollback()
        self._dialect.unlock(self._session, self._place)
        if self._staged and not self._dialect.temporary:
            for rowset in self._rowsets.values():
                self._dialect.drop_stage(self._session, self._place, rowset.table)
            self._session.commit()

    # What stands there

    def _prepare(self) -> None:
        """Add columns, and what cannot be created within a transaction, in short transactions of their own."""
        orders, dialect, session = self._orders, self._dialect, self._session
        self.doing = f"look at the tables {orders.place}"
        if dialect.creates_in_transaction:
            dialect.begin(session, lock_timeout=orders.lock_timeout)
        new = self._look()
        additions = self._additions()
        if additions or (new and not dialect.creates_in_transaction):
            self._lock()
            new = self._look()
            if not dialect.creates_in_transaction:
                self._create(new)
                self._finish(new)
            for table, column in self._additions():
                self.doing = f"add the column {table.name}.{column.name}"
                log.info("%s has no column %s; adding it.", dialect.at(self._place, table), column.name)
                for statement in dialect.add_column(self._place, table, column):
                    session.run(statement)
        self.doing = f"look at the tables {orders.place}"
        session.commit()
        dialect.unlock(session, self._place)

    def look(self) -> None:
        """Learn whether the tables are there or can be made, and may be written to. Rolled back, nothing has changed.

        An engine that cannot take back what it creates has the tables from now on, and they are empty.

        :raises VoiceOSError: if they cannot take rows
        """
        orders, dialect, session = self._orders, self._dialect, self._session
        if not dialect.creates_in_transaction:
            self._prepare()
            return
        self.doing = "begin a transaction"
        dialect.begin(session, lock_timeout=orders.lock_timeout)
        if new := self._look():
            self._lock()
            new = self._look()
            self._create(new)
        for table in orders.tables:
            if table not in new:
                self.doing = f"write to the table {dialect.at(self._place, table)}"
                session.run(f"DELETE FROM {dialect.at(self._place, table)} WHERE 1 = 0")

    def unfinished(self, after: datetime, until: datetime) -> list[str]:
        """Conversations that have not ended, of intervals that ended after one instant and not after another.

        :raises VoiceOSError: if the table is of another shape
        """
        dialect, session = self._dialect, self._session
        dialect.begin(session, lock_timeout=self._orders.lock_timeout)
        self._look()
        standing = self._standing.get(CONVERSATIONS.name)
        if not standing:
            return []
        table = dialect.at(self._place, CONVERSATIONS)
        self.doing = f"look at the table {table}"
        id_, state, ended_at = (f"t.{self._q(name)}" for name in ("id", "status", "_interval_end"))
        found = session.rows(
            f"SELECT {id_} FROM {table} t WHERE ({state} IS NULL OR {state} <> {dialect.text('ended')}) "
            f"AND {ended_at} > {dialect.instant(after)} AND {ended_at} <= {dialect.instant(until)} ORDER BY 1"
        )
        return [str(row[0]) for row in found]

    def _look(self) -> list[Table]:
        """Learn what stands there, and which tables do not.

        :raises VoiceOSValueError: if a table cannot take the rows; it says which column
        """
        for table in self._orders.tables:
            self.doing = f"look at the table {self._dialect.at(self._place, table)}"
            found = self._dialect.existing(self._session, self._place, table)
            self._standing[table.name] = found or {}
            for column in table.columns:
                kind = (found or {}).get(column.name)
                if kind is not None and not self._dialect.fits(column, kind):
                    raise VoiceOSValueError(
                        f"{self._dialect.at(self._place, table)} is of another shape: its column {column.name} is "
                        f"{kind}, where {self._dialect.type_of(column)} is needed. Name another table_prefix or "
                        "schema, or change the column."
                    )
        new = [table for table in self._orders.tables if not self._standing[table.name]]
        if not self._orders.create:
            missing = [self._dialect.at(self._place, table) for table in new]
            missing += [
                f"the column {self._dialect.at(self._place, table)}.{column.name}"
                for table, column in self._additions()
            ]
            if missing:
                raise VoiceOSValueError(
                    f"There is no {missing[0]}, and create_tables=False forbids to create it. "
                    "The DDL of the provider tells what is needed."
                )
        return new

    def _additions(self) -> list[tuple[Table, Column]]:
        return [
            (table, column)
            for table in self._orders.tables
            for column in table.columns
            if (standing := self._standing[table.name]) and column.name not in standing
        ]

    def _lock(self) -> None:
        self.doing = "wait for other exports to the same tables"
        self._dialect.lock(self._session, self._place, lock_timeout=self._orders.lock_timeout)

    def _create(self, tables: Sequence[Table]) -> None:
        for table in tables:
            self.doing = f"create the table {self._dialect.at(self._place, table)}"
            keyed = self._orders.keyed(table)
            for statement in self._dialect.create(
                self._place, table, keyed=keyed and not self._dialect.keys_late
            ):
                self._session.run(statement)
            self._standing[table.name] = self._dialect.existing(self._session, self._place, table) or {}

    def _finish(self, tables: Sequence[Table]) -> None:
        for table in tables:
            self.doing = f"index the table {self._dialect.at(self._place, table)}"
            keyed = self._orders.keyed(table)
            late = self._dialect.key(self._place, table) if keyed and self._dialect.keys_late else []
            for statement in (*late, *self._dialect.finish(self._place, table, keyed=keyed)):
                self._session.run(statement)

    # Rows

    def _load_directly(self) -> dict[str, LoadedTable]:
        self.sent = True
        loaded = {}
        for table in self._orders.tables:
            rowset = self._rowsets[table.name]
            self.doing = f"write to the table {self._dialect.at(self._place, table)}"
            self._dialect.fill(self._session, self._place, table, rowset.schema, rowset.read())
            self._require_rows(self._dialect.at(self._place, table), rowset.rows)
            loaded[table.name] = LoadedTable(inserted=rowset.rows)
        return loaded

    def _stage(self) -> None:
        self._staged = self.sent = True
        for rowset in self._rowsets.values():
            self.doing = f"stage rows of {rowset.table.name}"
            self._dialect.create_stage(self._session, self._place, rowset.table, rowset.columns)
            self._dialect.fill(self._session, self._staging, rowset.table, rowset.schema, rowset.read())
            self._require_rows(self._dialect.at(self._staging, rowset.table), rowset.rows)
            self._dialect.filled(self._session, self._place, rowset.table)

    def _require_rows(self, name: str, rows: int) -> None:
        (found,) = self._session.numbers(f"SELECT count(*) FROM {name}")
        if found != rows:
            raise InterferenceError(f"{name} took {found:,} of {rows:,} rows. Nothing was written.")

    # Versions

    def _settle_versions(self) -> None:
        """Take out of the staging tables what the tables know better already."""
        orders = self._orders
        self._outdated = dict.fromkeys(self._rowsets, 0)
        if orders.disposition != "append":
            self.doing = "compare versions"
            loaded = [table for table in orders.tables if table not in (AGENT_CONFIGS, REJECTED)]
            guards = [CONVERSATIONS] if CONVERSATIONS in loaded else loaded
            for guard in guards:
                self._take_out(CONVERSATIONS, guard)
            if orders.disposition == "replace":
                self._require_newest(guards)
            if self._outdated[CONVERSATIONS.name]:
                for table in loaded:
                    if table is not CONVERSATIONS:
                        self._take_out_orphans(table)
        if AGENT_CONFIGS in orders.tables:
            self._take_out(AGENT_CONFIGS, AGENT_CONFIGS)

    def _take_out(self, table: Table, guard: Table) -> None:
        """Staged rows of a table of which the guard has newer ones."""
        (key,) = table.key
        (column,) = (column for column in table.columns if column.name == key)
        theirs = _OWNER if _OWNER in guard.schema.names else key
        on = f"t.{self._q(theirs)} = {self._dialect.read(column, self._standing[guard.name].get(theirs, ''))}"
        newer = f"t.{self._q('_exported_at')} > {self._now}"
        stage, target = self._dialect.at(self._staging, table), self._dialect.at(self._place, guard)
        (found,) = self._session.numbers(
            f"SELECT count(DISTINCT s.{self._q(key)}) FROM {stage} s JOIN {target} t ON {on} WHERE {newer}"
        )
        if found:
            self._session.run(self._dialect.take_out(stage, key, target, f"{on} AND {newer}"))
            self._outdated[table.name] += found

    def _take_out_orphans(self, table: Table) -> None:
        stage, owners = (self._dialect.at(self._staging, t) for t in (table, CONVERSATIONS))
        (before,) = self._session.numbers(f"SELECT count(*) FROM {stage}")
        self._session.run(
            f"DELETE FROM {stage} WHERE {self._q(_OWNER)} NOT IN (SELECT {self._q('id')} FROM {owners})"
        )
        (after,) = self._session.numbers(f"SELECT count(*) FROM {stage}")
        self._outdated[table.name] = before - after

    def _require_newest(self, guards: Sequence[Table]) -> None:
        """Only the newest reading of an interval may replace it: it alone knows which rows are gone.

        :raises VoiceOSTargetError: if a newer one stands; a retry reads again, and is then the newest
        """
        newer = self._outdated[CONVERSATIONS.name]
        for guard in guards:
            (found,) = self._session.numbers(
                f"SELECT count(*) FROM {self._dialect.at(self._place, guard)} "
                f"WHERE {self._within()} AND {self._q('_exported_at')} > {self._now}"
            )
            newer += found
        if newer:
            raise VoiceOSTargetError(
                f"The tables {self._place} hold rows of {self._orders.interval} that a later export has read; this one "
                f"began at {isoformat(self._orders.exported_at)} and replaces nothing. A retry reads anew."
            )

    # Writing

    def _write(self, table: Table) -> LoadedTable:
        dialect, session = self._dialect, self._session
        self.doing = f"write to the table {dialect.at(self._place, table)}"
        merge = self._merge(table)
        if not self._orders.keyed(table):
            return self._append(merge)
        key = f"t.{self._q(table.key[0])}"
        staged, new, changed, same = session.numbers(
            "SELECT count(*), "
            f"sum(CASE WHEN {key} IS NULL THEN 1 ELSE 0 END), "
            f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 1 ELSE 0 END), "
            f"sum(CASE WHEN {key} IS NULL THEN 0 WHEN {dialect.changed(merge)} THEN 0 "
            f"WHEN t.{self._q('_exported_at')} = {self._now} THEN 1 ELSE 0 END) "
            f"FROM {merge.stage} s LEFT JOIN {merge.target} t ON {dialect.same_row(merge)}"
        )
        expected = self._rowsets[table.name].rows - self._outdated[table.name]
        if staged != expected:
            raise VoiceOSExportError(
                f"{merge.target} holds several rows with one {' and '.join(table.key)}, as appending leaves them: "
                f"write_disposition {self._orders.disposition!r} cannot tell which is meant. Use another table_prefix."
            )
        gone = self._count_gone(merge)
        old = staged - new if merge.advance else changed
        for statement in dialect.write(merge, new=new, old=old, gone=gone):
            session.run(statement)
        self._verify(merge, staged if merge.advance else new + changed + same, gone)
        return LoadedTable(
            inserted=new,
            updated=changed,
            unchanged=staged - new - changed,
            deleted=gone,
            outdated=self._outdated[table.name],
        )

    def _verify(self, merge: Merge, rows: int, gone: int) -> None:
        """What was staged must stand, and what is gone must not."""
        (standing,) = self._session.numbers(
            f"SELECT count(*) FROM {merge.stage} s JOIN {merge.target} t ON {self._dialect.same_row(merge)} "
            f"WHERE t.{self._q('_exported_at')} = {self._now}"
        )
        left = self._count_gone(merge) if gone else 0
        if standing != rows or left:
            raise InterferenceError(
                f"{merge.target} holds {standing:,} of {rows:,} written rows, and {left:,} of {gone:,} deleted ones. "
                "A trigger or a rule of the database may interfere. Nothing was written."
            )

    def _append(self, merge: Merge) -> LoadedTable:
        rows = self._rowsets[merge.table.name].rows
        ours = f"{self._q('_exported_at')} = {self._now} AND {self._within()}"
        count = f"SELECT count(*) FROM {merge.target} WHERE {ours}"
        (before,) = self._session.numbers(count)
        if before and before == rows:
            # The answer to an earlier commit of ours was lost, and the rows were not.
            return LoadedTable(inserted=rows)
        self._session.run(self._dialect.insert(merge, new=False))
        (after,) = self._session.numbers(count)
        if after - before != rows:
            raise InterferenceError(
                f"{merge.target} took {after - before:,} of {rows:,} rows. Nothing was written."
            )
        return LoadedTable(inserted=rows)

    def _merge(self, table: Table) -> Merge:
        merge = Merge(
            table=table,
            target=self._dialect.at(self._place, table),
            bare=self._dialect.bare(self._place, table),
            stage=self._dialect.at(self._staging, table),
            standing=self._standing[table.name],
            columns=self._rowsets[table.name].columns,
            # The version of a conversation is that of its row, where there is one; what belongs to it follows.
            advance=table in (CONVERSATIONS, REJECTED)
            or (table is not AGENT_CONFIGS and CONVERSATIONS not in self._orders.tables),
        )
        return replace(merge, gone=self._gone(merge))

    def _gone(self, merge: Merge) -> str:
        """Which rows of the table the export says are gone: those of its conversations, and of its interval."""
        replaces = self._orders.disposition == "replace"
        if merge.table is REJECTED:
            return f"{self._within(f'{merge.bare}.')} AND {self._dialect.not_staged(merge)}"
        if merge.table is AGENT_CONFIGS or (merge.table is CONVERSATIONS and not replaces):
            return ""
        ours: list[str] = []
        if merge.table is not CONVERSATIONS:
            owner = f"{merge.bare}.{self._q(_OWNER)}"
            (id_,) = (column for column in CONVERSATIONS.columns if column.name == "id")
            read = self._dialect.read(id_, merge.standing[_OWNER])
            owners = f"SELECT {read} FROM {self._dialect.at(self._staging, CONVERSATIONS)} s"
            if replaces and CONVERSATIONS in self._orders.tables:
                standing = self._dialect.at(self._place, CONVERSATIONS)
                owners += f" UNION ALL SELECT o.{self._q('id')} FROM {standing} o WHERE {self._within('o.')}"
            ours.append(f"{owner} IN ({owners})")
        if replaces and (merge.table is CONVERSATIONS or CONVERSATIONS not in self._orders.tables):
            ours.append(self._within(f"{merge.bare}."))
        return f"({' OR '.join(ours)}) AND {self._dialect.not_staged(merge)}"

    def _count_gone(self, merge: Merge) -> int:
        if not merge.gone:
            return 0
        (found,) = self._session.numbers(f"SELECT count(*) FROM {merge.target} WHERE {merge.gone}")
        return found

    def _within(self, qualifier: str = "") -> str:
        """Rows of which is known that they were created in this interval, whichever interval they were read for."""
        start, end = (
            self._dialect.instant(at) for at in (self._orders.interval.start, self._orders.interval.end)
        )
        return f"{qualifier}{self._q('_interval_start')} >= {start} AND {qualifier}{self._q('_interval_end')} <= {end}"

    def _q(self, name: str) -> str:
        return self._dialect.quote(name)
