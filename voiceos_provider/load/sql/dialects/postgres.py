"""PostgreSQL: rows are loaded by binary COPY through ADBC, or by COPY of CSV through psycopg."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from voiceos_provider.load.sql.capabilities import Capabilities, JsonLimits
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Failure, failure_of
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS, is_json

_JSONB_VERSION = b"\x01"
"""Byte before the text of a jsonb in binary COPY."""

_PIECE = 65_536
"""Bytes of rows that are sent at once. Drivers encode a piece, send it, and wait. While they encode a small piece, the
server still stores the last one; with large pieces, each waits for the other."""

_BUILT_IN = re.compile(
    r"(smallint|integer|bigint|numeric|real|double|money|boolean|date|time|interval|bytea|jsonb?|uuid|text|char|oid"
    r"|inet|xml|point)",
)
_TEXT = "text|char|citext|bpchar"

_INDEXES = {CONVERSATIONS.name: (("started_at",), ("agent_id", "started_at"), ("_interval_start",))}


class Postgres(Dialect):
    """PostgreSQL, and engines that speak its SQL."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="postgres",
        title="PostgreSQL",
        column_types={
            "text": "text",
            "instant": "timestamp with time zone",
            "money": "numeric(38, 24)",
            "number": "double precision",
            "count": "bigint",
            "flag": "boolean",
            "json": "jsonb",
        },
        accepted_types={
            "text": f"uuid|{_TEXT}",
            "instant": f"timestamp|{_TEXT}",
            "money": f"numeric|double|real|{_TEXT}",
            "number": f"numeric|double|real|{_TEXT}",
            "count": f"bigint|integer|numeric|double|{_TEXT}",
            "flag": f"boolean|{_TEXT}",
            "json": f"jsonb?|{_TEXT}",
        },
        instant_literal="TIMESTAMPTZ '%Y-%m-%d %H:%M:%S.%f+00'",
        comments="statement",
        add_column_guard="IF NOT EXISTS ",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        has_load_lock=True,
        late_keys=True,
        direct_load=True,
        # The server's stack holds a depth of at least 5,000; a numeric has 131,072 digits before the point.
        json_limits=JsonLimits(depth=2_000, exponents=(-16_383, 131_071), key_bytes=268_435_455),
        max_id_length=2_600,  # an index entry has at most 2,704 bytes
    )

    def add_primary_key(self, namespace: Namespace, table: Table) -> list[str]:
        """Return statements that add the primary key to a filled table, which is faster than row by row."""
        return [f"ALTER TABLE {self.qualified_name(namespace, table)} ADD {self.primary_key(table)}"]

    def finish_table(self, namespace: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Return statements for comments, and for indexes by time, agent and interval."""
        at = self.qualified_name(namespace, table)
        statements = super().finish_table(namespace, table, keyed=keyed)
        indexes = list(_INDEXES.get(table.name, ()))
        if not keyed:
            indexes.append(table.key)
        for columns in indexes:
            name = self.derived_name(f"{namespace.prefix}{table.name}_{'_'.join(columns)}_idx")
            statements.append(
                f"CREATE INDEX IF NOT EXISTS {self.quote(name)} ON {at} ({', '.join(map(self.quote, columns))})"
            )
        return statements

    def existing_columns(self, session: Session, namespace: Namespace, table: Table) -> dict[str, str] | None:
        """Return the existing columns with their types as in the catalog."""
        found = session.rows(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute "
            f"WHERE attrelid = to_regclass({self.text(self.qualified_name(namespace, table))}) "
            "AND attnum > 0 AND NOT attisdropped"
        )
        return dict(found) or None

    def accepts(self, column: Column, kind: str) -> bool:
        """Return whether a column of this type can hold the values; domains and enums are left to the server."""
        return super().accepts(column, kind) or not _BUILT_IN.match(kind)

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Begin a transaction in UTC that reads what others have committed; the load lock separates loads."""
        session.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        session.run("SET LOCAL TimeZone = 'UTC'")
        session.run(f"SET LOCAL lock_timeout = '{round(lock_timeout * 1000)}ms'")
        # The session of a worker whose machine has vanished is silent, and keeps its locks until it is ended.
        session.run(f"SET LOCAL idle_in_transaction_session_timeout = '{self.capabilities.idle_timeout}s'")
        # This counts between statements only; while rows are copied, TCP keepalives detect it.
        for name, seconds in (
            ("idle", self.capabilities.idle_timeout // 2),
            ("interval", self.capabilities.idle_timeout // 12),
        ):
            session.run(f"SET LOCAL tcp_keepalives_{name} = {max(1, seconds)}")
        session.run("SET LOCAL tcp_keepalives_count = 6")

    def try_lock(self, session: Session, namespace: Namespace) -> bool:
        """Take the load lock without waiting; the end of the transaction releases it."""
        return session.rows(f"SELECT pg_try_advisory_xact_lock({self._lock_key(namespace)})::text") == [
            ("true",)
        ]

    def wait_for_lock(self, session: Session, namespace: Namespace, *, lock_timeout: float) -> None:
        """Wait for the load lock."""
        # As rows: ADBC reports that a SELECT has failed only when its rows are read, and does not read void.
        session.rows(f"SELECT pg_advisory_xact_lock({self._lock_key(namespace)})::text")

    def _lock_key(self, namespace: Namespace) -> str:
        # The default schema and the same schema by its name are one namespace.
        name = (
            f"'voiceos ' || coalesce({self._schema(namespace)}, '') || {self.text(f'.{namespace.prefix}*')}"
        )
        return f"('x' || substr(md5({name}), 1, 16))::bit(64)::bigint"

    def load_rows(
        self,
        session: Session,
        namespace: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """Load rows by COPY."""
        cursor = session.connection.cursor()
        try:
            if hasattr(cursor, "adbc_ingest"):
                _ingest(
                    cursor,
                    namespace,
                    table,
                    schema,
                    batches,
                    temporary=namespace == self.staging_namespace(namespace),
                )
                return
            columns = ", ".join(map(self.quote, schema.names))
            copy = f"COPY {self.qualified_name(namespace, table)} ({columns}) FROM STDIN WITH (FORMAT csv)"
            if hasattr(cursor, "copy_expert"):
                cursor.copy_expert(copy, _Readable(_csv(schema, batches)))
                return
            with cursor.copy(copy) as sink:
                for piece in _csv(schema, batches):
                    sink.write(piece)
        finally:
            cursor.close()

    def finish_staging_table(self, session: Session, namespace: Namespace, table: Table) -> None:
        """Analyze the key columns, which are joined; no statement filters by others."""
        key = ", ".join(map(self.quote, table.key))
        session.run(f"ANALYZE {self.qualified_name(self.staging_namespace(namespace), table)} ({key})")

    def classify(self, error: Exception) -> Failure:
        """Describe an error by its SQLSTATE; a lock timeout is final."""
        return failure_of(error)

    def staged_value(self, column: Column, kind: str) -> str:
        """Return the staged value, cast to the type but not to its length: long texts are an error, not cut."""
        base = re.sub(r"\(.*?\)", "", kind).strip()
        return f"s.{self.quote(column.name)}{_cast(column, self.capabilities.column_types[column.kind.name], base)}"

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Return the condition for a different value; json has no equality of its own."""
        ours = f"s.{self.quote(column.name)}{_cast(column, self.capabilities.column_types[column.kind.name], kind)}"
        theirs = f"{t}.{self.quote(column.name)}"
        if kind == "json":
            ours, theirs = f"{ours}::text", f"{theirs}::text"
        return self.capabilities.is_distinct.format(ours=ours, theirs=theirs)


def _cast(column: Column, ours: str, theirs: str) -> str:
    if not theirs or theirs == ours or theirs == re.sub(r"\(.*?\)", "", ours):
        return ""
    return f"::{'bpchar' if theirs == 'character' else theirs}"


def _ingest(
    cursor: Any,
    namespace: Namespace,
    table: Table,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    temporary: bool,
) -> None:
    wire = pa.schema(pa.field(f.name, pa.binary() if is_json(f) else f.type) for f in schema)
    pieces = (piece for batch in batches for piece in _pieces(_as_wire(batch, wire)))
    reader = pa.RecordBatchReader.from_batches(wire, pieces)
    cursor.adbc_ingest(
        namespace.prefix + table.name,
        reader,
        mode="append",
        temporary=temporary,
        **({} if temporary or namespace.schema is None else {"db_schema_name": namespace.schema}),
    )


def _as_wire(batch: pa.RecordBatch, wire: pa.Schema) -> pa.RecordBatch:
    version = pa.scalar(_JSONB_VERSION, pa.binary())
    columns = [
        pc.binary_join_element_wise(version, column.cast(pa.binary()), b"")
        if to.type == pa.binary()
        else column
        for column, to in zip(batch.columns, wire, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=wire)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, _PIECE * len(batch) // max(1, batch.nbytes))
    return (batch.slice(at, rows) for at in range(0, len(batch), rows))


def _csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Yield the rows as CSV, in pieces; a null is empty, and an empty text is quoted."""
    spelled = pa.schema(
        pa.field(f.name, pa.string() if pa.types.is_decimal(f.type) else f.type) for f in schema
    )
    options = pyarrow.csv.WriteOptions(include_header=False)
    for piece in (piece for batch in batches for piece in _pieces(batch)):
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(piece.cast(spelled), sink, options)
        yield sink.getvalue().to_pybytes()


class _Readable:
    """Pieces as the file object that psycopg2 expects."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._remaining = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._remaining) < size or size < 0:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._remaining += piece
        chunk, self._remaining = (
            (self._remaining, b"") if size < 0 else (self._remaining[:size], self._remaining[size:])
        )
        return chunk
