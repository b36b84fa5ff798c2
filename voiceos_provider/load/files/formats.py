"""File formats: Arrow batches as Parquet, JSON lines or CSV, and their compressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import isoformat
from voiceos_provider.transform.schema import is_json

T = TypeVar("T")

FileFormat = Literal["parquet", "jsonl", "csv"]
Compression = Literal["zstd", "gzip", "snappy", "none"]

_SUFFIX = {"gzip": ".gz", "zstd": ".zst", "none": ""}
_CHOICES: dict[str, tuple[str, ...]] = {
    "parquet": ("zstd", "gzip", "snappy", "none"),
    "jsonl": ("none", "gzip", "zstd"),
    "csv": ("none", "gzip", "zstd"),
}
_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 4 * 2**20
_JSON_LINES_AT_ONCE = 1_024
_EXACT = Context(prec=76)


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file format with its compression."""

    file_format: str
    compression: str

    @classmethod
    def choose(cls, file_format: str, compression: str | None) -> Encoding:
        """Return the encoding that a user has chosen.

        :raises VoiceOSValueError: if the two are unknown or do not go together
        """
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
        """The end of the file's name: `.parquet`, `.jsonl.gz`."""
        return (
            ".parquet" if self.file_format == "parquet" else f".{self.file_format}{_SUFFIX[self.compression]}"
        )

    @classmethod
    def suffixes(cls) -> list[str]:
        """Return the suffixes of all encodings."""
        pairs = (cls(name, compression) for name, choices in _CHOICES.items() for compression in choices)
        return list(dict.fromkeys(pair.suffix for pair in pairs))

    def write(
        self,
        path: Path,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        *,
        target_bytes: int | None = None,
    ) -> None:
        """Write the whole file. Without rows it still has the full schema, where the format has one.

        :param batches: the rows; if the file reaches its size first, an iterator still holds the remaining ones
        :param target_bytes: the size at which the file ends, after the batch or row group that reaches it
        """
        with pa.OSFile(str(path), "wb") as file:
            if self.file_format == "parquet":
                with pq.ParquetWriter(file, schema, compression=self.compression) as writer:
                    largest = min(_ROW_GROUP_BYTES, target_bytes or _ROW_GROUP_BYTES)
                    for table in _until(target_bytes, file, _row_groups(schema, batches, largest)):
                        writer.write_table(table, row_group_size=len(table))
                return
            write = _write_jsonl if self.file_format == "jsonl" else _write_csv
            batches = _until(target_bytes, file, batches)
            if self._codec is None:
                write(file, schema, batches)
            else:
                with pa.CompressedOutputStream(file, self._codec) as sink:
                    write(sink, schema, batches)

    def count(self, path: Path) -> int:
        """Return the rows that a reader finds in the file, counted from the file itself."""
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
    # Not Arrow's reader: every row must fit into a block whose size has to be known before.
    found, quoted = 0, False
    for chunk in chunks:
        pieces = chunk.split(b'"')
        found += sum(piece.count(b"\n") for piece in pieces[quoted::2])
        quoted ^= len(pieces) % 2 == 0
    return found


def _until(target_bytes: int | None, file: pa.NativeFile, rows: Iterable[T]) -> Iterator[T]:
    """Yield rows until those before have filled the file."""
    for each in rows:
        yield each
        if target_bytes is not None and file.tell() >= target_bytes:
            return


def _row_groups(schema: pa.Schema, batches: Iterable[pa.RecordBatch], largest: int) -> Iterator[pa.Table]:
    group: list[pa.RecordBatch] = []
    for batch in filter(len, batches):  # a row group without rows is refused
        group.append(batch)
        if sum(map(len, group)) >= _ROW_GROUP_ROWS or sum(b.nbytes for b in group) >= largest:
            yield pa.Table.from_batches(group, schema)
            del batch
            group = []
            pa.default_memory_pool().release_unused()  # which would keep as much again
    if group:
        yield pa.Table.from_batches(group, schema)


def _write_jsonl(sink: pa.NativeFile, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    encoder = msgspec.json.Encoder()
    shapes = [(field.name, _shape(field)) for field in schema]
    for batch in batches:
        for start in range(0, len(batch), _JSON_LINES_AT_ONCE):
            rows = batch.slice(start, _JSON_LINES_AT_ONCE).to_pylist()
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
        return lambda number: msgspec.Raw(_plain(number).encode())
    return lambda value: value


def _write_csv(sink: pa.NativeFile, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    texts = pa.schema(
        pa.field(f.name, pa.string() if pa.types.is_decimal(f.type) else f.type) for f in schema
    )
    # Quoting every text keeps null (nothing) apart from the empty text ("").
    with pyarrow.csv.CSVWriter(sink, texts) as writer:
        for batch in batches:
            columns = [_decimals_as_text(column) for column in batch.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=texts))


def _decimals_as_text(column: pa.Array) -> pa.Array:
    if not pa.types.is_decimal(column.type):
        return column
    # Arrow's own cast writes small numbers with an exponent.
    numbers = (None if number is None else _plain(number) for number in column.to_pylist())
    return pa.array(numbers, pa.string())


def _plain(number: Decimal) -> str:
    """Return a decimal without exponent and trailing zeros."""
    return f"{number.normalize(_EXACT):f}"


def as_json(value: object) -> object:
    """Return a value of any column as plain JSON: decimals and instants as text."""
    if isinstance(value, datetime):
        return isoformat(value)
    return _plain(value) if isinstance(value, Decimal) else value
