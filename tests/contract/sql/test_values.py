"""Values in databases: unchanged, or converted and counted, whatever the engine's limits and time zones."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.support.conversations import conversation
from tests.support.databases import Engine, plain
from tests.support.exporting import NOW, export_pages, page
from voiceos_provider.client.pages import RawPage, parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.exceptions import VoiceOSError, VoiceOSExportError, VoiceOSValueError
from voiceos_provider.load.receipt import ExportReceipt, LoadedTable
from voiceos_provider.load.sql import DIALECTS, ddl
from voiceos_provider.load.sql.errors import InterferenceError
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.transform import TABLES, Table
from voiceos_provider.transform.schema import CONVERSATION_MESSAGES, CONVERSATIONS

LATER = NOW + timedelta(hours=1)


def load(engine: Engine, pages: list[RawPage], *, at: datetime = NOW, **options: Any) -> ExportReceipt:
    """Export as the operator does."""
    return export_pages(pages, exported_at=at, target=engine.destination(**options))


def read(engine: Engine, table: Table) -> list[dict[str, Any]]:
    """Return all rows as a session in UTC reads them."""
    with engine.session() as session:
        names = ", ".join(session.quote(column.name) for column in table.columns)
        session.configure()
        if session.capabilities.transactional_ddl:
            session.begin()
        rows = session.rows(f"SELECT {names} FROM {engine.table(table)}")
    found = [
        {c.name: plain(c, value, engine.dialect) for c, value in zip(table.columns, row, strict=True)}
        for row in rows
    ]
    return sorted(found, key=lambda row: [row[name] for name in table.key])


# Time zones

NAIVE_AND_AWARE = {
    "postgres": ("timestamp without time zone", "timestamp with time zone"),
    "redshift": ("timestamp without time zone", "timestamp with time zone"),
    "generic": ("TIMESTAMP",),
    "duckdb": ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
    "mysql": ("DATETIME(6)", "TIMESTAMP(6)"),
    "sqlite": ("TEXT", "DATETIME"),
    "clickhouse": ("DateTime64(6)", "DateTime64(6, 'America/New_York')"),
}
"""Column types that users may choose for instants."""

SET_ZONE = {
    "postgres": "SET TimeZone TO '{}'",
    "redshift": "SET TimeZone TO '{}'",
    "generic": "SET TimeZone TO '{}'",
    "duckdb": "SET TimeZone = '{}'",
    "mysql": "SET time_zone = '{}'",
}
ZONES = {"America/New_York": "-05:00", "Asia/Tokyo": "+09:00", "UTC": "+00:00"}

INSTANT_COLUMNS = [c.name for c in CONVERSATIONS.columns if c.kind.name == "instant"]

INSTANTS = {
    "in the gap of spring": datetime(2026, 3, 8, 2, 30, tzinfo=UTC),
    "after the gap": datetime(2026, 3, 8, 7, 0, 0, 1, tzinfo=UTC),
    "first half past one of autumn": datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
    "second half past one": datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
}


@contextmanager
def worker_in(zone: str) -> Iterator[None]:
    """Run in a process with this time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()


def in_zone(engine: Engine, zone: str) -> Callable[[], Any]:
    """Return a function that opens a connection with another time zone."""

    def connect() -> Any:
        connection = engine.connect()
        if statement := SET_ZONE.get(engine.dialect):
            cursor = connection.cursor()
            cursor.execute(statement.format(ZONES[zone] if engine.dialect == "mysql" else zone))
            if engine.dialect == "duckdb":
                return cursor
            connection.commit()
        return connection

    return connect


@contextmanager
def server_in_tokyo(engine: Engine) -> Iterator[None]:
    """Give new sessions of the server another time zone by default."""
    statements = {
        "postgres": (
            "ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'",
            "ALTER DATABASE postgres RESET timezone",
        ),
        "mysql": ("SET GLOBAL time_zone = '+09:00'", "SET GLOBAL time_zone = SYSTEM"),
    }
    kind = "postgres" if engine.dialect in ("redshift", "generic") else engine.dialect
    if kind in statements:
        engine.run(statements[kind][0])
    try:
        yield
    finally:
        if kind in statements:
            engine.run(statements[kind][1])


def create(engine: Engine, kind: str, columns: Sequence[str] = INSTANT_COLUMNS) -> None:
    """Create the tables with another type for these columns, as a user might."""
    dialect, printed = engine.fresh_dialect, engine.understood(ddl(engine.dialect, schema=engine.schema))
    for column in {column.name: column for table in TABLES for column in table.columns}.values():
        if column.name in columns:
            name = dialect.quote(column.name)
            printed = printed.replace(f"{name} {dialect.type_of(column)}", f"{name} {kind}")
    assert kind in printed
    engine.run(*(statement for statement in printed.split(";\n") if statement.strip()))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            number,
            marks=pytest.mark.dialects(
                *(name for name, kinds in NAIVE_AND_AWARE.items() if number < len(kinds))
            ),
        )
        for number in (0, 1)
    ],
)
def test_instants_do_not_depend_on_time_zones(engine: Engine, kind: int) -> None:
    """Worker, session and server have different zones, and row versions compare correctly in user-defined columns."""
    create(engine, NAIVE_AND_AWARE[engine.dialect][kind])
    started = {f"c{number}": at for number, at in enumerate(INSTANTS.values())}

    def pages(status: str) -> list[RawPage]:
        return [
            page(
                *(conversation(id_, started_at=at.isoformat(), status=status) for id_, at in started.items())
            )
        ]

    with server_in_tokyo(engine):
        with worker_in("America/New_York"):
            load(engine, pages("started"), at=NOW, create=False, connect=in_zone(engine, "America/New_York"))
        assert {row["id"]: row["started_at"] for row in read(engine, CONVERSATIONS)} == started
        assert {row["_exported_at"] for row in read(engine, CONVERSATIONS)} == {NOW}
        with worker_in("UTC"):
            receipt = load(engine, pages("ended"), at=LATER, create=False, connect=in_zone(engine, "UTC"))
        assert receipt.tables["conversations"] == LoadedTable(updated=len(started))
        assert receipt.tables["conversation_messages"] == LoadedTable(unchanged=2 * len(started))
        with worker_in("Asia/Tokyo"):
            receipt = load(
                engine, pages("queued"), at=NOW, create=False, connect=in_zone(engine, "Asia/Tokyo")
            )
        assert receipt.tables["conversations"] == LoadedTable(outdated=len(started))
        assert {row["id"]: row["started_at"] for row in read(engine, CONVERSATIONS)} == started
        assert {row["status"] for row in read(engine, CONVERSATIONS)} == {"ended"}


@pytest.mark.dialects("generic")
def test_generic_engine_rejects_columns_with_a_time_zone(engine: Engine) -> None:
    """It cannot set the time zone of a session, so the rows would be shifted."""
    create(engine, "TIMESTAMP WITH TIME ZONE")
    with pytest.raises(VoiceOSValueError, match=r"started_at .* timestamp with time zone"):
        load(engine, [page(conversation("a"))])


@pytest.mark.dialects(*(set(DIALECTS) - {"sqlite"}))  # instants are texts there
def test_text_column_for_row_versions_is_rejected(engine: Engine) -> None:
    """Row versions are compared as instants, and texts sort differently."""
    create(engine, "String" if engine.dialect == "clickhouse" else "VARCHAR(40)", ["_interval_end"])
    with pytest.raises(VoiceOSValueError, match="Change the column _interval_end"):
        load(engine, [page(conversation("a"))])


# Values that are altered on the way


def test_ids_that_differ_by_trailing_spaces_are_two_conversations(engine: Engine) -> None:
    """Some engines ignore trailing spaces by default."""
    odd = ["x", "x ", "x  ", " x", "X"]
    for at in (NOW, LATER):
        receipt = load(engine, [page(*map(conversation, odd))], at=at)
        assert engine.count(CONVERSATIONS) == len(odd)
        assert engine.count(CONVERSATION_MESSAGES) == 2 * len(odd)
    assert receipt.tables["conversations"] == LoadedTable(unchanged=len(odd))
    said = load(
        engine, [page(conversation("x", said=("Hello.", "Good bye. ")))], at=LATER + timedelta(hours=1)
    )
    assert said.tables["conversation_messages"] == LoadedTable(updated=1, unchanged=1)


@pytest.mark.parametrize("length", [257, 700, 5_000])
def test_long_id_is_kept_whole_or_rejected(engine: Engine, length: int) -> None:
    """It is never truncated; the error names the length and hides the id."""
    id_ = "z" * length
    limit = engine.fresh_dialect.capabilities.max_id_length
    pages = [page(conversation("a")), page(conversation(id_))]
    if limit and length > limit:
        with pytest.raises(VoiceOSExportError, match=f"has {length:,} characters") as refused:
            load(engine, pages)
        assert id_[:50] not in str(refused.value)
        return
    load(engine, pages)
    load(engine, pages, at=LATER)
    assert {row["id"] for row in read(engine, CONVERSATIONS)} == {"a", id_}
    assert {row["conversation_id"] for row in read(engine, CONVERSATION_MESSAGES)} == {"a", id_}


SHORT_TEXTS = {
    "postgres": "varchar(5)",
    "mysql": "VARCHAR(5)",
    "redshift": "varchar(5)",
    "generic": "varchar(5)",
}


@pytest.mark.dialects(*SHORT_TEXTS)
def test_text_longer_than_a_user_defined_column_is_never_truncated(engine: Engine) -> None:
    """The load fails, and names what to change."""
    create(engine, SHORT_TEXTS[engine.dialect], ["content"])
    load(engine, [page(conversation("a", said=("short",)))])
    with pytest.raises(VoiceOSError, match="make the column wider") as refused:
        load(engine, [page(conversation("b", said=("too long",)))])
    assert "too long" not in str(refused.value)
    assert engine.count(CONVERSATIONS) == 1
    with pytest.raises(VoiceOSError, match="make the column wider"):
        load(engine, [page(conversation("a", said=("shorter",)))], at=LATER)


ALTERING = {
    "postgres": (
        "CREATE FUNCTION {schema}.alter_row() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.agent_id := upper(NEW.agent_id); RETURN NEW; END $$",
        "CREATE TRIGGER alter_row BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {schema}.alter_row()",
    ),
    "mysql": (
        "CREATE TRIGGER {schema}.alter_row BEFORE INSERT ON {table} FOR EACH ROW "
        "SET NEW.agent_id = UPPER(NEW.agent_id)",
    ),
    "sqlite": (
        "CREATE TRIGGER alter_row AFTER INSERT ON {table} BEGIN "
        "UPDATE {table} SET agent_id = upper(agent_id) WHERE id = NEW.id; END",
    ),
}


@pytest.mark.dialects(*ALTERING, "redshift", "generic")
def test_value_that_a_trigger_alters_fails_the_load(engine: Engine) -> None:
    """The number of rows is right, and a value is not."""
    statements = ALTERING.get("postgres" if engine.dialect in ("redshift", "generic") else engine.dialect)
    assert statements is not None
    load(engine, [page(conversation("a"))])
    names = {"table": engine.table(CONVERSATIONS), "schema": engine.fresh_dialect.quote(str(engine.schema))}
    engine.run(*(statement.format(**names) for statement in statements))
    with pytest.raises(InterferenceError, match=r"does not hold the rows that were written.*Check triggers"):
        load(engine, [page(conversation("b", agent_id="agent"))], lock_timeout=1)
    assert engine.count(CONVERSATIONS) == 1


def test_rows_that_a_bulk_path_alters_fail_the_load(engine: Engine) -> None:
    """Staged rows are compared by value: a text is shorter, or an instant an hour later."""
    alterations = {
        "content": lambda values: pc.utf8_slice_codeunits(values, 0, 5),
        "started_at": lambda values: pc.add(values, pa.scalar(timedelta(hours=1))).cast(values.type),
        "message_count": lambda values: pc.add(values, 1),
        "agent_id": lambda values: pa.nulls(len(values), values.type),
    }
    if engine.fresh_dialect.capabilities.types["instant"].staged:
        del alterations["started_at"]  # staged as text, which does not sort by time
    for column, alter in alterations.items():
        dialect = engine.dialect_for("20261122120000000000")
        dialect.load_rows = partial(_altered, dialect.load_rows, column, alter)  # type: ignore[method-assign]
        with pytest.raises(InterferenceError, match=f"other values in {column}"):
            load(
                engine, [page(conversation("a"))], use_dialect=dialect, lock_timeout=0.1, sleep=lambda _: None
            )
    assert "conversations" not in engine.tables() or engine.count(CONVERSATIONS) == 0


def _altered(
    load_rows: Any, column: str, alter: Any, namespace: Namespace, table: Table, rows: pa.RecordBatchReader
) -> None:
    at = rows.schema.get_field_index(column)
    pieces = (
        batch if at < 0 else batch.set_column(at, rows.schema.field(at), alter(batch.column(at)))
        for batch in rows
    )
    load_rows(namespace, table, pa.RecordBatchReader.from_batches(rows.schema, pieces))


# Limits of JSON


def nested(depth: int) -> Any:
    """Return nested arrays."""
    value: Any = "core"
    for _ in range(depth):
        value = [value]
    return value


def raw_page(**fields: str) -> RawPage:
    """Return a page of one conversation whose undocumented fields have this JSON text."""
    whole = (
        json.dumps(conversation("a"))[:-1]
        + "".join(f', "{name}": {text}' for name, text in fields.items())
        + "}"
    )
    body = ('{"items": [' + whole + '], "has_more": false}').encode()
    return parse_page(Listing(None, None, None, 100).page(1), Response(200, {}, body))


JSON_VALUES = {
    "depth 31": json.dumps(nested(31)),
    "depth 33": json.dumps(nested(33)),
    "depth 150": json.dumps(nested(150)),
    "depth 600": json.dumps(nested(600)),
    "large number": "1e400",
    "largest double": "1.7976931348623157e308",
    "small number": "1e-400",
    "beyond a numeric": "1e200000",
    "many digits": "9" * 400,
    "long key": json.dumps({"k" * 70_000: 1}),
    "long text": json.dumps("t" * 70_000),
    "control characters": json.dumps("".join(map(chr, range(1, 32))) + "\x7f\x80\u2028"),
    "quotes and backslashes": json.dumps({'"\\\\"': "[[[{{{ \\u0000 1e999"}),
}


@pytest.mark.parametrize("text", JSON_VALUES.values(), ids=JSON_VALUES.keys())
def test_any_json_is_kept_and_never_fails_an_export(engine: Engine, text: str) -> None:
    """Beyond the limits of the engine it becomes a JSON string with the document, or null, and is counted."""
    pages = [raw_page(odd=text)]
    capabilities = engine.fresh_dialect.capabilities
    for _ in range(2):
        receipt = load(engine, pages)
    loaded = receipt.tables["conversations"]
    assert loaded == LoadedTable(unchanged=1, json_as_text=loaded.json_as_text, oversized=loaded.oversized)
    column = engine.fresh_dialect.quote("extra")
    ((extra,),) = engine.rows(f"SELECT {column} FROM {engine.table(CONVERSATIONS)}")
    if capabilities.max_text_bytes and len(text) > capabilities.max_text_bytes:
        assert (extra, loaded.oversized) == (None, 1)
        return
    assert loaded.oversized == 0
    if loaded.json_as_text:
        inner = json.loads(extra) if isinstance(extra, str) and extra.startswith('"') else extra
        assert json.loads(inner)["odd"] == json.loads(text)
    elif "e" not in text and not text.startswith("9"):
        found = json.loads(extra) if isinstance(extra, str) else extra
        assert found["odd"] == json.loads(text)


def test_json_within_the_limits_is_not_converted(engine: Engine) -> None:
    """Every engine can store this document."""
    receipt = load(engine, [raw_page(odd=json.dumps({"a": [1, 2.5, {"b": None}]}))])
    assert receipt.tables["conversations"] == LoadedTable(inserted=1)


# Names of indexes


@pytest.mark.dialects("postgres", "sqlite")  # dialects that name indexes
def test_long_prefixes_have_their_own_indexes(engine: Engine) -> None:
    """Two prefixes that differ only at the end do not share an index name."""
    limit = engine.fresh_dialect.capabilities.max_identifier_bytes - len("rejected_conversations") - 1
    prefixes = [f"{'p' * limit}{end}" for end in "ab"]
    for prefix in prefixes:
        load(
            engine,
            [page(conversation("a"))],
            namespace=Namespace(engine.schema, prefix),
            disposition="append",
        )
    if engine.dialect == "postgres":
        found = engine.rows(f"SELECT tablename FROM pg_indexes WHERE schemaname = '{engine.schema}'")
    else:
        found = engine.rows("SELECT tbl_name FROM sqlite_master WHERE type = 'index'")
    counts = [sum(str(name).startswith(prefix) for (name,) in found) for prefix in prefixes]
    assert counts[0] == counts[1] > 0
