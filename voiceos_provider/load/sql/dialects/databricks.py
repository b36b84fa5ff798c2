"""How does Databricks take rows? From a volume, if the connection names one, else as JSON in a parameter.

A statement on a Delta table happens wholly or not at all, and there is no transaction around several. So each table is
written by one MERGE, deletions included, and what belongs to conversations before them: whoever sees a conversation
finds what belongs to it, and a retry completes what was cut short.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal, refusal_of
from voiceos_provider.load.sql.namespace import Merge, Namespace
from voiceos_provider.load.sql.quoting import ABANDONED_AFTER, ONLY_BACKSLASH_ESCAPES
from voiceos_provider.load.sql.session import Session
from voiceos_provider.load.workdir import disk_errors, local_file
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS

_BYTES_AT_ONCE = 2_000_000
_CLUSTERED = {CONVERSATIONS.name: ("started_at", "agent_id")}
_UNREACHABLE = {"OperationalError", "InterfaceError", "RequestError"}
_NAMES_THINGS = ("08", "28", "42501", "42703", "42704", "42P01", "42P08", "53", "57")
"""About the connection, rights, and what is not there. Of others the message may hold values, of a partition too."""

_LEFT = re.compile(r"voiceos-(\d{14})\d*-[0-9a-f]{32}\.parquet")
"""A file in a volume, with the second in which its load began."""

_MISSING = "TABLE_OR_VIEW_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class WithVolume:
    """An open connection, and where it may leave files for a moment.

    :param volume: a folder of a Unity Catalog volume, such as `/Volumes/main/default/voiceos`
    """

    connection: Any
    volume: str

    def cursor(self) -> Any:
        """The connection's."""
        return self.connection.cursor()

    def close(self) -> None:
        """The connection's."""
        self.connection.close()


class Databricks(Dialect):
    """Databricks SQL, with Delta tables. JSON is text, which its `column:path` reads.

    Staging tables are ordinary ones, for there are no others.
    """

    name = "databricks"
    title = "Databricks"
    quotes = ("`", "`")
    longest_name = 255
    updates_by_inserting = False
    inserts_in_order = False
    escapes = ONLY_BACKSLASH_ESCAPES
    instants = "TIMESTAMP '%Y-%m-%dT%H:%M:%S.%fZ'"
    comments = "within"
    unlike = "NOT ({ours} <=> {theirs})"
    types: ClassVar[Mapping[str, str]] = {
        "text": "STRING",
        "instant": "TIMESTAMP",
        "money": "DECIMAL(38, 24)",
        "number": "DOUBLE",
        "count": "BIGINT",
        "flag": "BOOLEAN",
        "json": "STRING",
    }
    fitting: ClassVar[Mapping[str, str]] = {
        "text": "string|varchar|char",
        "instant": "timestamp|string",
        "money": "decimal|double|string",
        "number": "decimal|double|string",
        "count": "bigint|decimal|double|string",
        "flag": "boolean|string",
        "json": "string",
    }

    def create(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Statements that make the table, if it is not there. Without a key: only Unity Catalog would take one."""
        (statement,) = super().create(place, table, keyed=False)
        together = ", ".join(map(self.quote, _CLUSTERED.get(table.name, table.key[:1])))
        return [f"{statement} USING DELTA CLUSTER BY ({together}) COMMENT {self.text(table.description)}"]

    def existing(self, session: Session, place: Namespace, table: Table) -> dict[str, str] | None:
        """The columns with their types; after them come others, of the clustering."""
        try:
            found = session.rows(f"DESCRIBE TABLE {self.at(place, table)}")
        except Exception as error:
            if _MISSING not in str(error):
                raise
            return None
        columns: dict[str, str] = {}
        for name, kind, *_ in found:
            if not name or str(name).startswith("#"):
                break
            columns[str(name)] = str(kind)
        return columns

    def open(self, connection: Any) -> Session:
        """A session in which each statement stands for itself."""
        return _DatabricksSession(connection)

    def create_stage(
        self, session: Session, place: Namespace, table: Table, columns: Sequence[Column]
    ) -> None:
        """An empty Delta table."""
        at = self.at(self.staging(place), table)
        lines = ", ".join(f"{self.quote(c.name)} {self.type_of(c)}" for c in columns)
        # There may be one, of a try whose connection was lost.
        session.run(f"CREATE OR REPLACE TABLE {at} ({lines}) USING DELTA")

    def tables(self, session: Session, place: Namespace) -> list[str]:
        """The names of the tables that stand there; not every catalog has an information schema."""
        within = f" IN {self.quote(place.schema)}" if place.schema else ""
        return [str(name) for _, name, *_ in session.rows(f"SHOW TABLES{within}")]

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Copy Parquet from a volume, or read JSON from a parameter."""
        if isinstance(session.connection, WithVolume):
            self._copy(session, session.connection.volume, self.at(place, table), schema, batches)
            return
        names = [f"c{number}" for number in range(len(schema))]
        shape = ", ".join(f"{name}: STRING" for name in names)
        kinds = {field.name: self.types[(field.metadata or {})[b"kind"].decode()] for field in schema}
        values = ", ".join(
            f"CAST(r.{name} AS {kind})" for name, kind in zip(names, kinds.values(), strict=True)
        )
        statement = (
            f"INSERT INTO {self.at(place, table)} ({', '.join(map(self.quote, schema.names))}) SELECT {values} "
            f"FROM (SELECT explode(from_json(:rows, 'ARRAY<STRUCT<{shape}>>')) AS r)"
        )
        cursor = session.connection.cursor()
        try:
            for rows in _documents(names, batches):
                cursor.execute(statement, {"rows": rows})
        finally:
            cursor.close()

    def _copy(
        self,
        session: Session,
        volume: str,
        at: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        assert isinstance(session, _DatabricksSession)
        volume = volume.rstrip("/")
        if not session.swept:
            session.swept = True
            self._sweep(session, volume)
        there = f"{volume}/voiceos-{self._stamp}-{uuid.uuid4().hex}.parquet"
        with local_file(".parquet") as file:
            with disk_errors(file.parent), pq.ParquetWriter(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            session.run(f"PUT {self.text(str(file))} INTO {self.text(there)} OVERWRITE")
        try:
            session.run(f"COPY INTO {at} FROM {self.text(there)} FILEFORMAT = PARQUET")
        finally:
            session.run(f"REMOVE {self.text(there)}")

    def _sweep(self, session: Session, volume: str) -> None:
        """Remove what killed loads have left in the volume: files of those that began a day before this one."""
        with suppress(Exception):  # not every login may list files, and the load needs none of them
            for row in session.rows(f"LIST {self.text(volume)}"):
                for name in {str(value).rpartition("/")[2] for value in row}:
                    left = _LEFT.fullmatch(name)
                    if left and _second(self._stamp) - _second(left[1]) > ABANDONED_AFTER:
                        session.run(f"REMOVE {self.text(f'{volume}/{name}')}")

    def refusal(self, error: Exception) -> Refusal:
        """Databricks writes its class of the error and the SQLSTATE into the message."""
        refusal = refusal_of(error)
        message = str(getattr(error, "message", None) or error)
        states = re.findall(r"SQLSTATE: ([0-9A-Z]{5})", message)
        kind = re.match(r"\s*\[([A-Z0-9_.]+)\]", message)
        code = kind[1] if kind else None
        sqlstate = states[-1] if states else None  # before it, a value may look like one
        lost = not (sqlstate or code) and bool({each.__name__ for each in type(error).__mro__} & _UNREACHABLE)
        conflict = "DELTA_CONCURRENT" in message or "DELTA_METADATA_CHANGED" in message
        return Refusal(
            kind=refusal.kind,
            sqlstate="40001" if conflict else sqlstate,
            code=code or (None if lost or sqlstate else refusal.kind),
            message=message,
            plain=not conflict and (sqlstate or "").startswith(_NAMES_THINGS),
            passing=conflict or lost,
            lost=lost,
        )

    def read(self, column: Column, kind: str) -> str:
        """A staged value, as what the column is."""
        name = super().read(column, kind)
        ours = self.types[column.kind.name].replace(" ", "").lower()
        return name if kind.replace(" ", "").lower() in (ours, "") else f"CAST({name} AS {kind})"

    def write(self, merge: Merge, *, new: int, old: int, gone: int) -> list[str]:
        """One statement, for there is no transaction: what is gone is among its rows, marked as such."""
        if not (new or old or gone):
            return []
        mark = self.quote("_gone")
        rows = f"SELECT s.*, false AS {mark} FROM {merge.stage} s"
        if gone:
            keys = ", ".join(
                f"{merge.bare}.{self.quote(c.name)}"
                if c.name in merge.table.key
                else f"CAST(NULL AS {self.type_of(c)})"
                for c in merge.columns
            )
            rows = f"SELECT {self.names(merge)}, false AS {mark} FROM {merge.stage}"
            rows += f" UNION ALL SELECT {keys}, true FROM {merge.target} WHERE {merge.gone}"
        changed = "" if merge.advance else f" AND {self.changed(merge)}"
        # A later reading may have come in between; it stays, and is noticed afterwards.
        at = self.quote("_exported_at")
        older = f" AND t.{at} <= s.{at}" if merge.advance else ""
        return [
            f"MERGE INTO {merge.target} t USING ({rows}) s ON {self.same_row(merge)} "
            f"WHEN MATCHED AND s.{mark} THEN DELETE "
            f"WHEN MATCHED{changed}{older} THEN UPDATE SET {self.assignments(merge)} "
            f"WHEN NOT MATCHED THEN INSERT ({self.names(merge)}) VALUES ({self.staged(merge)})"
        ]

    def take_out(self, stage: str, key: str, target: str, on: str) -> str:
        """Remove staged rows that meet rows of a table."""
        name = self.quote(key)
        return self._remove(stage, name, f"SELECT DISTINCT s.{name} FROM {stage} s JOIN {target} t ON {on}")

    def take_out_orphans(self, stage: str, owner: str, owners: str, key: str) -> str:
        """Remove staged rows whose owner is not staged."""
        name, theirs = self.quote(owner), self.quote(key)
        return self._remove(
            stage,
            name,
            f"SELECT DISTINCT s.{name} FROM {stage} s LEFT ANTI JOIN {owners} o ON s.{name} = o.{theirs}",
        )

    def _remove(self, stage: str, name: str, which: str) -> str:
        return f"MERGE INTO {stage} t USING ({which}) s ON t.{name} = s.{name} WHEN MATCHED THEN DELETE"


class _DatabricksSession(Session):
    """Each statement is committed when it ends."""

    undone = "A retry completes what was written."
    swept = False

    def commit(self) -> None:
        """Nothing to do."""

    def rollback(self) -> None:
        """Nothing can be done."""


def _second(stamp: str) -> datetime:
    return datetime.strptime(stamp[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _documents(names: Sequence[str], batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Rows as arrays of JSON objects of texts, none much longer than a statement may be."""
    some: list[str] = []
    size = 0
    for batch in batches:
        columns = [_texts(column) for column in batch.columns]
        for row in zip(*columns, strict=True):
            document = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
            some.append(document)
            size += len(document)
            if size > _BYTES_AT_ONCE:
                yield f"[{','.join(some)}]"
                some, size = [], 0
    if some:
        yield f"[{','.join(some)}]"


def _texts(column: pa.Array) -> list[str | None]:
    if pa.types.is_decimal(column.type):
        return [None if amount is None else f"{amount:f}" for amount in column.to_pylist()]
    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")  # with its fraction
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts
