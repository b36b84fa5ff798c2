"""Erasure of conversations from any database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.conversations import conversation
from tests.support.databases import Engine, duckdb_engine, quietly, sqlite_engine
from tests.support.erasing import find_below
from tests.support.exporting import DAY, NOW, export_pages, page
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.interval import Interval
from voiceos_provider.load.erasure import Erased, ErasedTable
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.load.plan import REJECTED
from voiceos_provider.load.sql.dialect import Dialect
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

LATER = NOW + timedelta(hours=1)
NEXT_DAY = Interval(DAY.end, DAY.end + timedelta(days=1))
ERASED = "call-7f3a's"
REJECTS = ({"id": None, "uri": f"/conversations/{ERASED}"}, {"id": None, "uri": "/conversations/other"})


def personal(*said: str, **fields: Any) -> dict[str, Any]:
    """Return the conversation to erase, the only one with its configuration."""
    made = conversation(ERASED, said=said or ("My name is Jane Roe.",), **fields)
    made["agent_config"]["prompt"] = "Prompt of Jane Roe."
    return made


def load(
    engine: Engine, *calls: dict[str, Any], at: Any = NOW, rejects: bool = False, **options: Any
) -> None:
    """Load conversations, and records without a usable id."""
    pages = [page(*calls, *(REJECTS if rejects else ()))]
    exporting = {"max_bad_records": len(REJECTS)} if rejects else {}
    target = engine.destination(**options)
    export_pages(pages, exported_at=at, target=target, tables=TABLES, **exporting)


def rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table."""
    return {table.name: engine.read(table) for table in TABLES}


def of_others(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that do not belong to the erased conversation."""
    return {
        name: [
            row
            for row in rows
            if ERASED not in (row.get("id"), row.get("conversation_id"))
            and row.get("prompt") != "Prompt of Jane Roe."
        ]
        for name, rows in found.items()
    }


def erase(engine: Engine, *ids: str, **options: Any) -> Erased:
    """Erase as the operator does."""
    return engine.destination(create=False, **options).erase(ids)


def test_erasing_leaves_exactly_the_other_conversations(engine: Engine) -> None:
    """Their messages, costs and configurations stay, and a second run finds nothing."""
    load(engine, conversation("a"), personal("one", "two"), conversation("b"), rejects=True)
    expected = of_others(rows(engine))
    erased = erase(engine, ERASED, "missing")
    assert rows(engine) == expected
    assert engine.count(REJECTED) == 1
    assert erased.found == {ERASED}
    assert dict(erased.tables) == {
        "conversations": ErasedTable(rows=1),
        "conversation_costs": ErasedTable(rows=5),
        "conversation_messages": ErasedTable(rows=2),
        "agent_configs": ErasedTable(rows=1),
        "rejected_conversations": ErasedTable(rows=1),
    }
    assert erase(engine, ERASED, "missing") == Erased()
    assert rows(engine) == expected


def test_configuration_stays_while_a_conversation_refers_to_it(engine: Engine) -> None:
    """It goes with the last one, and so do rows that were appended several times."""
    load(engine, conversation("a"), conversation("b"), personal(), disposition="append")
    load(engine, conversation("a"), at=LATER, disposition="append")
    assert AGENT_CONFIGS.name not in erase(engine, "a").tables
    assert erase(engine, "b", ERASED).tables[AGENT_CONFIGS.name] == ErasedTable(rows=2)
    assert all(not engine.count(table) for table in TABLES)


def test_erased_conversation_is_not_requested_as_pending(engine: Engine) -> None:
    """The next export with `carry_pending` finds only the other one."""
    running: dict[str, Any] = {"status": "started", "ended_at": None, "cost_breakdown": None}
    load(engine, personal(**running), conversation("waiting", **running))
    erase(engine, ERASED)
    due = engine.destination().find_pending(NEXT_DAY, timedelta(days=3))
    assert due == PendingConversations({"waiting": DAY})


def test_erasing_from_a_namespace_without_tables_creates_none(engine: Engine) -> None:
    """The result says that there are none."""
    assert erase(engine, ERASED) == Erased(exists=False)
    with engine.session() as dialect:
        assert [table.name for table in TABLES if dialect.existing_columns(table)] == []


def test_many_ids_are_erased_at_once(engine: Engine) -> None:
    """Several statements are used if one condition would be too long."""
    ids = [f"c{number:04}" for number in range(1_100)]
    load(engine, *(conversation(id_, said=(), cost_breakdown=None) for id_ in ids), conversation("kept"))
    assert erase(engine, *ids).found == {*ids}
    assert [row["id"] for row in engine.read(CONVERSATIONS)] == ["kept"]


class Killed(BaseException):
    """The simulated end of the process."""


def killed_after(dialect: Dialect, statements: int) -> Dialect:
    """Return a dialect that ends the process after a number of statements and commits, and then sends nothing."""
    remaining = statements

    def count(method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            nonlocal remaining
            remaining -= 1
            if remaining == -1:
                raise Killed
            return method(*arguments) if remaining >= 0 else []

        return counted

    for name in ("run", "rows", "commit"):
        setattr(dialect, name, count(getattr(dialect, name)))
    return dialect


@pytest.mark.slow
def test_killed_at_any_statement_another_erasure_completes(engine: Engine) -> None:
    """Meanwhile all rows exist, or without transactions some that no query reaches."""
    calls = [conversation("a"), personal()]
    load(engine, *calls, rejects=True)
    expected = of_others(rows(engine))
    for statements in range(0, 100, 3):
        load(engine, *calls, at=LATER, rejects=True)
        connections: list[Any] = []

        def connect(opened: list[Any] = connections) -> Any:
            opened.append(engine.connect())
            return opened[-1]

        try:
            erase(engine, ERASED, use_dialect=killed_after(engine.fresh_dialect, statements), connect=connect)
        except Killed:
            quietly(connections[0].close)  # as at the end of a process
            erase(engine, ERASED)
            assert _unversioned(rows(engine)) == _unversioned(expected)
            assert engine.count(REJECTED) == 1
        else:
            break
    assert 10 < statements < 99
    assert _unversioned(rows(engine)) == _unversioned(expected)


def _unversioned(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [{**row, "_exported_at": None} for row in rows] for name, rows in found.items()}


@pytest.mark.dialects("postgres", "sqlite", "mysql")
def test_erasure_waits_for_a_load(engine: Engine) -> None:
    """Both use one lock, and `lock_timeout` limits the wait."""
    load(engine, conversation("a"), personal())
    before = rows(engine)
    with engine.session() as other:
        other.begin()
        other.lock()
        with pytest.raises(VoiceOSDestinationError):
            erase(engine, ERASED, lock_timeout=1)
        other.rollback()
        other.unlock()
    assert rows(engine) == before
    assert erase(engine, ERASED).found == {ERASED}


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_file_has_no_byte_of_an_erased_conversation(tmp_path: Path, journal: str) -> None:
    """Neither free pages nor the log keep earlier versions."""
    engine = sqlite_engine(tmp_path)
    with closing(engine.connect()) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
    texts = ("an earlier version", "My name is Jane Roe.", "Prompt of Jane Roe.", "call-7f3a")
    load(engine, personal("an earlier version " * 300), conversation("a"))
    load(engine, personal(), at=LATER)
    expected = of_others(rows(engine))
    assert len(find_below(tmp_path, *texts)) >= len(texts) - 1
    with closing(engine.connect()) as reader:  # keeps the log of another journal mode
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        erase(engine, ERASED)
        assert find_below(tmp_path, *texts) == []
    assert rows(engine) == expected


def test_reader_that_keeps_deleted_rows_in_a_sqlite_file_is_an_error(tmp_path: Path) -> None:
    """The log cannot be emptied during a read transaction; a retry without it succeeds."""
    engine = sqlite_engine(tmp_path)
    with closing(engine.connect()) as connection:
        connection.execute("PRAGMA journal_mode = wal")
    load(engine, personal(), conversation("a"))
    with closing(engine.connect()) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conversations").fetchall()
        with pytest.raises(VoiceOSDestinationError, match="Close its connection, and erase again"):
            erase(engine, ERASED, lock_timeout=1)
    erase(engine, ERASED)
    assert find_below(tmp_path, "call-7f3a") == []


def test_copy_of_a_duckdb_file_has_no_byte_of_an_erased_conversation(tmp_path: Path) -> None:
    """DuckDB keeps deleted rows in its file; the documentation shows how to copy it."""
    import duckdb

    engine = duckdb_engine(tmp_path)
    load(engine, personal(), conversation("a"))
    (file,) = tmp_path.iterdir()
    erase(engine, ERASED)
    texts = ("My name is Jane Roe.", "Prompt of Jane Roe.", "call-7f3a")
    assert find_below(tmp_path, *texts)
    expected = rows(engine)
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{file}' AS old (READ_ONLY)")
        connection.execute(f"ATTACH '{tmp_path}/copy' AS new")
        connection.execute("COPY FROM DATABASE old TO new")
    (tmp_path / "copy").replace(file)
    assert find_below(tmp_path, *texts) == []
    assert rows(engine) == expected
