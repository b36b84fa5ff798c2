"""Search of all that a target holds on disk: names, raw bytes, and decompressed contents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_CODECS = {".gz": "gzip", ".zst": "zstd"}


def find_below(root: Path, *texts: str) -> list[str]:
    """Return the files below a folder that contain one of these texts, each with the text."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = str(path.relative_to(root)).encode() + b"".join(_layers(path))
            found += [f"{path.relative_to(root)}: {text}" for text in texts if text.encode() in content]
    return found


def _layers(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, and its decoded content if it is compressed."""
    yield path.read_bytes()
    if path.suffix in _CODECS:
        with pa.input_stream(str(path), compression=_CODECS[path.suffix]) as stream:
            yield stream.read()
    elif path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix == ".avro":
        yield _avro(path)


def _parquet(path: Path) -> Iterator[bytes]:
    yield repr(pq.read_table(path).to_pylist()).encode()
    metadata: Any = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            yield repr(metadata.row_group(group).column(column).statistics).encode()


def _avro(path: Path) -> bytes:
    from pyiceberg.avro.file import AvroFile
    from pyiceberg.io.pyarrow import PyArrowFileIO

    with AvroFile[Any](PyArrowFileIO().new_input(str(path))) as records:
        return repr([_plain(record) for record in records]).encode()


def _plain(value: Any) -> Any:
    """Return a record of Avro as tuples, so that nothing of it is left out of its text."""
    if hasattr(value, "_data"):
        return tuple(map(_plain, value._data))
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value
