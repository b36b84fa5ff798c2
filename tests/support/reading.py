"""Exported files as three libraries read them, converted to rows of plain Python values."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import CONVERSATIONS

Row = dict[str, Any]
_LONGEST = 64 * 2**20


@cache
def kinds_of(table: Table) -> dict[str, str]:
    """Return the kind of each column."""
    return {field.name: field.metadata[b"kind"].decode() for field in table.schema}


def json_columns(table: Table) -> list[str]:
    """Return the columns that hold JSON."""
    return [name for name, kind in kinds_of(table).items() if kind == "json"]


@dataclass(frozen=True)
class Reader:
    """A library that reads exports."""

    name: str
    read: Callable[[Path, Encoding, Table], list[Row]]

    def rows(self, path: Path | str, encoding: Encoding, table: Table = CONVERSATIONS) -> list[Row]:
        """Return the rows by their keys."""
        rows = [canonical(row, table) for row in self.read(Path(path), encoding, table)]
        return sorted(rows, key=lambda row: [row[name] for name in table.key])

    def expected_rows(
        self, rows: Iterable[Row], encoding: Encoding, table: Table = CONVERSATIONS
    ) -> list[Row]:
        """Return the rows by their keys, without differences that this library loses."""
        loses_empty_texts = self.name == "pandas" and encoding.file_format == "csv"
        seen = [canonical(row, table) for row in rows]
        if loses_empty_texts:
            seen = [{name: None if value == "" else value for name, value in row.items()} for row in seen]
        return sorted(seen, key=lambda row: [row[name] for name in table.key])


def canonical(row: Row, table: Table = CONVERSATIONS) -> Row:
    """Return the row with exact decimals, instants in UTC and decoded JSON."""
    assert list(row) == table.schema.names
    kinds = kinds_of(table)
    return {name: None if _missing(row[name]) else _READS[kind](row[name]) for name, kind in kinds.items()}


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _decimal(value: Any) -> Decimal:
    return Decimal(repr(value) if isinstance(value, float) else value)


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return datetime.fromisoformat(value.isoformat()).astimezone(UTC)


def _json(value: Any) -> Any:
    return json.loads(value if isinstance(value, str) else json.dumps(value), parse_float=Decimal)


def _flag(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


_READS: dict[str, Callable[[Any], Any]] = {
    "text": lambda value: value,
    "instant": _instant,
    "money": _decimal,
    "number": float,
    "count": lambda value: int(float(value)) if isinstance(value, float) else int(value),
    "flag": _flag,
    "json": _json,
}


def plain_bytes(path: Path, encoding: Encoding) -> bytes:
    """Return the file's content, decompressed."""
    codec = None if encoding.compression == "none" else encoding.compression
    with pa.input_stream(str(path), compression=codec) as source:
        return bytes(source.read())


def _with_duckdb(path: Path, encoding: Encoding, table: Table) -> list[Row]:
    kinds = {"text": "VARCHAR", "instant": "TIMESTAMPTZ", "number": "DOUBLE", "count": "BIGINT"}
    kinds |= {"flag": "BOOLEAN", "json": "JSON", "money": "DECIMAL(38, 24)"}
    if encoding.file_format == "jsonl":
        kinds["money"] = "VARCHAR"  # DuckDB turns a JSON number into a decimal by way of a double
    columns = ", ".join(f"'{name}': '{kinds[kind]}'" for name, kind in kinds_of(table).items())
    source = {
        "parquet": f"read_parquet('{path}')",
        "jsonl": f"read_json('{path}', format='newline_delimited', columns={{{columns}}}, "
        f"maximum_object_size={_LONGEST})",
        "csv": f"read_csv('{path}', header=true, auto_detect=false, delim=',', quote='\"', escape='\"', "
        f"allow_quoted_nulls=false, columns={{{columns}}}, max_line_size={_LONGEST})",
    }[encoding.file_format]
    rows: list[Row] = _duckdb().execute(f"SELECT * FROM {source}").to_arrow_table().to_pylist()
    return rows


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    """Return one connection for all files: opening one takes longer than reading most of them."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _with_pandas(path: Path, encoding: Encoding, _: Table) -> list[Row]:
    if encoding.file_format == "parquet":
        frame = pd.read_parquet(path, dtype_backend="pyarrow")
        rows: list[Row] = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
        return rows
    content = io.BytesIO(plain_bytes(path, encoding))
    if encoding.file_format == "jsonl":
        frame = pd.read_json(content, lines=True, dtype=False, precise_float=True)
        return list(frame.to_dict("records"))
    frame = pd.read_csv(content, dtype=str, keep_default_na=False)
    # The one thing that it does not tell apart: a text that is empty and one that is not there.
    return [{name: value or None for name, value in row.items()} for row in frame.to_dict("records")]


def _with_pyarrow(path: Path, encoding: Encoding, table: Table) -> list[Row]:
    if encoding.file_format == "parquet":
        rows: list[Row] = pq.read_table(path).to_pylist()
        return rows
    content = plain_bytes(path, encoding)
    if encoding.file_format == "csv":
        read = pyarrow.csv.read_csv(
            io.BytesIO(content),
            read_options=pyarrow.csv.ReadOptions(block_size=len(content) + 1),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=table.schema, strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
        rows = read.to_pylist()
        return rows
    flat = pa.schema([field for field in table.schema if field.name not in json_columns(table)])
    read = pyarrow.json.read_json(
        io.BytesIO(content),
        read_options=pyarrow.json.ReadOptions(block_size=len(content) + 1),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=flat, unexpected_field_behavior="ignore"),
    )
    nested = [json.loads(line) for line in content.splitlines()]
    return [
        {name: row.get(name, line[name]) for name in table.schema.names}
        for row, line in zip(read.to_pylist(), nested, strict=True)
    ]


LIBRARIES = [Reader("duckdb", _with_duckdb), Reader("pandas", _with_pandas), Reader("pyarrow", _with_pyarrow)]
