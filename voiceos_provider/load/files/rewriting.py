"""Existing data files: values of their columns, and copies without some of their rows."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from voiceos_provider.load.files.formats import Encoding

_CODECS = {".gz": "gzip", ".zst": "zstd"}
_FIELD = re.compile(rb'(?:^|,)("[^"]*(?:""[^"]*)*"|[^,"\r\n]*)')
"""A field of a CSV record. The reader of the standard library limits the length of a field."""

_document = msgspec.json.Decoder(dict[str, msgspec.Raw])

Values = tuple[str | None, ...]


def read_values(file: IO[bytes], suffix: str, columns: Sequence[str]) -> Iterator[Values]:
    """Yield the texts in some columns of each row; None where the file has no such column.

    :param suffix: the end of the file's name, which names its format
    """
    if suffix != ".parquet":
        yield from (values for _, values in _lines(file, suffix, columns) if values is not None)
        return
    with pq.ParquetFile(file) as parquet:
        present = [name for name in columns if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(columns=present):
            missing = [None] * len(batch)
            yield from zip(
                *(batch.column(name).to_pylist() if name in present else missing for name in columns),
                strict=True,
            )


def copy_without(
    file: IO[bytes], suffix: str, copy: Path, column: str, is_removed: Callable[[str | None], bool]
) -> int:
    """Write a copy of a data file without some rows, and return how many rows it has.

    Other rows keep their values, and in text formats their bytes. The schema and the compression stay.

    :param column: the column whose text decides which rows are left out
    """
    if suffix == ".parquet":
        return _copy_parquet(file, copy, column, is_removed)
    rows = 0
    with pa.OSFile(str(copy), "wb") as sink:
        codec = _codec(suffix)
        with pa.CompressedOutputStream(sink, codec) if codec else sink as stream:
            for line, values in _lines(file, suffix, [column]):
                if values is None or not is_removed(values[0]):
                    stream.write(line)
                    rows += values is not None
    return rows


def _copy_parquet(file: IO[bytes], copy: Path, column: str, is_removed: Callable[[str | None], bool]) -> int:
    rows = 0
    with pq.ParquetFile(file) as parquet:
        codec = parquet.metadata.row_group(0).column(0).compression.lower()
        encoding = Encoding("parquet", "none" if codec == "uncompressed" else codec)

        def kept() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in parquet.iter_batches():
                keep = [not is_removed(value) for value in batch.column(column).to_pylist()]
                remaining = batch.filter(pa.array(keep, pa.bool_()))
                rows += len(remaining)
                yield remaining

        encoding.write(copy, parquet.schema_arrow, kept())
    return rows


def _lines(file: IO[bytes], suffix: str, columns: Sequence[str]) -> Iterator[tuple[bytes, Values | None]]:
    """Yield each row as its bytes, and the texts in some columns; None for a header."""
    source: Any = pa.input_stream(pa.PythonFile(file), compression=_codec(suffix))
    lines: Iterable[bytes] = io.BufferedReader(source)
    if suffix.startswith(".csv"):
        yield from _csv_lines(lines, columns)
        return
    for line in lines:
        row = _document.decode(line)
        yield line, tuple(msgspec.json.decode(row[name]) if name in row else None for name in columns)


def _csv_lines(lines: Iterable[bytes], columns: Sequence[str]) -> Iterator[tuple[bytes, Values | None]]:
    positions: list[int | None] | None = None
    parts: list[bytes] = []
    is_quoted = False
    for line in lines:
        parts.append(line)
        is_quoted ^= bool(line.count(b'"') % 2)
        if is_quoted:
            continue
        record = b"".join(parts)
        parts.clear()
        fields = [_text(match[1]) for match in _FIELD.finditer(record)]
        if positions is None:
            positions = [fields.index(name) if name in fields else None for name in columns]
            yield record, None
        else:
            yield record, tuple(None if at is None else fields[at] for at in positions)


def _text(field: bytes) -> str | None:
    """Return the text of a CSV field; one without quotes is empty, or not a text."""
    return field[1:-1].replace(b'""', b'"').decode() if field else None


def _codec(suffix: str) -> str | None:
    return _CODECS.get(suffix[suffix.rfind(".") :])
