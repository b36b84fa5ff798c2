"""Encoders: Arrow batches as Parquet, JSON lines or CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from voiceos_provider.interval import isoformat
from voiceos_provider.transform.schema import is_json

_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 8 * 2**20
_EXACT = Context(prec=76)


def write(
    path: Path,
    file_format: str,
    compression: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
) -> None:
    """Write a file in one of the formats."""
    _WRITERS[file_format](path, compression, schema, batches)


def count(path: Path, file_format: str, compression: str) -> int:
    """Return the rows in a file of one of the formats."""
    if file_format == "parquet":
        with pq.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    with pa.input_stream(str(path), compression=_codec(compression)) as source:
        chunks = iter(lambda: source.read(2**20), b"")
        if file_format == "jsonl":
            return sum(chunk.count(b"\n") for chunk in chunks)
        return _line_ends_outside_quotes(chunks) - 1  # the header


def _line_ends_outside_quotes(chunks: Iterable[bytes]) -> int:
    # Not Arrow's reader: every row must fit into a block whose size has to be known before.
    found, quoted = 0, False
    for chunk in chunks:
        pieces = chunk.split(b'"')
        found += sum(piece.count(b"\n") for piece in pieces[quoted::2])
        quoted ^= len(pieces) % 2 == 0
    return found


def _write_parquet(
    path: Path, compression: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> None:
    with pq.ParquetWriter(path, schema, compression=compression) as writer:
        for table in _row_groups(schema, batches):
            writer.write_table(table, row_group_size=len(table))


def _row_groups(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    group: list[pa.RecordBatch] = []
    for batch in filter(len, batches):  # a row group without rows is refused
        group.append(batch)
        if sum(map(len, group)) >= _ROW_GROUP_ROWS or sum(b.nbytes for b in group) >= _ROW_GROUP_BYTES:
            yield pa.Table.from_batches(group, schema)
            group = []
    if group:
        yield pa.Table.from_batches(group, schema)


def _write_jsonl(path: Path, compression: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    encoder = msgspec.json.Encoder()
    shapes = [(field.name, _shape(field)) for field in schema]
    with pa.output_stream(str(path), compression=_codec(compression)) as sink:
        for batch in batches:
            for start in range(0, len(batch), 1_024):
                rows = batch.slice(start, 1_024).to_pylist()
                shaped = [
                    {name: None if row[name] is None else shape(row[name]) for name, shape in shapes}
                    for row in rows
                ]
                sink.write(encoder.encode_lines(shaped))


def _shape(field: pa.Field) -> Callable[[Any], Any]:
    """Return how to write a value of this column in JSON; numbers keep their digits."""
    if is_json(field):
        return lambda text: msgspec.Raw(text.encode())
    if pa.types.is_timestamp(field.type):
        return isoformat
    if pa.types.is_decimal(field.type):
        return lambda number: msgspec.Raw(plain(number).encode())
    return lambda value: value


def plain(number: Decimal) -> str:
    """Return a decimal without exponent and trailing zeros."""
    return f"{number.normalize(_EXACT):f}"


def _write_csv(path: Path, compression: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    # Quoting every text keeps null (nothing) apart from the empty text ("").
    with (
        pa.output_stream(str(path), compression=_codec(compression)) as sink,
        pyarrow.csv.CSVWriter(sink, _csv_schema(schema)) as writer,
    ):
        for batch in batches:
            writer.write_batch(_for_csv(batch))


def _csv_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema(pa.field(f.name, pa.string() if pa.types.is_decimal(f.type) else f.type) for f in schema)


def _for_csv(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        _spelled_out(column) if pa.types.is_decimal(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_csv_schema(batch.schema))


def _spelled_out(column: pa.Array) -> pa.Array:
    # Arrow's own cast writes small numbers with an exponent.
    return pa.array((None if number is None else plain(number) for number in column.to_pylist()), pa.string())


def _codec(compression: str) -> str | None:
    return None if compression == "none" else compression


_WRITERS: dict[str, Callable[[Path, str, pa.Schema, Iterable[pa.RecordBatch]], None]] = {
    "parquet": _write_parquet,
    "jsonl": _write_jsonl,
    "csv": _write_csv,
}


def as_json(value: object) -> object:
    """Return a value of any column as plain JSON: decimals and instants as text."""
    if isinstance(value, datetime):
        return isoformat(value)
    return plain(value) if isinstance(value, Decimal) else value
