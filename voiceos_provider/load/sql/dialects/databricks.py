"""Databricks: rows are loaded from a volume, if the connection names one, else as JSON in a parameter.

A statement on a Delta table is atomic, and there is no transaction around several. So each table is written by one
MERGE, deletions included, child tables before conversations: a reader who finds a conversation finds its child rows,
and a retry completes an interrupted load.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.load.sql.capabilities import BACKSLASH_ONLY_ESCAPES, Capabilities, ColumnType
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Failure, failure_of
from voiceos_provider.load.sql.plan import Merge, Namespace
from voiceos_provider.load.sql.session import AutocommitSession
from voiceos_provider.load.sql.staging import parquet_file
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS

_BYTES_AT_ONCE = 2_000_000
_CLUSTERED = {CONVERSATIONS.name: ("started_at", "agent_id")}
_UNREACHABLE = {"OperationalError", "InterfaceError", "RequestError"}
_NAMES_ONLY = ("08", "28", "42501", "42703", "42704", "42P01", "42P08", "53", "57")
"""SQLSTATEs about the connection, rights and missing objects. Other messages may contain values."""

_VOLUME_FILE = re.compile(r"voiceos-(\d{20})-[0-9a-f]{32}\.parquet")
"""Name of a file in a volume, with the start of its load."""

_MISSING = "TABLE_OR_VIEW_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class WithVolume:
    """An open connection with a volume for temporary files.

    :param volume: a folder of a Unity Catalog volume, such as `/Volumes/main/default/voiceos`
    """

    connection: Any
    volume: str

    def cursor(self) -> Any:
        """Return a cursor of the connection."""
        return self.connection.cursor()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class Databricks(AutocommitSession, Dialect):
    """Databricks SQL, with Delta tables. JSON is text, which its `column:path` reads.

    Staging tables are ordinary tables; there are no temporary ones.
    """

    capabilities = Capabilities(
        name="databricks",
        title="Databricks",
        experimental=True,
        types={
            "text": ColumnType("STRING", "string|varchar|char"),
            "instant": ColumnType("TIMESTAMP", "timestamp|string"),
            "money": ColumnType("DECIMAL(38, 24)", "decimal|double|string"),
            "number": ColumnType("DOUBLE", "decimal|double|string"),
            "count": ColumnType("BIGINT", "bigint|decimal|double|string"),
            "flag": ColumnType("BOOLEAN", "boolean|string"),
            "json": ColumnType("STRING", "string"),
        },
        casts=True,
        identifier_quote="`",
        max_identifier_bytes=255,
        literal_escapes=BACKSLASH_ONLY_ESCAPES,
        instant_literal="TIMESTAMP '%Y-%m-%dT%H:%M:%S.%fZ'",
        comments="inline",
        is_distinct="NOT ({ours} <=> {theirs})",
    )

    _swept = False

    def create_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return the statement that creates the table, without a key: only Unity Catalog accepts one."""
        (statement,) = super().create_table(table, keyed=False)
        together = ", ".join(map(self.quote, _CLUSTERED.get(table.name, table.key[:1])))
        return [f"{statement} USING DELTA CLUSTER BY ({together}) COMMENT {self.text(table.description)}"]

    def existing_columns(self, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their types; rows about clustering follow them."""
        try:
            found = self.rows(f"DESCRIBE TABLE {self.target(table)}")
        except Exception as error:
            if _MISSING not in str(error):
                raise
            return None
        columns = takewhile(lambda row: row[0] and not str(row[0]).startswith("#"), found)
        return {str(name): str(kind) for name, kind, *_ in columns}

    def configure(self) -> None:
        """Set UTC, in which instants become naive timestamps and texts."""
        self.run("SET TIME ZONE 'UTC'")

    def create_staging_table(self, table: Table, columns: Sequence[Column]) -> None:
        """Create an empty Delta table, in place of one left by an attempt that lost its connection."""
        lines = self.staging_definitions(table, columns)
        self.run(f"CREATE OR REPLACE TABLE {self.staging_table(table)} ({lines}) USING DELTA")

    def list_tables(self) -> list[str]:
        """Return the names of all tables; not every catalog has an information schema."""
        within = f" IN {self.quote(self.namespace.schema)}" if self.namespace.schema else ""
        return [str(name) for _, name, *_ in self.rows(f"SHOW TABLES{within}")]

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Copy Parquet from a volume, or read JSON from a parameter."""
        target = self.target(table, namespace)
        if isinstance(self.connection, WithVolume):
            self._copy(self.connection.volume.rstrip("/"), target, rows)
            return
        names = [f"c{number}" for number in range(len(rows.schema))]
        kinds = [
            self.capabilities.types[(field.metadata or {})[b"kind"].decode()].name for field in rows.schema
        ]
        shape = ", ".join(f"{name}: STRING" for name in names)
        values = ", ".join(f"CAST(r.{name} AS {kind})" for name, kind in zip(names, kinds, strict=True))
        statement = (
            f"INSERT INTO {target} ({', '.join(map(self.quote, rows.schema.names))}) "
            f"SELECT {values} FROM (SELECT explode(from_json(:rows, 'ARRAY<STRUCT<{shape}>>')) AS r)"
        )
        cursor = self.connection.cursor()
        try:
            for documents in _documents(names, rows):
                cursor.execute(statement, {"rows": documents})
        finally:
            cursor.close()

    def _copy(self, volume: str, target: str, rows: pa.RecordBatchReader) -> None:
        if not self._swept:
            self._swept = True
            self._sweep(volume)
        there = self.text(f"{volume}/voiceos-{self.stamp}-{uuid.uuid4().hex}.parquet")
        with parquet_file(rows) as file:
            self.run(f"PUT {self.text(str(file))} INTO {there} OVERWRITE")
        try:
            self.run(f"COPY INTO {target} FROM {there} FILEFORMAT = PARQUET")
        finally:
            self.run(f"REMOVE {there}")

    def _sweep(self, volume: str) -> None:
        """Remove files of killed loads that started a day before this one."""
        with suppress(Exception):  # not every login may list files, and the load does not need to
            for row in self.rows(f"LIST {self.text(volume)}"):
                for name in {str(value).rpartition("/")[2] for value in row}:
                    left = _VOLUME_FILE.fullmatch(name)
                    if left and self.is_old(left[1]):
                        self.run(f"REMOVE {self.text(f'{volume}/{name}')}")

    def classify(self, error: Exception) -> Failure:
        """Describe an error by its class and SQLSTATE, which are in the message."""
        failure = failure_of(error)
        message = str(getattr(error, "message", None) or error)
        states = re.findall(r"SQLSTATE: ([0-9A-Z]{5})", message)
        kind = re.match(r"\s*\[([A-Z0-9_.]+)\]", message)
        code = kind[1] if kind else None
        sqlstate = states[-1] if states else None  # a value before it may look like one
        lost = not (sqlstate or code) and bool({each.__name__ for each in type(error).__mro__} & _UNREACHABLE)
        conflict = "DELTA_CONCURRENT" in message or "DELTA_METADATA_CHANGED" in message
        return Failure(
            kind=failure.kind,
            sqlstate="40001" if conflict else sqlstate,
            code=code or (None if lost or sqlstate else failure.kind),
            message=message,
            names_only=not conflict and (sqlstate or "").startswith(_NAMES_ONLY),
            lost=lost,
        )

    def write(self, merge: Merge, *, new: int, updated: int, stale: int) -> list[str]:
        """Return one statement, because there is no transaction; rows to delete are among its rows, and marked."""
        if not (new or updated or stale):
            return []
        mark = self.quote("_gone")
        rows = f"SELECT s.*, false AS {mark} FROM {merge.staging} s"
        if stale:
            keys = ", ".join(
                f"{merge.name}.{self.quote(c.name)}"
                if c.name in merge.table.key
                else f"CAST(NULL AS {self.type_of(c)})"
                for c in merge.columns
            )
            rows = f"SELECT {self.column_list(merge)}, false AS {mark} FROM {merge.staging}"
            rows += f" UNION ALL SELECT {keys}, true FROM {merge.target} WHERE {merge.stale}"
        changed = "" if merge.touch_unchanged else f" AND {self.changed(merge)}"
        # Another load may have written a newer version meanwhile; it is kept, and detected afterwards.
        at = self.quote("_exported_at")
        older = f" AND t.{at} <= s.{at}" if merge.touch_unchanged else ""
        return [
            f"MERGE INTO {merge.target} t USING ({rows}) s ON {self.same_key(merge)} "
            f"WHEN MATCHED AND s.{mark} THEN DELETE "
            f"WHEN MATCHED{changed}{older} THEN UPDATE SET {self.assignments(merge)} "
            f"WHEN NOT MATCHED THEN INSERT ({self.column_list(merge)}) VALUES ({self.staged_list(merge)})"
        ]

    def delete_matching(self, staging: str, key: str, target: str, on: str) -> str:
        """Return the statement that deletes staged rows which match rows of a table."""
        name = self.quote(key)
        return self._remove(
            staging, name, f"SELECT DISTINCT s.{name} FROM {staging} s JOIN {target} t ON {on}"
        )

    def delete_orphans(self, staging: str, owner: str, owners: str, key: str) -> str:
        """Return the statement that deletes staged rows whose owner is not staged."""
        name, theirs = self.quote(owner), self.quote(key)
        return self._remove(
            staging,
            name,
            f"SELECT DISTINCT s.{name} FROM {staging} s LEFT ANTI JOIN {owners} o ON s.{name} = o.{theirs}",
        )

    def _remove(self, staging: str, name: str, which: str) -> str:
        return f"MERGE INTO {staging} t USING ({which}) s ON t.{name} = s.{name} WHEN MATCHED THEN DELETE"


def _documents(names: Sequence[str], batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Yield rows as arrays of JSON objects of texts, none much longer than a statement may be."""
    chunk: list[str] = []
    size = 0
    for batch in batches:
        columns = [_texts(column) for column in batch.columns]
        for row in zip(*columns, strict=True):
            document = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
            chunk.append(document)
            size += len(document)
            if size > _BYTES_AT_ONCE:
                yield f"[{','.join(chunk)}]"
                chunk, size = [], 0
    if chunk:
        yield f"[{','.join(chunk)}]"


def _texts(column: pa.Array) -> list[str | None]:
    if pa.types.is_decimal(column.type):
        return [None if amount is None else f"{amount:f}" for amount in column.to_pylist()]
    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")  # with its fraction
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts
