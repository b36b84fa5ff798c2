"""Comparison of the exported rows with the existing rows of a lake table.

Both are split into buckets by the first key column, in files of the work directory. Memory holds one bucket at a time,
and the keys of the rows to remove.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.load.lake.table import Change, LakeTable
from voiceos_provider.load.plan import AUDIT_COLUMNS, LoadPlan
from voiceos_provider.load.receipt import LoadedTable
from voiceos_provider.transform import Table

BUCKET_BYTES = 32 * 2**20
"""Bytes of exported rows that are compared at a time."""

_WRITTEN_BYTES = 8 * 2**20
"""Bytes of rows that are split at a time; smaller batches would leave many small ones."""

_NO_IDS = pa.array([], pa.string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """The conversations whose rows a load replaces.

    :param exported: ids of the exported conversations
    :param outdated: ids of conversations for which the lake holds a newer row version
    :param replaced: ids of existing conversations of an interval that is replaced
    """

    exported: pa.Array
    outdated: pa.Array = field(default_factory=lambda: _NO_IDS)
    replaced: pa.Array = field(default_factory=lambda: _NO_IDS)


def find_owners(
    conversations: LakeTable[Any], exported: pa.Array, intervals: Sequence[Interval], plan: LoadPlan
) -> Owners:
    """Return the conversations whose rows in other tables a load replaces.

    :raises VoiceOSDestinationError: if a later export has read rows of an interval that is to be replaced
    """
    outdated, replaced = [_NO_IDS], [_NO_IDS]
    for batch in conversations.scan(("id", *AUDIT_COLUMNS), intervals):
        outdated.append(batch.column("id").filter(_is_newer(batch, plan)))
        if plan.disposition == "replace":
            _require_newest(conversations, batch, plan)
            replaced.append(batch.column("id").filter(_is_inside(batch, plan.interval)))
    return Owners(exported=exported, outdated=pa.concat_arrays(outdated), replaced=pa.concat_arrays(replaced))


def find_change(
    existing: LakeTable[Any],
    staged: Callable[[], Iterator[pa.RecordBatch]],
    owners: Owners,
    plan: LoadPlan,
    *,
    intervals: Sequence[Interval] | None,
    whole_interval: bool,
    folder: Path,
) -> tuple[Change, LoadedTable]:
    """Return how to merge exported rows into a table, and what becomes of the rows.

    Rows that differ only in `AUDIT_COLUMNS` are unchanged, and are not written, unless a replaced interval does not
    contain their own. If any row of a conversation changes, all its rows in this table are written again.

    :param staged: reads the exported rows
    :param intervals: existing rows of intervals that touch one of these are compared; None to compare all
    :param whole_interval: also remove rows of the plan's interval that have not been exported
    :param folder: an empty directory for files, which the change reads
    :raises VoiceOSExportError: if several existing rows have one key
    :raises VoiceOSDestinationError: if a later export has read rows of an interval that is to be replaced
    """
    table, schema = existing.table, existing.table.schema
    found = existing.scan(schema.names, intervals)
    first = next(found, None)
    if first is None and not len(owners.outdated):
        rows = sum(len(batch) for batch in staged())
        change = Change(removed=_NO_IDS, intervals=intervals, added=staged, rows=rows)
        return change, LoadedTable(inserted=rows)
    count = 1 + sum(batch.nbytes for batch in staged()) // BUCKET_BYTES
    with ExitStack() as stack:
        new, old, added = (
            stack.enter_context(_Buckets(folder / name, schema, table.key[0], files))
            for name, files in (("staged", count), ("existing", count), ("added", 1))
        )
        for batch in chain([] if first is None else [first], found):
            if whole_interval:
                _require_newest(existing, batch, plan)
            old.add(batch)
        for batch in staged():
            new.add(batch)
        new.close()
        old.close()
        loaded, removed = LoadedTable(), [_NO_IDS]
        for number in range(count):
            comparison = _compare(
                existing, new.read(number), old.read(number), owners, plan, whole_interval=whole_interval
            )
            for batch in comparison.added.to_batches():
                added.add(batch)
            removed.append(comparison.removed)
            loaded += comparison.loaded
        added.close()
    change = Change(
        removed=pa.concat_arrays(removed), intervals=intervals, added=added.batches, rows=added.rows
    )
    return change, loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """What becomes of the rows of one bucket."""

    added: pa.Table
    removed: pa.Array
    loaded: LoadedTable


def _compare(
    existing: LakeTable[Any],
    new: pa.Table,
    old: pa.Table,
    owners: Owners,
    plan: LoadPlan,
    *,
    whole_interval: bool,
) -> _Comparison:
    table = existing.table
    owner = table.key[0]
    staged = len(new)
    newer = _combined(old.filter(_is_newer(old, plan)).column(owner), owners.outdated)
    new = new.filter(pc.invert(_is_in(new.column(owner), newer)))
    outdated = staged - len(new)
    relevant = _is_in(old.column(owner), _combined(new.column(owner), owners.exported, owners.replaced))
    if whole_interval:
        relevant = pc.or_(relevant, _is_inside(old, plan.interval))
    old = old.filter(pc.and_(relevant, pc.invert(_is_in(old.column(owner), newer))))

    at_new, at_old = _matches(table, new, old)
    matched = pc.and_(pc.is_valid(at_new), pc.is_valid(at_old))
    both_new, both_old = at_new.filter(matched), at_old.filter(matched)
    if len(pc.unique(both_new)) != len(both_new):
        raise VoiceOSExportError(
            f"Use another table_prefix: {existing.name} holds several rows with one {' and '.join(table.key)}, as "
            f"appending leaves them, and write_disposition {plan.disposition!r} needs unique keys."
        )
    matching_new = new if len(both_new) == len(new) else new.take(both_new)
    matching_old = old.take(both_old)
    changed = _differ(table, matching_new, matching_old)
    rewritten = changed
    if plan.disposition == "replace":
        rewritten = pc.or_(changed, pc.invert(_is_inside(matching_old, plan.interval)))
    inserted, deleted = at_new.filter(pc.is_null(at_old)), at_old.filter(pc.is_null(at_new))
    affected = _combined(
        new.column(owner).take(inserted),
        new.column(owner).take(both_new.filter(rewritten)),
        old.column(owner).take(deleted),
    )
    updated = pc.sum(changed).as_py() or 0
    return _Comparison(
        added=new.filter(_is_in(new.column(owner), affected)),
        removed=_combined(old.column(owner).filter(_is_in(old.column(owner), affected))),
        loaded=LoadedTable(
            inserted=len(inserted),
            updated=updated,
            unchanged=len(both_new) - updated,
            deleted=len(deleted),
            outdated=outdated,
        ),
    )


def _matches(table: Table, new: pa.Table, old: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the positions of new and existing rows with the same key; null for a row without a counterpart.

    The positions of new rows ascend, with the nulls last.
    """
    keys = list(table.key)
    left = new.select(keys).append_column("new", pa.array(np.arange(len(new))))
    right = old.select(keys).append_column("old", pa.array(np.arange(len(old))))
    joined = left.join(right, keys, join_type="full outer", use_threads=False)
    joined = joined.sort_by("new")
    return joined.column("new"), joined.column("old")


def _differ(table: Table, new: pa.Table, old: pa.Table) -> pa.ChunkedArray:
    """Return which rows differ in another column than those of the export."""
    columns = [name for name in table.schema.names if name not in AUDIT_COLUMNS]
    differences = (_column_differs(new.column(name), old.column(name)) for name in columns)
    return reduce(pc.or_, differences)


def _column_differs(new: pa.ChunkedArray, old: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.coalesce(pc.not_equal(new, old), pc.not_equal(pc.is_null(new), pc.is_null(old)))


def _is_newer(rows: pa.Table | pa.RecordBatch, plan: LoadPlan) -> pa.ChunkedArray | pa.Array:
    return pc.greater(rows.column("_exported_at"), pa.scalar(plan.exported_at, pa.timestamp("us", tz="UTC")))


def _is_inside(rows: pa.Table | pa.RecordBatch, interval: Interval) -> pa.ChunkedArray | pa.Array:
    start, end = (pa.scalar(at, pa.timestamp("us", tz="UTC")) for at in (interval.start, interval.end))
    return pc.and_(
        pc.greater_equal(rows.column("_interval_start"), start),
        pc.less_equal(rows.column("_interval_end"), end),
    )


def _is_in(values: pa.ChunkedArray, among: pa.Array) -> pa.ChunkedArray:
    return pc.is_in(values, value_set=among)


def _combined(*arrays: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the distinct values of some arrays of texts."""
    chunks = [
        chunk
        for array in arrays
        for chunk in (array.chunks if isinstance(array, pa.ChunkedArray) else [array])
    ]
    return pc.unique(pa.chunked_array(chunks, pa.string()))


def _require_newest(existing: LakeTable[Any], rows: pa.RecordBatch, plan: LoadPlan) -> None:
    """Raise if one of some existing rows is of the interval, and newer than the export."""
    if pc.any(pc.and_(_is_newer(rows, plan), _is_inside(rows, plan.interval))).as_py():
        raise VoiceOSDestinationError(
            f"The table {existing.name} holds rows of {plan.interval} that a later export has read. This one started "
            f"at {isoformat(plan.exported_at)} and replaces nothing; a retry reads again."
        )


class _Buckets:
    """Rows in Arrow files, split by the hash of a text column so that equal values are in one file.

    :param folder: the directory of the files, which is created
    :param count: the number of files
    """

    def __init__(self, folder: Path, schema: pa.Schema, column: str, count: int) -> None:
        folder.mkdir()
        self.rows = 0
        self._schema = schema
        self._column = column
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._paths = [folder / f"{number}.arrow" for number in range(count)]
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._sinks = [pa.OSFile(str(path), "wb") for path in self._paths]
        self._writers = [pa.ipc.new_stream(sink, schema, options=options) for sink in self._sinks]

    def __enter__(self) -> _Buckets:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows, each to its file."""
        self.rows += len(batch)
        self._waiting.append(batch.cast(self._schema))
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= _WRITTEN_BYTES:
            self._write()

    def _write(self) -> None:
        rows = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
        self._waiting, self._waiting_bytes = [], 0
        if len(self._writers) == 1:
            self._writers[0].write_table(rows)
            return
        encoded = rows.column(self._column).combine_chunks().dictionary_encode()
        numbers = [zlib.crc32(value.encode()) % len(self._paths) for value in encoded.dictionary.to_pylist()]
        of_row = np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy()]
        for number, writer in enumerate(self._writers):
            writer.write_table(rows.filter(pa.array(of_row == number)))

    def close(self) -> None:
        """Write what waits, and end all files; a closed one stays closed."""
        if self._waiting:
            self._write()
        for writer, sink in zip(self._writers, self._sinks, strict=True):
            if not sink.closed:
                writer.close()
                sink.close()

    def read(self, number: int) -> pa.Table:
        """Return the rows of one file, after `close`."""
        return pa.Table.from_batches(self._read(self._paths[number]), self._schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows."""
        for path in self._paths:
            yield from self._read(path)

    def _read(self, path: Path) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader
