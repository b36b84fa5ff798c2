"""Spool: the rows of an export on local disk, until all of them can be published."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.client.pages import Rejected
from voiceos_provider.client.requests import ENDED
from voiceos_provider.load.checkpoint import DamagedWorkDirError, SpooledPart, SpooledRows
from voiceos_provider.load.receipt import ReadCounts
from voiceos_provider.transform import Rows, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

_BATCH_ROWS = 16_384
_BATCH_BYTES = 2**20
_HASHES_AT_ONCE = 2**17
_RELEASE_EVERY = 20_000
"""Conversations after which free memory is returned. More often costs CPU, because most of it is needed again."""

# Threads of Arrow would each keep memory of their own, and are no faster at batches of this size.
_ONE_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
_POSITION = pa.field("_position", pa.int64())


@dataclass(frozen=True, slots=True)
class Resumed:
    """What earlier attempts have written.

    :param rejected: the records set aside, as `one_line` writes them
    """

    conversations: int = 0
    configurations: Collection[str] = ()
    rejected: Collection[bytes] = ()


class Spool:
    """The rows of an export, and which of them a later copy of their conversation has replaced.

    Memory holds a batch of each table, however many there are.

    :param tables: the tables to publish; `conversations` are always kept, to find their copies
    :param written: what `checkpoint` returned to an earlier attempt, whose rows are in the folder
    :ivar conversations: conversations added, replaced ones included
    :raises DamagedWorkDirError: if they are not; also from every method that reads rows
    """

    def __init__(self, folder: Path, tables: Iterable[Table], *, written: SpooledRows | None = None) -> None:
        written = written or SpooledRows()
        self._files = {
            table.name: _TableFile(folder, table.name, table.schema, written.tables.get(table.name, ()))
            for table in dict.fromkeys([CONVERSATIONS, *tables])
        }
        self._hashes_file = folder / "hashes"  # of the ids: eight bytes for each conversation
        self._hashes_file.write_bytes(b"")
        self.conversations = 0
        self._replaced = np.empty(0, dtype=np.int64)
        for batch, _ in self._files[CONVERSATIONS.name].read():
            self._note(batch)
        self.rejected = written.rejected
        self.rejected_file = folder / "rejected.jsonl"
        if self.rejected_file.exists():
            os.truncate(self.rejected_file, written.rejected_bytes)

    def append(self, rows: Mapping[str, Rows]) -> None:
        """Add rows; of those of one conversation, the last ones count."""
        self._note(rows[CONVERSATIONS.name].batch)
        for name, file in self._files.items():
            file.append(rows[name])

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Write records that cannot become rows to `rejected_file`."""
        with self.rejected_file.open("ab") as file:
            for each in rejected:
                line = {"reason": each.reason, "conversation": msgspec.Raw(one_line(each.raw))}
                file.write(msgspec.json.encode(line) + b"\n")
        self.rejected += len(rejected)

    def rejects(self) -> Iterator[Rejected]:
        """Yield the records of `rejected_file`."""
        if self.rejected:
            with self.rejected_file.open("rb") as file:
                for line in file:
                    each = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
                    yield Rejected(msgspec.json.decode(each["reason"], type=str), bytes(each["conversation"]))

    def checkpoint(self) -> SpooledRows:
        """Write all rows to files that outlive this process, and return which of their bytes count."""
        size = self.rejected_file.stat().st_size if self.rejected_file.exists() else 0
        tables = {name: file.checkpoint() for name, file in self._files.items()}
        return SpooledRows(tables=tables, rejected=self.rejected, rejected_bytes=size)

    def resumed(self) -> Resumed:
        """Return what earlier attempts have written, before anything is appended."""
        file, (key,) = self._files.get(AGENT_CONFIGS.name), AGENT_CONFIGS.key
        batches = file.read() if file else ()
        return Resumed(
            self.conversations,
            {known for batch, _ in batches for known in batch.column(key).to_pylist()},
            {each.raw for each in self.rejects()},
        )

    def _note(self, conversations: pa.RecordBatch) -> None:
        hashes = array("q", map(hash, conversations.column("id").to_pylist()))
        with self._hashes_file.open("ab") as file:
            hashes.tofile(file)
        self.conversations += len(hashes)
        if self.conversations % _RELEASE_EVERY < len(hashes):
            _release_memory()

    def _hashes(self) -> Iterator[np.ndarray]:
        """Yield the hashes of the ids of all conversations, in the order of their arrival."""
        found = 0
        with suppress(OSError), self._hashes_file.open("rb") as file:
            while len(hashes := np.fromfile(file, np.int64, _HASHES_AT_ONCE)):
                found += len(hashes)
                yield hashes
        if found != self.conversations:
            raise _damaged(self._hashes_file, f"holds {found:,} of {self.conversations:,} hashes")

    def close(self) -> int:
        """Close the spool for writing, and return how many conversations later copies have replaced."""
        for file in self._files.values():
            file.close()
        self._replaced = self._find_replaced()
        _release_memory()
        return len(self._replaced)

    def correct(self, reading: ReadCounts) -> ReadCounts:
        """Return the counters corrected by the rows, once the spool is closed."""
        unfinished: list[str] = []
        exported = set[str]()
        pending = np.fromiter(map(hash, reading.pending_ids), np.int64, len(reading.pending_ids))
        added = np.zeros(len(pending), dtype=bool)
        for hashes in self._hashes() if len(pending) else ():
            added |= np.isin(pending, hashes)
        suspects = {id_ for id_, is_added in zip(reading.pending_ids, added, strict=True) if is_added}
        costs: list[Decimal] = []
        durations: list[float] = []
        for batch in self.batches(CONVERSATIONS):
            ids = batch.column("id")
            if (cost := pc.sum(batch.column("total_cost")).as_py()) is not None:
                costs.append(cost)
            if (duration := pc.sum(batch.column("duration_seconds")).as_py()) is not None:
                durations.append(duration)
            unfinished += ids.filter(not_ended(batch)).to_pylist()
            if suspects:  # two ids may share a hash
                exported |= suspects.intersection(ids.to_pylist())
        cost = round(float(sum(costs)), 6) if costs else None
        duration = round(sum(durations), 6) if durations else None
        return reading.with_rows(exported, unfinished, cost=cost, duration_seconds=duration)

    def rows(self, table: Table) -> int:
        """Return how many rows of a table count."""
        return sum(len(batch) for batch in self.batches(table))

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table that count, in the order of their arrival."""
        for batch, positions in self._files[table.name].read():
            if positions is None or not len(self._replaced):
                yield batch
            else:
                yield batch.filter(pa.array(~np.isin(positions, self._replaced)))

    def _find_replaced(self) -> np.ndarray:
        """Return the positions of conversations whose id comes again later, ascending."""
        # In parts: all copies of a hash are in the same one.
        parts = -(-self.conversations // _HASHES_AT_ONCE)
        none = np.empty(0, dtype=np.int64)
        suspects = np.sort(np.concatenate([none, *(self._twins(part, parts) for part in range(parts))]))
        if not len(suspects):
            return none
        # Two ids may share a hash, so the ids themselves decide.
        ids: list[str] = []
        for batch, positions in self._files[CONVERSATIONS.name].read():
            assert positions is not None
            ids += batch.column("id").filter(pa.array(np.isin(positions, suspects))).to_pylist()
        last = dict(zip(ids, suspects, strict=True))
        return np.array(
            [at for id_, at in zip(ids, suspects, strict=True) if last[id_] != at], dtype=np.int64
        )

    def _twins(self, part: int, parts: int) -> np.ndarray:
        """Return the positions of conversations whose hash is not unique, of one part of all hashes."""
        found = [np.flatnonzero(hashes % parts == part) for hashes in self._hashes()]
        hashes = np.concatenate([some[at] for some, at in zip(self._hashes(), found, strict=True)])
        positions = np.concatenate([at + number * _HASHES_AT_ONCE for number, at in enumerate(found)])
        order = np.argsort(hashes, kind="stable")
        twins = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        repeated: np.ndarray = positions[np.unique(order[np.concatenate([twins, twins + 1])])]
        return repeated


def _release_memory() -> None:
    """Return free memory to the operating system: what Arrow keeps, and what malloc keeps of the pages."""
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def not_ended(conversations: pa.RecordBatch) -> pa.BooleanArray:
    """Return which conversations have not ended, as far as their rows say."""
    return pc.invert(pc.fill_null(pc.equal(conversations.column("status"), ENDED), fill_value=False))


def one_line(raw: bytes) -> bytes:
    """Return a record as a line of JSON."""
    try:
        return msgspec.json.format(raw, indent=-1)
    except msgspec.DecodeError:  # kept as it came, as a text
        return msgspec.json.encode(raw.decode(errors="replace"))


class _TableFile:
    """The rows of one table in Arrow files, one for each attempt, with the positions of their conversations."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, written: Sequence[SpooledPart]) -> None:
        paths = [
            folder / f"{name}{f'.{number}' if number else ''}.arrow" for number in range(len(written) + 1)
        ]
        self._path = paths.pop()
        self._written = tuple(written)
        self._earlier = [(path, part) for path, part in zip(paths, written, strict=True) if part.bytes]
        for path, part in self._earlier:
            _trim(path, part)
        self._schema = schema
        self._rows = 0
        self._buffer: list[pa.RecordBatch] = []
        self._buffered_rows = self._buffered_bytes = 0
        self._sink: pa.OSFile | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def append(self, rows: Rows) -> None:
        batch = rows.batch
        if rows.positions is not None:
            batch = pa.RecordBatch.from_arrays(
                [*batch.columns, rows.positions], schema=self._schema.append(_POSITION)
            )
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_stream(self._sink, batch.schema, options=options)
        if not len(batch):
            return
        self._buffer.append(batch)
        self._rows += len(batch)
        self._buffered_rows += len(batch)
        self._buffered_bytes += batch.nbytes
        if self._buffered_rows >= _BATCH_ROWS or self._buffered_bytes >= _BATCH_BYTES:
            self._flush()

    def checkpoint(self) -> tuple[SpooledPart, ...]:
        self._flush()
        size = self._sink.tell() if self._sink else 0
        return (*self._written, SpooledPart(bytes=size, rows=self._rows))

    def close(self) -> None:
        if self._writer is not None and self._sink is not None:
            self._flush()
            self._writer.close()
            self._sink.close()

    def read(self) -> Iterator[tuple[pa.RecordBatch, np.ndarray | None]]:
        for path, part in self._earlier:
            yield from _read(path, part.rows)
        if self._writer is not None:
            yield from _read(self._path, self._rows)

    def _flush(self) -> None:
        if self._buffer and self._writer is not None:
            self._writer.write_batch(pa.concat_batches(self._buffer))
            self._buffer.clear()
            self._buffered_rows = self._buffered_bytes = 0


def _trim(path: Path, part: SpooledPart) -> None:
    """Cut off what an earlier attempt wrote after its checkpoint.

    :raises DamagedWorkDirError: if not even the rest is there
    """
    try:
        if path.stat().st_size >= part.bytes:
            return os.truncate(path, part.bytes)
    except FileNotFoundError:
        pass
    raise _damaged(path, "is not complete")


def _read(path: Path, expected: int) -> Iterator[tuple[pa.RecordBatch, np.ndarray | None]]:
    """Yield the rows of a file, and the positions of their conversations.

    :raises DamagedWorkDirError: if not all of them are there: a hole in a file reads like its end
    """
    rows = 0
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file, options=_ONE_THREAD) as reader:
            positioned = _POSITION.name in reader.schema.names
            names = [name for name in reader.schema.names if name != _POSITION.name]
            for batch in reader:
                rows += len(batch)
                positions = batch.column(_POSITION.name).to_numpy() if positioned else None
                yield batch.select(names) if positioned else batch, positions
            pa.default_memory_pool().release_unused()
    except (OSError, pa.ArrowInvalid) as error:
        raise _damaged(path, "cannot be read") from error
    if rows != expected:
        raise _damaged(path, f"holds {rows:,} of {expected:,} rows")


def _damaged(path: Path, how: str) -> DamagedWorkDirError:
    return DamagedWorkDirError(
        f"{path} {how}: another process writes or removes files there. Set TMPDIR to another folder. "
        "Nothing was published, and the next attempt starts over."
    )
