"""Tables of a lake as the destination of an export: one commit per table, conversations last.

Each commit is computed from the table's current state. If another writer commits first, the table is read again and the
change computed again, so that no row version is overwritten by an older one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval, isoformat, joined
from voiceos_provider.load.checkpoint import Checkpoint
from voiceos_provider.load.erasure import Erased
from voiceos_provider.load.lake.changes import Owners, find_change, find_owners
from voiceos_provider.load.lake.table import EXPORT_ID, Change, ConflictError, Lake, LakeTable
from voiceos_provider.load.pending import PendingConversations, previous_lookback_start, split_by_age
from voiceos_provider.load.plan import LoadPlan, WriteDisposition
from voiceos_provider.load.receipt import ExportReceipt, LoadedTable
from voiceos_provider.load.spool import not_ended
from voiceos_provider.load.workdir import WorkDir, disk_errors
from voiceos_provider.load.writer import SpoolWriter
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import TABLES, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 12
_MAX_DELAY = 10.0
_ROWS = "voiceos.rows"

_Result = TypeVar("_Result")


class _ConflictRetries:
    """Repetition of a step that another writer's commit has made obsolete.

    :param sleep: waits between two attempts, in seconds
    :param rng: source of random delays
    """

    def __init__(self, sleep: Callable[[float], None], rng: random.Random) -> None:
        self._sleep = sleep
        self._rng = rng

    def run(self, step: Callable[[], _Result]) -> _Result:
        """Run a step, again if another writer commits meanwhile."""
        for attempt in count(1):
            try:
                return step()
            except ConflictError as error:
                if attempt == _MAX_ATTEMPTS:
                    raise
                delay = self._rng.uniform(0.5, 1) * min(_MAX_DELAY, 0.1 * 2**attempt)
                log.info("%s Retrying in %.1f s (attempt %s).", error, delay, attempt + 1)
            self._sleep(delay)
        raise AssertionError("unreachable")


class LakeDestination:
    """Tables of a lake.

    :param lake: the format, with the namespace of the tables
    :param write_disposition: what becomes of existing rows
    :param create_tables: whether to create missing tables and columns
    :param sleep: waits between two attempts, in seconds
    :param rng: source of random delays
    """

    def __init__(
        self,
        lake: Lake,
        *,
        write_disposition: WriteDisposition = "merge",
        create_tables: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._lake = lake
        self._write_disposition = write_disposition
        self._create_tables = create_tables
        self._retries = _ConflictRetries(sleep, rng or random.Random())
        self.uri = lake.uri

    @contextmanager
    def open(
        self, options: ExportOptions, workdir: WorkDir, *, exported_at: datetime
    ) -> Iterator[LakeWriter]:
        """Yield a writer whose rows become visible when it publishes them; without that, none do.

        :param options: what is exported
        :param workdir: where rows wait until all of them are written
        :param exported_at: when the export began
        :raises VoiceOSError: at once, if the lake cannot be reached, or its tables cannot take the rows
        """
        if options.max_bad_records:
            raise VoiceOSValueError(
                "max_bad_records needs files or a database, which set rejected records aside."
            )
        plan = LoadPlan(
            tables=tuple(options.tables),
            disposition=self._write_disposition,
            interval=options.interval,
            exported_at=exported_at,
            create=self._create_tables,
        )
        for table in plan.tables:
            existing = self._lake.table(table)
            with self._lake.errors(f"open the table {existing.name}"):
                existing.load(create=plan.create)
        with workdir.folder() as folder:
            yield LakeWriter(self._lake, self._retries, plan, folder, options, workdir.checkpoint)

    def find_pending(self, interval: Interval, max_age: timedelta) -> PendingConversations:
        """Return the conversations of earlier intervals to request again: those whose rows have not ended.

        :param interval: the interval of the export
        :param max_age: how long after the end of its interval a conversation is requested
        :raises VoiceOSError: if the lake cannot be reached
        """
        existing = self._lake.table(CONVERSATIONS)
        earliest = previous_lookback_start(interval, max_age)
        found: dict[str, Interval] = {}
        with self._lake.errors(f"read the table {existing.name}"):
            if existing.refresh():
                columns = ("id", "status", "_interval_start", "_interval_end")
                for batch in existing.scan(columns, [Interval(earliest, interval.start)]):
                    for row in batch.filter(not_ended(batch)).to_pylist():
                        if earliest < row["_interval_end"] <= interval.start:
                            found[row["id"]] = Interval(row["_interval_start"], row["_interval_end"])
        return split_by_age(dict(sorted(found.items())), interval, max_age)

    def erase(self, ids: Sequence[str]) -> Erased:
        """Remove the rows of conversations with one commit per table, and the history of all tables.

        :raises VoiceOSError: if attempts do not help; what is removed until then stays removed
        """
        erased = Erased()
        with self._lake.errors("look for the tables"):
            erased.exists = any(self._lake.table(table).refresh() for table in TABLES)
        unused = self._unused_configurations(ids)
        # Conversations come last, so that another run finds what a killed one has left.
        for table in reversed(TABLES):
            keys = unused if table is AGENT_CONFIGS else pa.array(ids, pa.string())
            self._retries.run(partial(self._erase_rows, table, keys, erased))
        for table in TABLES:
            self._retries.run(partial(self._purge, table, erased))
        return erased

    def _erase_rows(self, table: Table, keys: pa.Array, erased: Erased) -> None:
        existing = self._lake.table(table)
        with self._lake.errors(f"delete from the table {existing.name}"):
            if not len(keys) or not existing.refresh():
                return
            batches = existing.scan(table.key[:1], None)
            columns = [batch.column(0).filter(pc.is_in(batch.column(0), value_set=keys)) for batch in batches]
            rows = sum(map(len, columns))
            if not rows:
                return
            existing.delete(keys)
            erased.tables[table.name].rows += rows
            if table is not AGENT_CONFIGS:
                erased.found.update(value for column in columns for value in column.to_pylist())

    def _purge(self, table: Table, erased: Erased) -> None:
        existing = self._lake.table(table)
        with self._lake.errors(f"remove the history of the table {existing.name}"):
            if existing.refresh():
                erased.tables[table.name].files_deleted += existing.purge()

    def _unused_configurations(self, ids: Sequence[str]) -> pa.Array:
        """Return the configurations to which no other conversation refers."""
        existing, erased = self._lake.table(CONVERSATIONS), pa.array(ids, pa.string())
        of_erased, of_others = set[str](), set[str]()
        with self._lake.errors(f"read the table {existing.name}"):
            if existing.refresh():
                for batch in existing.scan(("id", *AGENT_CONFIGS.key), None):
                    is_erased = pc.is_in(batch.column(0), value_set=erased)
                    of_erased.update(pc.unique(batch.column(1).filter(is_erased)).to_pylist())
                    of_others.update(pc.unique(batch.column(1).filter(pc.invert(is_erased))).to_pylist())
        return pa.array(sorted(filter(None, of_erased - of_others)), pa.string())


class LakeWriter(SpoolWriter):
    """Writer of `LakeDestination`."""

    def __init__(
        self,
        lake: Lake,
        retries: _ConflictRetries,
        plan: LoadPlan,
        folder: Path,
        options: ExportOptions,
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__(folder, options, checkpoint, target=lake.uri)
        self._lake = lake
        self._retries = retries
        self._plan = plan

    def _refuse_rejected(self) -> str:
        return "Nothing was loaded."

    def _publish(self, receipt: ExportReceipt) -> ExportReceipt:
        """Commit each table, conversations last: readers never see one without its messages and costs."""
        properties = self._properties(receipt)
        with disk_errors(self._folder):
            exported, intervals = self._conversations()
        loaded = {
            table.name: self._publish_table(table, exported, intervals, properties)
            for table in sorted(self._plan.tables, key=lambda table: table is CONVERSATIONS)
        }
        return replace(receipt, tables={table.name: loaded[table.name] for table in self._plan.tables})

    def _properties(self, receipt: ExportReceipt) -> dict[str, str]:
        interval, exported_at = self._plan.interval, isoformat(self._plan.exported_at)
        start, end = isoformat(interval.start), isoformat(interval.end)
        content = json.dumps(receipt.as_dict(), sort_keys=True)
        return {
            EXPORT_ID: f"{start}/{end}@{exported_at}",
            "voiceos.interval-start": start,
            "voiceos.interval-end": end,
            "voiceos.exported-at": exported_at,
            "voiceos.write-disposition": self._plan.disposition,
            "voiceos.receipt-sha256": hashlib.sha256(content.encode()).hexdigest(),
        }

    def _conversations(self) -> tuple[pa.Array, list[Interval]]:
        """Return the ids of the exported conversations, and their intervals without overlaps."""
        ids, found = [pa.array([], pa.string())], {self._plan.interval}
        for batch in self._spool.batches(CONVERSATIONS):
            ids.append(batch.column("id"))
            bounds = batch.select(["_interval_start", "_interval_end"])
            pairs = pa.Table.from_batches([bounds]).group_by(bounds.schema.names).aggregate([])
            found.update(Interval(*row.values()) for row in pairs.to_pylist())
        return pa.concat_arrays(ids), joined(found)

    def _publish_table(
        self, table: Table, exported: pa.Array, intervals: Sequence[Interval], properties: Mapping[str, str]
    ) -> LoadedTable:
        """Commit the change of one table; if another writer commits first, find it again.

        :param properties: properties of the commit; the value of `EXPORT_ID` identifies it
        """
        attempts = count(1)

        def commit() -> LoadedTable:
            existing = self._lake.table(table)
            with self._lake.errors(f"write to the table {existing.name}"):
                existing.load(create=self._plan.create)
                # An interrupted attempt may have committed; appended rows are not recognized otherwise.
                if next(attempts) > 1 or not self._plan.keyed(table):
                    committed = existing.find_commit(properties[EXPORT_ID])
                    if committed is not None:
                        return LoadedTable(**json.loads(committed[_ROWS]))
                change, loaded = self._find_change(existing, exported, intervals)
                if change.rows or len(change.removed):
                    rows = json.dumps({name: rows for name, rows in asdict(loaded).items() if rows})
                    existing.commit(replace(change, properties={**properties, _ROWS: rows}))
                return loaded

        return self._retries.run(commit)

    def _find_change(
        self, existing: LakeTable[Any], exported: pa.Array, intervals: Sequence[Interval]
    ) -> tuple[Change, LoadedTable]:
        """Return what to commit to one table in its current state, and what becomes of the exported rows."""
        plan, table = self._plan, existing.table
        batches = partial(self._spool.batches, table)
        if not plan.keyed(table):
            rows = self._spool.rows(table)
            change = Change(removed=exported[:0], intervals=(), added=batches, rows=rows)
            return change, LoadedTable(inserted=rows)
        folder = self._folder / "changes"
        shutil.rmtree(folder, ignore_errors=True)
        with disk_errors(self._folder):
            folder.mkdir()
        owners = Owners(exported=exported)
        if table not in (CONVERSATIONS, AGENT_CONFIGS) and CONVERSATIONS in plan.tables:
            conversations = self._lake.table(CONVERSATIONS)
            conversations.load(create=plan.create)
            owners = find_owners(conversations, exported, intervals, plan)
        versioned = table is CONVERSATIONS or CONVERSATIONS not in plan.tables
        return find_change(
            existing,
            batches,
            owners,
            plan,
            intervals=None if table is AGENT_CONFIGS else intervals,
            whole_interval=plan.disposition == "replace" and versioned and table is not AGENT_CONFIGS,
            folder=folder,
        )
