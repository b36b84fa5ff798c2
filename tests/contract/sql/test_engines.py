"""Guarantees of an export to any database."""

from __future__ import annotations

import os
import shlex
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.conversations import conversation
from tests.support.databases import Engine, duckdb_engine, plain
from tests.support.exporting import DAY, NOW, emulate, export_pages, page, read_pages
from voiceos_provider.client.pages import RawPage
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.load.receipt import ExportReceipt, LoadedTable
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.load.workdir import DamagedWorkDirError, WorkDir
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.transform import TABLES, Table
from voiceos_provider.transform.schema import (
    AGENT_CONFIGS,
    CONVERSATION_COSTS,
    CONVERSATION_MESSAGES,
    CONVERSATIONS,
)

LATER = NOW + timedelta(hours=1)
NEXT_DAY = Interval(DAY.end, DAY.end + timedelta(days=1))
HOUR = Interval(DAY.start + timedelta(hours=10), DAY.start + timedelta(hours=11))


def load(
    engine: Engine,
    pages: Iterable[RawPage],
    *,
    at: datetime = NOW,
    interval: Interval = DAY,
    tables: tuple[Table, ...] = TABLES,
    **options: Any,
) -> ExportReceipt:
    """Export as the operator does."""
    exporting = {name: options.pop(name) for name in ("max_bad_records", "workdir") if name in options}
    target = engine.destination(**options)
    return export_pages(pages, interval=interval, exported_at=at, target=target, tables=tables, **exporting)


def expected(
    pages: Iterable[RawPage], table: Table, *, at: datetime = NOW, dialect: str
) -> list[dict[str, Any]]:
    """Return the rows that an export of these pages to memory makes."""
    memory = MemoryDestination()
    export_pages(pages, Path(), exported_at=at, target=memory, tables=[table])
    assert memory.table is not None
    rows = [
        {c.name: plain(c, row[c.name], dialect) for c in table.columns} for row in memory.table.to_pylist()
    ]
    return sorted(rows, key=lambda row: [row[name] for name in table.key])


def ids(engine: Engine, namespace: Namespace | None = None) -> list[str]:
    """Return the ids of the conversations in the table, with repetitions."""
    return sorted(
        str(id_) for (id_,) in engine.rows(f"SELECT id FROM {engine.table(CONVERSATIONS, namespace)}")
    )


def test_first_load_holds_every_value_of_every_table(engine: Engine) -> None:
    """No value is rounded, shifted or lost if the engine has a type for it."""
    emulator = emulate(300)
    receipt = load(engine, read_pages(emulator))
    for table in TABLES:
        rows = expected(read_pages(emulator), table, dialect=engine.dialect)
        assert engine.read(table) == rows
        assert receipt.tables[table.name] == LoadedTable(inserted=len(rows))
    assert receipt.exported == engine.count(CONVERSATIONS) > 50


def test_second_load_changes_nothing(engine: Engine) -> None:
    """A retry finds all rows unchanged."""
    emulator = emulate(120)
    first = load(engine, read_pages(emulator))
    before = {table.name: engine.read(table) for table in TABLES}
    again = load(engine, read_pages(emulator))
    assert {table.name: engine.read(table) for table in TABLES} == before
    assert again.tables == {
        name: LoadedTable(unchanged=loaded.inserted) for name, loaded in first.tables.items()
    }


def test_conversation_that_has_changed_is_updated(engine: Engine) -> None:
    """It ends later, with more messages and a cost; the other conversation is unchanged."""
    running = conversation("a", said=("Hello.",), status="started", ended_at=None, cost_breakdown=None)
    load(engine, [page(running, conversation("b"))])
    ended = [page(conversation("a", said=("Hello.", "Bye.", "Bye!")), conversation("b"))]
    receipt = load(engine, ended, at=LATER)
    assert receipt.tables["conversations"] == LoadedTable(updated=1, unchanged=1)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=2, unchanged=3)
    assert receipt.tables["conversation_costs"].inserted > 0
    assert receipt.tables["agent_configs"] == LoadedTable(unchanged=1)
    assert engine.read(CONVERSATIONS) == expected(ended, CONVERSATIONS, at=LATER, dialect=engine.dialect)
    said = [
        (row["conversation_id"], row["ordinal"], row["content"]) for row in engine.read(CONVERSATION_MESSAGES)
    ]
    assert said == [
        ("a", 1, "Hello."),
        ("a", 2, "Bye."),
        ("a", 3, "Bye!"),
        ("b", 1, "Hello."),
        ("b", 2, "Good bye."),
    ]


def test_removed_messages_and_costs_are_deleted(engine: Engine) -> None:
    """Rows of other conversations stay."""
    load(engine, [page(conversation("a", said=("1", "2", "3")), conversation("b"))])
    receipt = load(engine, [page(conversation("a", said=("1", "two"), cost_breakdown=None))], at=LATER)
    assert receipt.tables["conversation_messages"] == LoadedTable(updated=1, unchanged=1, deleted=1)
    assert [row["content"] for row in engine.read(CONVERSATION_MESSAGES)] == [
        "1",
        "two",
        "Hello.",
        "Good bye.",
    ]
    assert {row["conversation_id"] for row in engine.read(CONVERSATION_COSTS)} == {"b"}
    assert ids(engine) == ["a", "b"]


def test_older_reading_never_overwrites_a_newer_row(engine: Engine) -> None:
    """A delayed retry only inserts new conversations."""
    load(engine, [page(conversation("a", said=("new",)))], at=LATER)
    before = {table.name: engine.read(table) for table in (CONVERSATIONS, CONVERSATION_MESSAGES)}
    stuck = conversation("a", said=("old", "older"), status="started", ended_at=None)
    receipt = load(engine, [page(stuck, conversation("b", said=("mine",)))], at=NOW)
    assert receipt.tables["conversations"] == LoadedTable(inserted=1, outdated=1)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=1, outdated=2)
    for name, rows in before.items():
        table = next(table for table in TABLES if table.name == name)
        owner = "conversation_id" if "conversation_id" in table.schema.names else "id"
        assert [row for row in engine.read(table) if row[owner] == "a"] == rows


def test_conversation_on_the_edge_of_two_intervals_is_stored_once(engine: Engine) -> None:
    """Both intervals list it; the later reading owns it with its messages."""
    load(engine, [page(conversation("edge"))])
    receipt = load(
        engine, [page(conversation("edge", started_at="2026-11-02T00:00:00Z"))], at=LATER, interval=NEXT_DAY
    )
    assert receipt.tables["conversations"].updated == 1
    (row,) = engine.read(CONVERSATIONS)
    assert (row["_interval_start"], row["_exported_at"]) == (NEXT_DAY.start, LATER)
    assert engine.count(CONVERSATION_MESSAGES) == 2


def test_replacing_an_interval_leaves_exactly_the_new_rows(engine: Engine) -> None:
    """Conversations that the API no longer lists are deleted with their messages; other intervals stay."""
    load(engine, [page(conversation("gone"), conversation("kept"))])
    load(engine, [page(conversation("next", started_at="2026-11-02T10:00:00Z"))], interval=NEXT_DAY)
    receipt = load(engine, [page(conversation("kept"), conversation("new"))], at=LATER, disposition="replace")
    assert receipt.tables["conversations"] == LoadedTable(inserted=1, unchanged=1, deleted=1)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=2, unchanged=2, deleted=2)
    assert ids(engine) == ["kept", "new", "next"]
    assert {row["conversation_id"] for row in engine.read(CONVERSATION_MESSAGES)} == {"kept", "new", "next"}
    assert engine.count(AGENT_CONFIGS) == 1


def test_replacing_works_after_a_change_of_the_schedule(engine: Engine) -> None:
    """A day replaces its hours; an hour replaces its part of a day."""
    load(engine, [page(conversation("a"), conversation("b"))])
    load(engine, [page(conversation("a"))], at=LATER, interval=HOUR, disposition="replace")
    assert ids(engine) == ["a", "b"]
    assert {row["id"]: row["_interval_end"] for row in engine.read(CONVERSATIONS)} == {
        "a": HOUR.end,
        "b": DAY.end,
    }
    load(engine, [page(conversation("b"))], at=LATER + timedelta(hours=1), disposition="replace")
    assert ids(engine) == ["b"]
    assert {row["conversation_id"] for row in engine.read(CONVERSATION_MESSAGES)} == {"b"}


def test_replacing_with_nothing_empties_the_interval(engine: Engine) -> None:
    """Merging nothing changes nothing."""
    load(engine, [page(conversation("a"))])
    merged = load(engine, [page()], at=LATER)
    assert merged.tables["conversations"] == LoadedTable()
    assert ids(engine) == ["a"]
    replaced = load(engine, [page()], at=LATER, disposition="replace")
    assert replaced.tables["conversation_messages"] == LoadedTable(deleted=2)
    assert [engine.count(table) for table in TABLES] == [0, 0, 0, 1]


def test_only_the_newest_reading_replaces_an_interval(engine: Engine) -> None:
    """An older one fails, is retryable, and changes nothing, because it lacks later deletions."""
    load(engine, [page(conversation("a"))], at=LATER, disposition="replace")
    with pytest.raises(VoiceOSDestinationError, match="that a later export has read") as refused:
        load(engine, [page(conversation("a"), conversation("deleted since"))], at=NOW, disposition="replace")
    assert refused.value.retryable
    assert ids(engine) == ["a"]


def test_appending_repeats_rows_but_no_configuration(engine: Engine) -> None:
    """`_exported_at` distinguishes the rows of each export."""
    for at in (NOW, LATER):
        receipt = load(engine, [page(conversation("a"), conversation("b"))], at=at, disposition="append")
        assert receipt.tables["conversations"] == LoadedTable(inserted=2)
    assert ids(engine) == ["a", "a", "b", "b"]
    assert engine.count(CONVERSATION_MESSAGES) == 8
    assert engine.count(AGENT_CONFIGS) == 1


def test_merging_into_appended_tables_is_rejected(engine: Engine) -> None:
    """Several rows have one key, so nothing is written."""
    for at in (NOW, LATER):
        load(engine, [page(conversation("a"))], at=at, disposition="append")
    with pytest.raises(VoiceOSExportError, match="several rows with one"):
        load(engine, [page(conversation("a"))], at=LATER + timedelta(hours=1))
    assert ids(engine) == ["a", "a"]


def test_a_subset_of_the_tables_follows_the_same_rules(engine: Engine) -> None:
    """Without `conversations`, each table keeps its own row versions."""
    some = (CONVERSATION_MESSAGES,)
    load(engine, [page(conversation("a", said=("1", "2", "3")), conversation("b"))], at=LATER, tables=some)
    receipt = load(engine, [page(conversation("a", said=("old",)))], at=NOW, tables=some)
    assert receipt.tables == {"conversation_messages": LoadedTable(outdated=1)}
    latest = LATER + timedelta(hours=1)
    receipt = load(
        engine, [page(conversation("a", said=("1",)))], at=latest, tables=some, disposition="replace"
    )
    assert receipt.tables == {"conversation_messages": LoadedTable(unchanged=1, deleted=4)}
    assert [row["content"] for row in engine.read(CONVERSATION_MESSAGES)] == ["1"]
    assert engine.fresh_dialect is not None


def test_table_added_later_is_filled_from_then_on(engine: Engine) -> None:
    """An older reading does not fill it with rows that the other tables reject."""
    load(engine, [page(conversation("a"))], at=LATER, tables=(CONVERSATIONS,))
    receipt = load(engine, [page(conversation("a", said=("old",)), conversation("b"))], at=NOW)
    assert receipt.tables["conversation_messages"] == LoadedTable(inserted=2, outdated=1)
    assert {row["conversation_id"] for row in engine.read(CONVERSATION_MESSAGES)} == {"b"}


def test_two_loads_at_once_keep_each_conversation_once(engine: Engine) -> None:
    """Both succeed in any order, and the later reading remains."""
    emulator = emulate(120)
    pages = list(read_pages(emulator))
    failures: list[BaseException] = []
    start = threading.Barrier(2)

    def run(at: datetime) -> None:
        try:
            start.wait(timeout=30)
            load(engine, pages, at=at)
        except BaseException as error:  # noqa: BLE001  the test shall see whatever it was
            failures.append(error)

    for _ in range(3):
        threads = [threading.Thread(target=run, args=(at,)) for at in (NOW, LATER)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert engine.read(CONVERSATIONS) == expected(pages, CONVERSATIONS, at=LATER, dialect=engine.dialect)
        assert engine.count(CONVERSATION_MESSAGES) == len(
            expected(pages, CONVERSATION_MESSAGES, dialect=engine.dialect)
        )


def test_missing_column_is_added(engine: Engine) -> None:
    """New rows have values, and older rows have none."""
    load(engine, [page(conversation("a"))])
    column = engine.fresh_dialect.quote("uri")
    engine.run(f"ALTER TABLE {engine.table(CONVERSATIONS)} DROP COLUMN {column}")
    load(engine, [page(conversation("b"))], at=LATER)
    assert {row["id"]: row["uri"] is None for row in engine.read(CONVERSATIONS)} == {"a": True, "b": False}


def test_user_defined_column_is_unchanged(engine: Engine) -> None:
    """Updated rows keep its value, unless the engine has to insert them again: then it has its default."""
    load(engine, [page(conversation("a"), conversation("b"))])
    table, note = engine.table(CONVERSATIONS), engine.fresh_dialect.quote("my note")
    engine.run(
        f"ALTER TABLE {table} ADD COLUMN {note} {engine.fresh_dialect.capabilities.types['count'].name} DEFAULT 6"
    )
    inserts_anew = engine.dialect in ("generic", "clickhouse")
    if not inserts_anew:
        engine.run(f"UPDATE {table} SET {note} = 7")
    load(engine, [page(conversation("a", status="started"), conversation("b"))], at=LATER)
    noted = 6 if inserts_anew else 7
    assert sorted(engine.rows(f"SELECT id, {note}, status FROM {table}")) == [
        ("a", noted, "started"),
        ("b", noted, "ended"),
    ]


def test_without_permission_to_create_the_error_names_what_is_missing(engine: Engine) -> None:
    """A table or a column is missing, and the API is not read."""
    with pytest.raises(VoiceOSError, match=r"(?i)conversations") as refused:
        load(engine, [], create=False, namespace=Namespace(engine.schema, "my_"), max_bad_records=1)
    schema = ["--schema", engine.schema] if engine.schema else []
    command = ["voiceos", "ddl", engine.dialect, *schema, "--table-prefix", "my_", "--rejected"]
    assert str(refused.value).endswith(shlex.join(command))
    load(engine, [page(conversation("a"))])
    engine.run(f"ALTER TABLE {engine.table(CONVERSATIONS)} DROP COLUMN {engine.fresh_dialect.quote('uri')}")
    with pytest.raises(VoiceOSError, match=r"(?i)the column .*uri.*create_tables=False"):
        load(engine, [page(conversation("b"))], create=False)
    assert ids(engine) == ["a"]


def test_failed_export_leaves_the_tables_unchanged(engine: Engine) -> None:
    """It has read a page and staged its rows."""
    load(engine, [page(conversation("a"))])
    before = {table.name: engine.read(table) for table in TABLES}

    def pages() -> Iterable[RawPage]:
        yield page(conversation("a", said=()), conversation("b"))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        load(engine, pages(), at=LATER)
    assert {table.name: engine.read(table) for table in TABLES} == before


class UnreachableError(OSError):
    """An error as `requests` raises it."""


def test_network_failure_is_not_taken_for_a_full_disk(engine: Engine) -> None:
    """The load waits and restarts; the final error names the engine."""
    cuts: list[int] = []
    waits: list[float] = []

    def connect() -> Any:
        cuts.append(1)
        if len(cuts) == 2:  # after the last page
            raise UnreachableError("reset")
        return engine.connect()

    load(engine, [page(conversation("a"))], connect=connect, sleep=waits.append)
    assert len(waits) == 1
    assert ids(engine) == ["a"]

    def cut() -> Any:
        raise UnreachableError("reset")

    with pytest.raises(
        VoiceOSDestinationError,
        match=f"{engine.fresh_dialect.capabilities.title} refused to connect .UnreachableError",
    ):
        load(engine, [page(conversation("b"))], connect=cut, sleep=waits.append)


def test_damaged_local_file_is_not_blamed_on_the_engine(engine: Engine, tmp_path: Path) -> None:
    """The error names the file whatever the driver reports, and no row is visible."""

    class Here(WorkDir):
        @contextmanager
        def folder(self) -> Iterator[Path]:
            yield tmp_path

    load(engine, [page(conversation("a"))])
    opened: list[int] = []

    def connect() -> Any:
        opened.append(1)
        if len(opened) == 2:
            os.truncate(tmp_path / "conversation_messages.arrow", 100)
        return engine.connect()

    pages = [page(*(conversation(f"b{number}") for number in range(50)))]
    with pytest.raises(DamagedWorkDirError, match=r"conversation_messages.arrow .*TMPDIR"):
        load(engine, pages, at=LATER, connect=connect, workdir=Here())
    assert len(opened) == 2
    assert ids(engine) == ["a"]


REFUSING = {
    "postgres": (
        "CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'bad row for caller %', NEW.from_number USING ERRCODE = '42501'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {schema}.refuse()",
    ),
    "mysql": (
        "CREATE TRIGGER {schema}.refuse BEFORE INSERT ON {table} FOR EACH ROW BEGIN "
        "DECLARE said TEXT DEFAULT CONCAT('bad row for caller ', NEW.from_number); "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = said; END",
    ),
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN "
        "SELECT RAISE(ABORT, 'no such caller: +15550001111'); END",
    ),
    "duckdb": ("CREATE UNIQUE INDEX refuse ON {table} (from_number)",),
    "clickhouse": ("ALTER TABLE {table} ADD CONSTRAINT refuse CHECK from_number IS NULL",),
}
"""Statements that make an engine quote a value of a row: a trigger, where the engine has them."""


def test_row_that_the_engine_quotes_is_not_repeated(engine: Engine) -> None:
    """Neither the error nor its causes quote it; the error names the engine."""
    statements = REFUSING.get("postgres" if engine.dialect in ("generic", "redshift") else engine.dialect, ())
    load(engine, [page()])
    namespace = {
        "table": engine.table(CONVERSATIONS),
        "schema": engine.fresh_dialect.quote(str(engine.schema)),
    }
    for statement in statements:
        engine.run(statement.format(**namespace))
    caller = {"phone_call": {"from_number": "+15550001111", "to_number": "+15550002222"}}
    pages = [page(*(conversation(id_, **caller) for id_ in "ab"))]
    if not statements:  # an emulator without triggers and constraints
        load(engine, pages)
        return
    with pytest.raises(
        VoiceOSError, match=f"(?s)^{engine.fresh_dialect.capabilities.title} refused to .*conversations"
    ) as refused:
        load(engine, pages)
    reported = "".join(traceback.format_exception(refused.value))
    assert "5550001111" not in reported
    assert engine.count(CONVERSATIONS) == 0


def test_tables_of_an_attached_database_are_ignored(tmp_path: Path) -> None:
    """A DuckDB connection may attach other files with tables of the same names."""
    import duckdb

    from voiceos_provider.load.sql import ddl

    engine, other = duckdb_engine(tmp_path), tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as file:
        file.execute(ddl("duckdb"))

    def connect() -> Any:
        connection = duckdb.connect(str(tmp_path / "voiceos.duckdb"))
        connection.execute(f"ATTACH IF NOT EXISTS '{other}' AS other")
        return connection

    load(engine, [page(conversation("a"))], connect=connect)
    assert ids(engine) == ["a"]
    with duckdb.connect(str(other)) as file:
        assert file.execute("SELECT count(*) FROM conversations").fetchall() == [(0,)]


def test_odd_names_are_quoted(engine: Engine) -> None:
    """A prefix from a template can name a table, and cannot inject SQL."""
    namespace = Namespace(engine.schema, "x\"'`; DROP Ä %s \\")
    load(engine, [page(conversation("a"))], namespace=namespace)
    load(engine, [page(conversation("b"))], at=LATER, namespace=namespace, disposition="replace")
    assert ids(engine, namespace) == ["b"]


def test_invalid_values_arrive_unchanged(engine: Engine) -> None:
    """Quotes, separators, escapes, other alphabets, emoji, and null beside the empty text are equal afterwards."""
    said = (
        "",
        " ",
        "'\"`\\",
        "a\tb\r\nc",
        "\\N",
        "\\.",
        "NULL",
        "日本語 👋🏽",
        "{};--%s?",
        "\x01\x7f",
        "null\ufffd",
    )
    odd = conversation("a", said=said, odd={"nested": ["\\", '"', "\n", None, 0.1]}, agent_id="")
    load(engine, [page(odd)])
    assert [row["content"] for row in engine.read(CONVERSATION_MESSAGES)] == list(said)
    (row,) = engine.read(CONVERSATIONS)
    assert row["extra"] == {"odd": {"nested": ["\\", '"', "\n", None, 0.1]}}
    assert row["agent_id"] == ""
    again = load(
        engine,
        [page(conversation("a", said=said, odd={"nested": ["\\", '"', "\n", None, 0.1]}, agent_id=""))],
    )
    assert again.tables["conversation_messages"] == LoadedTable(unchanged=len(said))
    assert again.tables["conversations"] == LoadedTable(unchanged=1)


def test_ids_are_distinguished_by_every_letter(engine: Engine) -> None:
    """Case and accents count, and so does every character of a long id."""
    odd = ["a", "A", "á", "ä", "z" * 200]
    load(engine, [page(*map(conversation, odd))])
    receipt = load(engine, [page(*map(conversation, odd))], at=LATER)
    assert receipt.tables["conversations"] == LoadedTable(unchanged=len(odd))
    assert ids(engine) == sorted(odd)


def test_conversations_without_a_key_are_set_aside(engine: Engine) -> None:
    """A separate table keeps up to the allowed number, from the latest export of the interval."""
    from voiceos_provider.load.plan import REJECTED

    nameless = conversation("") | {"id": None}
    with pytest.raises(VoiceOSExportError, match="max_bad_records=0"):
        load(engine, [page(conversation("a"), nameless)])
    receipt = load(engine, [page(conversation("a"), nameless, nameless)], max_bad_records=2)
    assert (receipt.rejected, receipt.tables["rejected_conversations"].inserted) == (2, 2)
    (reason, *_), *_ = ((row["reason"], row["conversation"]["type"]) for row in engine.read(REJECTED))
    assert reason == "no usable id"
    receipt = load(engine, [page(conversation("a"), nameless)], at=LATER, max_bad_records=2)
    assert receipt.tables["rejected_conversations"] == LoadedTable(unchanged=1, deleted=1)
    assert engine.count(REJECTED) == 1


def test_printed_ddl_creates_the_tables_of_an_export(engine: Engine) -> None:
    """Teams that create tables themselves run it, and load with `create_tables=False`."""
    from voiceos_provider.load.sql import ddl

    namespace = Namespace(engine.schema, "own_")
    printed = ddl(engine.dialect, schema=namespace.schema, table_prefix=namespace.prefix, rejected=True)
    engine.run(*(statement for statement in engine.understood(printed).split(";\n") if statement.strip()))
    pages = [page(conversation("a"), conversation("") | {"id": None})]
    receipt = load(engine, pages, namespace=namespace, create=False, max_bad_records=1)
    assert receipt.tables["conversations"] == LoadedTable(inserted=1)
    assert receipt.tables["rejected_conversations"] == LoadedTable(inserted=1)
    assert ids(engine, namespace) == ["a"]


def test_no_staging_table_is_left(engine: Engine) -> None:
    """Neither a completed nor a failed load leaves one."""
    load(engine, [page(conversation("a"))])
    load(engine, [page(conversation("a"))], at=LATER)
    with pytest.raises(VoiceOSError):
        load(engine, [page(conversation("a"))], at=NOW, disposition="replace")
    assert [name for name in engine.tables() if "_voiceos_" in name] == []


def test_no_staging_table_of_an_earlier_attempt_is_in_the_way(engine: Engine) -> None:
    """A lost connection leaves a table with the name that the next attempt uses."""
    dialect = engine.dialect_for("20261122120000000000")
    dialect.open(engine.connect())
    dialect.begin()
    dialect.create_staging_table(CONVERSATIONS, CONVERSATIONS.columns)
    dialect.commit()
    dialect.close()
    load(engine, [page(conversation("a"))], use_dialect=dialect)
    assert ids(engine) == ["a"]
    assert [name for name in engine.tables() if "_voiceos_" in name] == []


def test_times_are_instants(engine: Engine) -> None:
    """The offset that the API sends does not matter."""
    load(engine, [page(conversation("a", started_at="2026-11-01T12:00:00.123456+02:00"))])
    assert engine.read(CONVERSATIONS)[0]["started_at"] == datetime(2026, 11, 1, 10, 0, 0, 123456, tzinfo=UTC)


def test_exports_of_the_table_are_those_of_its_rows(engine: Engine) -> None:
    """Each interval has its rows, its pending conversations, its cost and its latest export."""
    assert engine.destination().exports() == []
    running = conversation("running", status="started", ended_at=None, cost_breakdown=None)
    load(engine, [page(running, conversation("a"), conversation("b"))])
    load(engine, [page(conversation("c"))], interval=NEXT_DAY, at=LATER)
    first, second = sorted(engine.destination().exports(), key=lambda export: export.interval.start)
    costs = [row["total_cost"] for row in engine.read(CONVERSATIONS) if row["_interval_start"] == DAY.start]
    assert (first.interval, first.rows, first.pending) == (DAY, 3, 1)
    assert first.cost == pytest.approx(float(sum(cost for cost in costs if cost is not None)))
    assert first.exported_at < second.exported_at == LATER
    assert (second.interval, second.rows, second.pending) == (NEXT_DAY, 1, 0)


def test_pending_rows_are_requested_until_they_end(engine: Engine) -> None:
    """Later intervals stop requesting conversations that have ended or are too old."""
    running = conversation("late", status="started", ended_at=None, cost_breakdown=None)
    stuck = conversation("stuck", status="queued", started_at=None, ended_at=None, cost_breakdown=None)
    assert engine.destination().find_pending(NEXT_DAY, timedelta(days=3)) == PendingConversations()
    load(engine, [page(running, stuck, conversation("done"))])
    assert engine.destination().find_pending(DAY, timedelta(days=3)) == PendingConversations()
    assert engine.destination().find_pending(NEXT_DAY, timedelta(days=3)) == PendingConversations(
        {"late": DAY, "stuck": DAY}
    )
    late_arrivals = LateArrivals(
        PendingConversations({"late": DAY}), lambda ids: ((id_, page(conversation(id_))) for id_ in ids)
    )
    target = engine.destination()
    receipt = export_pages(
        [], Path(), interval=NEXT_DAY, exported_at=LATER, target=target, late_arrivals=late_arrivals
    )
    assert receipt.tables["conversations"] == LoadedTable(updated=1)
    assert ids(engine) == ["done", "late", "stuck"]
    assert {row["_interval_start"] for row in engine.read(CONVERSATIONS)} == {DAY.start}
    # It was not created in the day that brought it, so replacing that day does not remove it.
    receipt = load(engine, [], interval=NEXT_DAY, at=LATER, disposition="replace")
    assert receipt.tables["conversations"] == LoadedTable()
    in_days = [Interval(DAY.start + timedelta(days=n), DAY.end + timedelta(days=n)) for n in range(6)]
    asked = [engine.destination().find_pending(day, timedelta(days=3)) for day in in_days]
    assert [tuple(due.ids) for due in asked] == [(), ("stuck",), ("stuck",), ("stuck",), (), ()]
    assert [due.abandoned for due in asked] == [(), (), (), (), ("stuck",), ()]
