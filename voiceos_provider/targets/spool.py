"""Where do rows wait until all of them are there? On local disk, where no reader looks."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSTargetError
from voiceos_provider.records import Rows, Table
from voiceos_provider.records.tables import CONVERSATIONS

_PREFIX = "voiceos-export-"
_ABANDONED_AFTER = 86_400.0
_BATCH_ROWS = 16_384
_BATCH_BYTES = 2 * 2**20
# Threads of Arrow would each keep memory of their own, and are no faster at batches of this size.
_ONE_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
_POSITION = pa.field("_position", pa.int64())


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A folder for rows that wait; what killed exports of this user have left of theirs is removed after a day."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            mine = left.stat().st_uid == os.getuid()
            touched = max(path.stat().st_mtime for path in (left, *left.iterdir()))
            if mine and time.time() - touched > _ABANDONED_AFTER:
                shutil.rmtree(left)  # it holds what people said
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        yield Path(folder)


@contextmanager
def blaming_the_disk(folder: Path) -> Iterator[None]:
    """Say where rows wait on this machine, if it cannot hold them."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        raise VoiceOSTargetError(
            f"cannot keep rows in {folder}: {reason}. TMPDIR names another folder."
        ) from error


class Spool:
    """The rows of an export, and which of them a later copy of their conversation has replaced.

    Memory holds a batch of each table, and eight bytes for each conversation.

    :param folder: where to keep them
    :param tables: those that are asked for; `conversations` are always kept, to tell their copies apart
    """

    def __init__(self, folder: Path, tables: Iterable[Table]) -> None:
        wanted = dict.fromkeys([CONVERSATIONS, *tables])
        self._files = {table.name: _File(folder / f"{table.name}.arrow", table.schema) for table in wanted}
        self._hashes = array("q")
        self._superseded = np.empty(0, dtype=np.int64)

    @property
    def conversations(self) -> int:
        """How many were added, replaced ones included."""
        return len(self._hashes)

    def append(self, rows: Mapping[str, Rows]) -> None:
        """Add rows; of those of one conversation, the last ones count."""
        self._hashes.extend(map(hash, rows[CONVERSATIONS.name].batch.column("id").to_pylist()))
        for name, file in self._files.items():
            file.append(rows[name])

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


class _File:
    """The rows of one table in an Arrow file, each with the position of its conversation."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._positioned: bool | None = None
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def append(self, rows: Rows) -> None:
        batch = rows.batch
        self._positioned = rows.positions is not None
        if rows.positions is not None:
            batch = pa.RecordBatch.from_arrays(
                [*batch.columns, rows.positions], schema=self._schema.append(_POSITION)
            )
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = pa.ipc.new_stream(str(self._path), batch.schema, options=options)
        if not len(batch):
            return
        self._pending.append(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes
        if self._rows >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()

    def read(self) -> Iterator[tuple[pa.RecordBatch, np.ndarray | None]]:
        if self._writer is None:
            return
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_stream(source, options=_ONE_THREAD) as reader:
            for batch in reader:
                if self._positioned:
                    positions = batch.column(_POSITION.name).to_numpy()
                    yield batch.select(self._schema.names), positions
                else:
                    yield batch, None

    def _flush(self) -> None:
        if self._pending and self._writer is not None:
            self._writer.write_batch(pa.concat_batches(self._pending))
            self._pending.clear()
            self._rows = self._bytes = 0
