"""Where do rows wait until all of them are there? On local disk, where no reader looks."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

_BATCH_ROWS = 8_192
_BATCH_BYTES = 2 * 2**20


class Spool:
    """Rows of one table in an Arrow file, and which of them a later copy has replaced.

    Memory holds one batch, and eight bytes for each row.

    :param path: the file, which must not exist
    :param schema: the table's schema; its column `id` is the key
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._hashes = array("q")
        self._superseded = np.empty(0, dtype=np.int64)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(str(path), schema, options=options)

    def __len__(self) -> int:
        return len(self._hashes)

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows; of those with the same id, the last one counts."""
        if not len(batch):
            return
        self._hashes.extend(hash(id_) for id_ in batch.column("id").to_pylist())
        self._pending.append(batch)
        rows = sum(len(pending) for pending in self._pending)
        if rows >= _BATCH_ROWS or sum(pending.nbytes for pending in self._pending) >= _BATCH_BYTES:
            self._flush()

    def seal(self) -> int:
        """Take no more rows, and say how many were replaced by later copies."""
        self._flush()
        self._writer.close()
        self._superseded = self._find_superseded()
        return len(self._superseded)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows that count, in the order of their arrival."""
        position = 0
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                end = position + len(batch)
                first, last = np.searchsorted(self._superseded, [position, end])
                if first == last:
                    yield batch
                else:
                    keep = np.ones(len(batch), dtype=bool)
                    keep[self._superseded[first:last] - position] = False
                    yield batch.filter(pa.array(keep))
                position = end

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_batch(pa.concat_batches(self._pending))
            self._pending.clear()

    def _find_superseded(self) -> np.ndarray:
        """Positions of rows whose id comes again later, ascending."""
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        twins = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if not len(twins):
            return np.empty(0, dtype=np.int64)
        # Two ids may share a hash, so the suspects' ids themselves decide.
        suspects = np.unique(np.concatenate([order[twins], order[twins + 1]]))
        ids = self._ids_at(suspects)
        last = dict(zip(ids, suspects, strict=True))
        return np.array(
            [at for id_, at in zip(ids, suspects, strict=True) if last[id_] != at], dtype=np.int64
        )

    def _ids_at(self, positions: np.ndarray) -> list[str]:
        ids: list[str] = []
        start = 0
        only_id = pa.ipc.IpcReadOptions(included_fields=[self._schema.get_field_index("id")])
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_stream(source, options=only_id) as reader:
            for batch in reader:
                first, last = np.searchsorted(positions, [start, start + len(batch)])
                ids += batch.column(0).take(pa.array(positions[first:last] - start)).to_pylist()
                start += len(batch)
        return ids
