"""How do rows become a file?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import isoformat
from voiceos_provider.transform.schema import is_json

FileFormat = Literal["parquet", "jsonl", "csv"]
Compression = Literal["zstd", "gzip", "snappy", "none"]

_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 8 * 2**20
_SUFFIX = {"gzip": ".gz", "zstd": ".zst", "none": ""}
_CHOICES: dict[str, tuple[str, ...]] = {
    "parquet": ("zstd", "gzip", "snappy", "none"),
    "jsonl": ("none", "gzip", "zstd"),
    "csv": ("none", "gzip", "zstd"),
}
_EXACT = Context(prec=76)


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file format with its compression."""

    file_format: str
    compression: str

    @classmethod
    def choose(cls, file_format: str, compression: str | None) -> Encoding:
        """:raises VoiceOSValueError: if the two are unknown or do not go together"""
        if file_format not in _CHOICES:
            raise VoiceOSValueError(
                f"file_format {file_format!r} is not one of {', '.join(get_args(FileFormat))}."
            )
        choices = _CHOICES[file_format]
        chosen = choices[0] if compression is None else compression
        if chosen not in choices:
            raise VoiceOSValueError(
                f"compression {compression!r} is not one of {', '.join(choices)}, those of {file_format}."
            )
        return cls(file_format, chosen)

    @property
    def suffix(self) -> str:
        """How the file's name ends: `.parquet`, `.jsonl.gz`."""
        return (
            ".parquet" if self.file_format == "parquet" else f".{self.file_format}{_SUFFIX[self.compression]}"
        )

    @classmethod
    def suffixes(cls) -> list[str]:
        """How the name of any file may end that any of them writes."""
        pairs = (cls(name, compression) for name, choices in _CHOICES.items() for compression in choices)
        return list(dict.fromkeys(pair.suffix for pair in pairs))

    def write(self, path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write the whole file. Without rows it still has the full schema, where the format has one."""
        _WRITERS[self.file_format](path, self.compression, schema, batches)

    def count(self, path: Path) -> int:
        """The rows that a reader would find in the file, counted from the file itself."""
        if self.file_format == "parquet":
            with pq.ParquetFile(path) as file:
                return int(file.metadata.num_rows)
        with pa.input_stream(str(path), compression=self._codec) as source:
            chunks = iter(lambda: source.read(2**20), b"")
            if self.file_format == "jsonl":
                return sum(chunk.count(b"\n") for chunk in chunks)
            return _line_ends_outside_quotes(chunks) - 1  # the header

    @property
    def _codec(self) -> str | None:
        return None if self.compression == "none" else self.compression


def _line_ends_outside_quotes(chunks: Iterable[bytes]) -> int:
    # Not Arrow's reader: it wants every row to fit into a block whose size must be known before.
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
    """How one value of this column is written in JSON; numbers keep their digits."""
    if is_json(field):
        return lambda text: msgspec.Raw(text.encode())
    if pa.types.is_timestamp(field.type):
        return isoformat
    if pa.types.is_decimal(field.type):
        return lambda number: msgspec.Raw(plain(number).encode())
    return lambda value: value


def plain(number: Decimal) -> str:
    """A decimal without exponent and without idle zeros."""
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
    """A value of any column as plain JSON: decimals and instants as text."""
    if isinstance(value, datetime):
        return isoformat(value)
    return plain(value) if isinstance(value, Decimal) else value
