"""How does PostgreSQL take rows? By binary COPY through ADBC, or by COPY of CSV through psycopg."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.load.sql.errors import Refusal, refusal_of
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS, is_json

_JSONB_VERSION = b"\x01"
"""What binary COPY puts before the text of a jsonb."""

_PIECE = 65_536
"""Bytes of rows that are sent at once. Drivers encode a piece, send it, and wait: while they encode a small one, the
server still stores the last; of large ones, each waits for the other."""

_BUILT_IN = re.compile(
    r"(smallint|integer|bigint|numeric|real|double|money|boolean|date|time|interval|bytea|jsonb?|uuid|text|char|oid"
    r"|inet|xml|point)",
)
_TEXT = "text|char|citext|bpchar"

_INDEXES = {CONVERSATIONS.name: (("started_at",), ("agent_id", "started_at"), ("_interval_start",))}


class Postgres(Dialect):
    """PostgreSQL, and what speaks like it."""

    name = "postgres"
    title = "PostgreSQL"
    creates_in_transaction = True
    locks = True
    loads_directly = True
    keys_late = True
    temporary = "TEMPORARY "
    updates_by_inserting = False
    instants = "TIMESTAMPTZ '%Y-%m-%d %H:%M:%S.%f+00'"
    comments = "apart"
    unless_there = "IF NOT EXISTS "
    unlike = "{ours} IS DISTINCT FROM {theirs}"
    types: ClassVar[Mapping[str, str]] = {
        "text": "text",
        "instant": "timestamp with time zone",
        "money": "numeric(38, 24)",
        "number": "double precision",
        "count": "bigint",
        "flag": "boolean",
        "json": "jsonb",
    }
    fitting: ClassVar[Mapping[str, str]] = {
        "text": f"uuid|{_TEXT}",
        "instant": f"timestamp|{_TEXT}",
        "money": f"numeric|double|real|{_TEXT}",
        "number": f"numeric|double|real|{_TEXT}",
        "count": f"bigint|integer|numeric|double|{_TEXT}",
        "flag": f"boolean|{_TEXT}",
        "json": f"jsonb?|{_TEXT}",
    }

    def key(self, place: Namespace, table: Table) -> list[str]:
        """Statements that make the key unique in a table that is full: quicker than row by row."""
        return [
            f"ALTER TABLE {self.at(place, table)} ADD PRIMARY KEY ({', '.join(map(self.quote, table.key))})"
        ]

    def finish(self, place: Namespace, table: Table, *, keyed: bool = True) -> list[str]:
        """Comments, and indexes for questions by time, by agent and by interval."""
        at = self.at(place, table)
        statements = super().finish(place, table, keyed=keyed)
        indexes = list(_INDEXES.get(table.name, ()))
        if not keyed:
            indexes.append(table.key)
        for columns in indexes:
            name = f"{place.prefix}{table.name}_{'_'.join(columns)}_idx"[: self.longest_name]
            statements.append(
                f"CREATE INDEX IF NOT EXISTS {self.quote(name)} ON {at} ({', '.join(map(self.quote, columns))})"
            )
        return statements

    def existing(self, session: Session, place: Namespace, table: Table) -> dict[str, str] | None:
        """The columns with their types as the catalog spells them."""
        found = session.rows(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute "
            f"WHERE attrelid = to_regclass({self.text(self.at(place, table))}) AND attnum > 0 AND NOT attisdropped"
        )
        return dict(found) or None

    def fits(self, column: Column, kind: str) -> bool:
        """Whether a column of this type takes the values; domains and enums are left to the server."""
        return super().fits(column, kind) or not _BUILT_IN.match(kind)

    def begin(self, session: Session, *, lock_timeout: float) -> None:
        """Read what others have committed, whatever the login's default is: the lock keeps exports apart."""
        session.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        session.run("SET LOCAL TimeZone = 'UTC'")
        session.run(f"SET LOCAL lock_timeout = '{round(lock_timeout * 1000)}ms'")
        # A worker whose machine has vanished says nothing, and keeps its locks until somebody notices.
        session.run(f"SET LOCAL idle_in_transaction_session_timeout = '{self.longest_silence}s'")
        # That counts between statements only; while rows are copied, TCP has to notice.
        for name, seconds in (("idle", self.longest_silence // 2), ("interval", self.longest_silence // 12)):
            session.run(f"SET LOCAL tcp_keepalives_{name} = {max(1, seconds)}")
        session.run("SET LOCAL tcp_keepalives_count = 6")

    def lock(self, session: Session, place: Namespace, *, lock_timeout: float) -> None:
        """Wait until no other export writes here; the end of the transaction lets go."""
        name = self.text(f"voiceos {place}")
        # As rows, for ADBC tells that a SELECT has failed only to who reads its answer, and reads no void.
        session.rows(
            f"SELECT pg_advisory_xact_lock(('x' || substr(md5({name}), 1, 16))::bit(64)::bigint)::text"
        )

    def fill(
        self,
        session: Session,
        place: Namespace,
        table: Table,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> None:
        """COPY the rows."""
        cursor = session.connection.cursor()
        try:
            if hasattr(cursor, "adbc_ingest"):
                _ingest(cursor, place, table, schema, batches, temporary=place == self.staging(place))
                return
            columns = ", ".join(map(self.quote, schema.names))
            copy = f"COPY {self.at(place, table)} ({columns}) FROM STDIN WITH (FORMAT csv)"
            if hasattr(cursor, "copy_expert"):
                cursor.copy_expert(copy, _Readable(_csv(schema, batches)))
                return
            with cursor.copy(copy) as sink:
                for piece in _csv(schema, batches):
                    sink.write(piece)
        finally:
            cursor.close()

    def filled(self, session: Session, place: Namespace, table: Table) -> None:
        """Let the planner know how many rows there are, and of what they are joined by; nothing asks for the rest."""
        key = ", ".join(map(self.quote, table.key))
        session.run(f"ANALYZE {self.at(self.staging(place), table)} ({key})")

    def refusal(self, error: Exception) -> Refusal:
        """What the server says, by its SQLSTATE."""
        return refusal_of(error)

    def read(self, column: Column, kind: str) -> str:
        """Cast to the type, not to its length: a text that is too long is an error, and not cut."""
        base = re.sub(r"\(.*?\)", "", kind).strip()
        return f"s.{self.quote(column.name)}{_cast(column, self.types[column.kind.name], base)}"

    def differs(self, column: Column, kind: str, t: str) -> str:
        """A json has no equality of its own."""
        ours = f"s.{self.quote(column.name)}{_cast(column, self.types[column.kind.name], kind)}"
        theirs = f"{t}.{self.quote(column.name)}"
        if kind == "json":
            ours, theirs = f"{ours}::text", f"{theirs}::text"
        return self.unlike.format(ours=ours, theirs=theirs)


def _cast(column: Column, ours: str, theirs: str) -> str:
    if not theirs or theirs == ours or theirs == re.sub(r"\(.*?\)", "", ours):
        return ""
    return f"::{'bpchar' if theirs == 'character' else theirs}"


def _ingest(
    cursor: Any,
    place: Namespace,
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
        place.prefix + table.name,
        reader,
        mode="append",
        temporary=temporary,
        **({} if temporary or place.schema is None else {"db_schema_name": place.schema}),
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
    """The rows as CSV, in pieces; a null is nothing, and an empty text is quoted."""
    spelled = pa.schema(
        pa.field(f.name, pa.string() if pa.types.is_decimal(f.type) else f.type) for f in schema
    )
    options = pyarrow.csv.WriteOptions(include_header=False)
    for piece in (piece for batch in batches for piece in _pieces(batch)):
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(piece.cast(spelled), sink, options)
        yield sink.getvalue().to_pybytes()


class _Readable:
    """Pieces as a file that is read to its end, which is what psycopg2 wants."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._left) < size or size < 0:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._left += piece
        some, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return some
