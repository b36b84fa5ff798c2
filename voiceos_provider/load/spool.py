"""Where do rows wait until all of them are there? On local disk, where no reader looks."""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from voiceos_provider.load.workdir import DamagedWorkDirError
from voiceos_provider.transform import Rows, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

_BATCH_ROWS = 16_384
_BATCH_BYTES = 2 * 2**20
# Threads of Arrow would each keep memory of their own, and are no faster at batches of this size.
_ONE_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
_POSITION = pa.field("_position", pa.int64())

_Written = Mapping[str, Sequence[Sequence[int]]]
"""For each table, the bytes and rows of the files that each try has left."""


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier try has left to this one.

    :param conversations: how many it has written
    :param configurations: the hashes of the configurations that it has written
    """

    conversations: int = 0
    configurations: Collection[str] = ()


class Spool:
    """The rows of an export, and which of them a later copy of their conversation has replaced.

    Memory holds a batch of each table, and eight bytes for each conversation.

    :param folder: where to keep them
    :param tables: those that are asked for; `conversations` are always kept, to tell their copies apart
    :param written: what `secure` returned to an earlier try, whose rows are in the folder
    :raises DamagedWorkDirError: if they are not; also from every method that reads rows
    """

    def __init__(self, folder: Path, tables: Iterable[Table], *, written: _Written | None = None) -> None:
        wanted = dict.fromkeys([CONVERSATIONS, *tables])
        parts = written or {}
        self._files = {
            table.name: _File(folder, table.name, table.schema, parts.get(table.name, [])) for table in wanted
        }
        self._hashes = array("q")
        self._superseded = np.empty(0, dtype=np.int64)
        for batch, _ in self._files[CONVERSATIONS.name].read():
            self._see(batch)

    @property
    def conversations(self) -> int:
        """How many were added, replaced ones included."""
        return len(self._hashes)

    def append(self, rows: Mapping[str, Rows]) -> None:
        """Add rows; of those of one conversation, the last ones count."""
        self._see(rows[CONVERSATIONS.name].batch)
        for name, file in self._files.items():
            file.append(rows[name])

    def secure(self) -> dict[str, list[tuple[int, int]]]:
        """Have all rows in files that outlive this process; returns the bytes and rows of each to be trusted."""
        return {name: file.secure() for name, file in self._files.items()}

    def left(self) -> Left:
        """What an earlier try has left here, before anything is appended."""
        file, (key,) = self._files.get(AGENT_CONFIGS.name), AGENT_CONFIGS.key
        batches = file.read() if file else ()
        return Left(
            self.conversations, {known for batch, _ in batches for known in batch.column(key).to_pylist()}
        )

    def _see(self, conversations: pa.RecordBatch) -> None:
        self._hashes.extend(map(hash, conversations.column("id").to_pylist()))

    def seal(self) -> int:
        """Take no more rows, and say how many conversations were replaced by later copies."""
        for file in self._files.values():
            file.close()
        self._superseded = self._find_superseded()
        return len(self._superseded)

    def rows(self, table: Table) -> int:
        """How many rows of a table count."""
        return sum(len(batch) for batch in self.batches(table))

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """The rows of a table that count, in the order of their arrival."""
        for batch, positions in self._files[table.name].read():
            if positions is None or not len(self._superseded):
                yield batch
            else:
                yield batch.filter(pa.array(~np.isin(positions, self._superseded)))

    def _find_superseded(self) -> np.ndarray:
        """Positions of conversations whose id comes again later, ascending."""
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        twins = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if not len(twins):
            return np.empty(0, dtype=np.int64)
        # Two ids may share a hash, so the suspects' ids themselves decide.
        suspects = np.unique(np.concatenate([order[twins], order[twins + 1]]))
        ids: list[str] = []
        for batch, positions in self._files[CONVERSATIONS.name].read():
            assert positions is not None
            ids += batch.column("id").filter(pa.array(np.isin(positions, suspects))).to_pylist()
        last = dict(zip(ids, suspects, strict=True))
        return np.array(
            [at for id_, at in zip(ids, suspects, strict=True) if last[id_] != at], dtype=np.int64
        )


@dataclass(slots=True)
class _Part:
    """A file that one try has written.

    :param size: its bytes that count, if an earlier try has written it
    :param rows: how many rows are in it
    """

    path: Path
    size: int = 0
    rows: int = 0

    def trim(self) -> None:
        """Cut off what was written after the rest was secured.

        :raises DamagedWorkDirError: if not even that is there
        """
        try:
            if self.path.stat().st_size >= self.size:
                return os.truncate(self.path, self.size)
        except FileNotFoundError:
            pass
        raise self.damaged("is not whole")

    def read(self) -> Iterator[tuple[pa.RecordBatch, np.ndarray | None]]:
        """The rows, and the positions of their conversations.

        :raises DamagedWorkDirError: if not all of them are there: a hole in a file reads like its end
        """
        rows = 0
        try:
            with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file, options=_ONE_THREAD) as reader:
                positioned = _POSITION.name in reader.schema.names
                names = [name for name in reader.schema.names if name != _POSITION.name]
                for batch in reader:
                    rows += len(batch)
                    positions = batch.column(_POSITION.name).to_numpy() if positioned else None
                    yield batch.select(names) if positioned else batch, positions
        except (OSError, pa.ArrowInvalid) as error:
            raise self.damaged("cannot be read") from error
        if rows != self.rows:
            raise self.damaged(f"holds {rows:,} of {self.rows:,} rows")

    def damaged(self, how: str) -> DamagedWorkDirError:
        """The error that says so."""
        return DamagedWorkDirError(
            f"{self.path} {how}: something else writes or removes files there. Nothing was published, and the next "
            "try starts over. TMPDIR names another folder."
        )


class _File:
    """The rows of one table in Arrow files, one for each try, each row with the position of its conversation."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, written: Sequence[Sequence[int]]) -> None:
        paths = [
            folder / f"{name}{f'.{number}' if number else ''}.arrow" for number in range(len(written) + 1)
        ]
        self._part = _Part(paths.pop())
        self._earlier = [_Part(path, *told) for path, told in zip(paths, written, strict=True)]
        for part in self._earlier:
            if part.size:
                part.trim()
        self._sink: pa.OSFile | None = None
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def append(self, rows: Rows) -> None:
        batch = rows.batch
        if rows.positions is not None:
            batch = pa.RecordBatch.from_arrays(
                [*batch.columns, rows.positions], schema=self._schema.append(_POSITION)
            )
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._sink = pa.OSFile(str(self._part.path), "wb")
            self._writer = pa.ipc.new_stream(self._sink, batch.schema, options=options)
        if not len(batch):
            return
        self._pending.append(batch)
        self._part.rows += len(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes
        if self._rows >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def secure(self) -> list[tuple[int, int]]:
        self._flush()
        size = self._sink.tell() if self._sink else 0
        return [*((part.size, part.rows) for part in self._earlier), (size, self._part.rows)]

    def close(self) -> None:
        if self._writer is not None and self._sink is not None:
            self._flush()
            self._writer.close()
            self._sink.close()

    def read(self) -> Iterator[tuple[pa.RecordBatch, np.ndarray | None]]:
        for part in self._earlier:
            if part.size:
                yield from part.read()
        if self._writer is not None:
            yield from self._part.read()

    def _flush(self) -> None:
        if self._pending and self._writer is not None:
            self._writer.write_batch(pa.concat_batches(self._pending))
            self._pending.clear()
            self._rows = self._bytes = 0
