"""Rows on their way into a staging table: values that an engine cannot store, and a check of what arrived."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from voiceos_provider.exceptions import VoiceOSExportError
from voiceos_provider.load.sql.capabilities import JsonLimits
from voiceos_provider.load.sql.plan import OWNER, Rowset
from voiceos_provider.load.workdir import disk_errors, local_file
from voiceos_provider.transform import Column

if TYPE_CHECKING:
    from voiceos_provider.load.sql.dialect import Dialect

_TOKEN = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*(?:"(\s*:)?)?|[\[{]|[\]}]|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?', re.DOTALL
)
_LARGE_NUMBER = r"[eE][+-]?\d{3}|\d{300}"
_COMPARED = ("text", "instant", "count")


@dataclass(slots=True)
class _Measure:
    """Properties of one column by which loaded rows are compared with the rows that were sent."""

    values: int = 0
    characters: int = 0
    bounds: tuple[Any, Any] | None = None

    def add(self, column: pa.Array, kind: str) -> None:
        self.values += len(column) - column.null_count
        if kind == "text":
            self.characters += pc.sum(pc.utf8_length(column)).as_py() or 0
        elif column.null_count < len(column):
            found = pc.min_max(column).as_py()
            low, high = self.bounds or (found["min"], found["max"])
            self.bounds = min(low, found["min"]), max(high, found["max"])


@dataclass(slots=True)
class StorableRows:
    """The rows of a rowset, adapted to what the engine can store, and measured on the way.

    :param json_as_text: JSON documents beyond the engine's limits, stored as a JSON string with the document's text
    :param oversized: texts that are longer than the engine's longest text, stored as null
    """

    rowset: Rowset
    dialect: Dialect
    json_as_text: int = 0
    oversized: int = 0
    _measures: dict[str, _Measure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start with the measures of no rows."""
        self._reset()

    def _reset(self) -> None:
        self._measures = {column.name: _Measure() for column in self.rowset.columns}
        self.json_as_text = self.oversized = 0

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the adapted rows.

        :raises VoiceOSExportError: if a conversation id is too long for a key of the engine
        """
        self._reset()
        for batch in self.rowset.read():
            columns = [
                self._adapt(column, batch.column(position))
                for position, column in enumerate(self.rowset.columns)
            ]
            for column, values in zip(self.rowset.columns, columns, strict=True):
                if column.kind.name in _COMPARED:
                    self._measures[column.name].add(values, column.kind.name)
                else:
                    self._measures[column.name].values += len(values) - values.null_count
            yield pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _adapt(self, column: Column, values: pa.Array) -> pa.Array:
        capabilities = self.dialect.capabilities
        if column.name in (OWNER, "id") and (longest := capabilities.max_id_length) and len(values):
            length = pc.max(pc.utf8_length(values)).as_py() or 0
            if length > longest:
                raise VoiceOSExportError(
                    f"A conversation id has {length:,} characters, and keys of {capabilities.title} hold at most "
                    f"{longest:,}. Nothing was loaded. Export this interval to files."
                )
        if column.kind.name == "json":
            values, found = as_storable_json(values, capabilities.json_limits)
            self.json_as_text += found
        most = capabilities.max_text_bytes
        if most and column.nullable and column.kind.name in ("text", "json"):
            too_long = pc.fill_null(pc.greater(pc.binary_length(values), most), False)
            if found := pc.sum(too_long).as_py() or 0:
                self.oversized += found
                values = pc.if_else(too_long, pa.scalar(None, values.type), values)
        return values

    def require_loaded(self, name: str) -> None:
        """Compare a table with the rows that were sent: their number, and properties of each column.

        :raises InterferenceError: if they differ
        """
        dialect = self.dialect
        checks: list[tuple[str, str, int]] = [("rows", "count(*)", self.rowset.rows)]
        for column in self.rowset.columns:
            quoted, measure, kind = dialect.quote(column.name), self._measures[column.name], column.kind.name
            checks.append((column.name, f"count({quoted})", measure.values))
            if kind == "text":
                length = f"sum({dialect.capabilities.text_length}({quoted}))"
                checks.append((column.name, length, measure.characters))
            elif measure.bounds and not dialect.capabilities.types[kind].staged:
                spell = dialect.instant if kind == "instant" else str
                low, high = map(spell, measure.bounds)
                equal = f"CASE WHEN min({quoted}) = {low} AND max({quoted}) = {high} THEN 1 ELSE 0 END"
                checks.append((column.name, equal, 1))
        found = dialect.numbers(f"SELECT {', '.join(query for _, query, _ in checks)} FROM {name}")
        wrong = [
            what for (what, _, expected), number in zip(checks, found, strict=True) if number != expected
        ]
        if wrong:
            altered = ", ".join(dict.fromkeys(what for what in wrong if what != "rows"))
            raise dialect.interference(
                f"{name} does not hold the rows that were sent: {found[0]:,} rows instead of {self.rowset.rows:,}"
                + (f", other values in {altered}" if altered else "")
            )


def at_least(rows: pa.RecordBatchReader, number: int) -> Iterator[pa.Table]:
    """Yield the rows as tables; all but the last one have at least this number of rows."""
    chunk: list[pa.RecordBatch] = []
    for batch in rows:
        chunk.append(batch)
        if sum(map(len, chunk)) >= number:
            yield pa.Table.from_batches(chunk, rows.schema)
            chunk = []
    if any(map(len, chunk)):
        yield pa.Table.from_batches(chunk, rows.schema)


@contextmanager
def parquet_file(rows: pa.RecordBatchReader) -> Iterator[Path]:
    """Yield a local Parquet file with the rows; it is removed afterwards."""
    with local_file(".parquet") as path:
        with disk_errors(path.parent), pq.ParquetWriter(path, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)
        yield path


def as_storable_json(values: pa.Array, limits: JsonLimits) -> tuple[pa.Array, int]:
    """Replace JSON documents beyond the limits by a JSON string with their text; also return how many there were."""
    suspects = [False] * len(values)
    tests = []
    if limits.depth is not None:
        brackets = pc.add(pc.count_substring(values, "["), pc.count_substring(values, "{"))
        tests.append(pc.greater(brackets, limits.depth))
    if limits.exponents is not None:
        tests.append(pc.match_substring_regex(values, _LARGE_NUMBER))
    if limits.key_bytes is not None:
        tests.append(pc.greater(pc.binary_length(values), limits.key_bytes))
    for test in tests:
        suspects = [a or bool(b) for a, b in zip(suspects, test.to_pylist(), strict=True)]
    if not any(suspects):
        return values, 0
    texts, replaced = values.to_pylist(), 0
    for position, suspect in enumerate(suspects):
        if suspect and not is_within(texts[position], limits):
            texts[position] = json.dumps(texts[position], ensure_ascii=False)
            replaced += 1
    return pa.array(texts, values.type), replaced


def is_within(document: str, limits: JsonLimits) -> bool:
    """Return whether an engine with these limits can store a JSON document."""
    depth = deepest = 0
    for token in _TOKEN.finditer(document):
        text = token[0]
        match text[0]:
            case "[" | "{":
                depth += 1
                deepest = max(deepest, depth)
            case "]" | "}":
                depth -= 1
            case '"':
                if (
                    token[1]
                    and limits.key_bytes is not None
                    and len(text.encode()) - len(token[1]) - 2 > limits.key_bytes
                ):
                    return False
            case _:
                if limits.exponents is not None and not _is_in_range(text, limits.exponents):
                    return False
    return limits.depth is None or deepest <= limits.depth


def _is_in_range(digits: str, exponents: tuple[int, int]) -> bool:
    smallest, largest = exponents
    try:
        number = Decimal(digits)
    except ArithmeticError:  # an exponent beyond any Decimal
        return False
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= smallest and number.adjusted() <= largest
