"""PostgreSQL: rows are loaded by binary COPY through ADBC, or by COPY of CSV through psycopg."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from voiceos_provider.load.sql.capabilities import Capabilities, ColumnType, JsonLimits
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.plan import Namespace
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

    capabilities = Capabilities(
        name="postgres",
        title="PostgreSQL",
        types={
            "text": ColumnType("text", f"uuid|{_TEXT}"),
            "instant": ColumnType("timestamp with time zone", f"timestamp|{_TEXT}"),
            "money": ColumnType("numeric(38, 24)", f"numeric|double|real|{_TEXT}"),
            "number": ColumnType("double precision", f"numeric|double|real|{_TEXT}"),
            "count": ColumnType("bigint", f"bigint|integer|numeric|double|{_TEXT}"),
            "flag": ColumnType("boolean", f"boolean|{_TEXT}"),
            "json": ColumnType("jsonb", f"jsonb?|{_TEXT}"),
        },
        casts=True,
        instant_literal="TIMESTAMPTZ '%Y-%m-%d %H:%M:%S.%f+00'",
        comments="statement",
        add_column_guard="IF NOT EXISTS ",
        temporary="TEMPORARY ",
        transactional_ddl=True,
        has_load_lock=True,
        late_keys=True,
        # The server's stack holds a depth of at least 5,000; a numeric has 131,072 digits before the point.
        json_limits=JsonLimits(depth=2_000, exponents=(-16_383, 131_071), key_bytes=268_435_455),
        max_id_length=2_600,  # an index entry has at most 2,704 bytes
    )

    def finish_table(self, table: Table, *, keyed: bool = True) -> list[str]:
        """Return statements for comments, and for indexes by time, agent and interval."""
        statements = super().finish_table(table, keyed=keyed)
        indexes = list(_INDEXES.get(table.name, ()))
        if not keyed:
            indexes.append(table.key)
        for columns in indexes:
            name = self.derived_name(f"{self.namespace.prefix}{table.name}_{'_'.join(columns)}_idx")
            indexed = ", ".join(map(self.quote, columns))
            statements.append(
                f"CREATE INDEX IF NOT EXISTS {self.quote(name)} ON {self.target(table)} ({indexed})"
            )
        return statements

    def existing_columns(self, table: Table) -> dict[str, str] | None:
        """Return the existing columns with types to cast to; of texts without a length, to which a cast would cut."""
        found = self.rows(
            "SELECT attname::text, format_type(atttypid, CASE typcategory WHEN 'S' THEN -1 ELSE atttypmod END) "
            "FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type t ON t.oid = atttypid "
            f"WHERE attrelid = to_regclass({self.text(self.target(table))}) AND attnum > 0 AND NOT attisdropped"
        )
        return dict(found) or None

    def accepts(self, column: Column, kind: str) -> bool:
        """Return whether a column of this type can hold the values; domains and enums are left to the server."""
        return super().accepts(column, kind) or not _BUILT_IN.match(kind)

    def begin(self) -> None:
        """Begin a transaction in UTC that reads what others have committed; the load lock separates loads."""
        self.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        idle = self.capabilities.idle_timeout
        for setting in (
            "TimeZone = 'UTC'",
            f"lock_timeout = '{round(self.lock_timeout * 1000)}ms'",
            # The session of a worker whose machine has vanished is silent, and keeps its locks until it is ended.
            f"idle_in_transaction_session_timeout = '{idle}s'",
            # This counts between statements only; while rows are copied, TCP keepalives detect it.
            f"tcp_keepalives_idle = {max(1, idle // 2)}",
            f"tcp_keepalives_interval = {max(1, idle // 12)}",
            "tcp_keepalives_count = 6",
        ):
            self.run(f"SET LOCAL {setting}")

    def try_lock(self) -> bool:
        """Take the load lock without waiting; the end of the transaction releases it."""
        return self.rows(f"SELECT pg_try_advisory_xact_lock({self._lock_key})::text") == [("true",)]

    def wait_for_lock(self) -> None:
        """Wait for the load lock."""
        # As rows: ADBC reports that a SELECT has failed only when its rows are read, and does not read void.
        self.rows(f"SELECT pg_advisory_xact_lock({self._lock_key})::text")

    @property
    def _lock_key(self) -> str:
        # The default schema and the same schema by its name are one namespace.
        prefix = self.text(f".{self.namespace.prefix}*")
        name = f"'voiceos ' || coalesce({self.schema_expression}, '') || {prefix}"
        return f"('x' || substr(md5({name}), 1, 16))::bit(64)::bigint"

    def load_rows(self, namespace: Namespace, table: Table, rows: pa.RecordBatchReader) -> None:
        """Load rows by COPY."""
        cursor = self.connection.cursor()
        try:
            if hasattr(cursor, "adbc_ingest"):
                cursor.adbc_ingest(
                    namespace.prefix + table.name,
                    _as_wire(rows),
                    mode="append",
                    temporary=namespace == self.staging,
                    **({"db_schema_name": namespace.schema} if namespace.schema else {}),
                )
                return
            columns = ", ".join(map(self.quote, rows.schema.names))
            copy = f"COPY {self.target(table, namespace)} ({columns}) FROM STDIN WITH (FORMAT csv)"
            if hasattr(cursor, "copy_expert"):
                cursor.copy_expert(copy, _Readable(_csv(rows)))
                return
            with cursor.copy(copy) as sink:
                for piece in _csv(rows):
                    sink.write(piece)
        finally:
            cursor.close()

    def finish_staging_table(self, table: Table) -> None:
        """Analyze the key columns, which are joined; no statement filters by others."""
        self.run(f"ANALYZE {self.staging_table(table)} ({', '.join(map(self.quote, table.key))})")

    def differs(self, column: Column, kind: str, t: str) -> str:
        """Return the condition for a different value; json, unlike jsonb, has no equality of its own."""
        if kind != "json":
            return super().differs(column, kind, t)
        ours, theirs = self.staged_value(column, kind), f"{t}.{self.quote(column.name)}"
        return self.capabilities.is_distinct.format(ours=f"{ours}::text", theirs=f"{theirs}::text")


def _as_wire(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return the rows as binary COPY takes them: documents with the version of jsonb."""
    version = pa.scalar(_JSONB_VERSION, pa.binary())
    wire = pa.schema(pa.field(f.name, pa.binary() if is_json(f) else f.type) for f in rows.schema)

    def converted() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            columns = [
                pc.binary_join_element_wise(version, column.cast(pa.binary()), b"") if is_json(f) else column
                for column, f in zip(batch.columns, rows.schema, strict=True)
            ]
            yield from _pieces(pa.RecordBatch.from_arrays(columns, schema=wire))

    return pa.RecordBatchReader.from_batches(wire, converted())


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, _PIECE * len(batch) // max(1, batch.nbytes))
    return (batch.slice(at, rows) for at in range(0, len(batch), rows))


def _csv(rows: pa.RecordBatchReader) -> Iterator[bytes]:
    """Yield the rows as CSV, in pieces; a null is empty, and an empty text is quoted."""
    spelled = pa.schema(
        pa.field(f.name, pa.string() if pa.types.is_decimal(f.type) else f.type) for f in rows.schema
    )
    options = pyarrow.csv.WriteOptions(include_header=False)
    for batch in rows:
        for piece in _pieces(batch):
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
