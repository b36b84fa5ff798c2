"""The cost of a merge into SQLite, in steps of its virtual machine."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.conversations import conversation
from tests.support.databases import sqlite_engine
from tests.support.exporting import DAY, NOW, export_pages, page
from tests.support.run_load import readings
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.transform import TABLES


def steps_of_a_merge(conversations: int, folder: Path) -> int:
    """Load, then load a later reading of the same; return the thousands of steps that it took."""
    folder.mkdir()
    engine = sqlite_engine(folder)
    taken: list[None] = []

    def counted() -> Any:
        connection = engine.connect()
        connection.set_progress_handler(lambda: taken.append(None), 1_000)
        return connection

    for hours, pages in enumerate(readings(conversations).values()):
        taken.clear()
        at = NOW + timedelta(hours=hours)
        target = engine.destination(disposition="replace", connect=counted)
        export_pages(pages, Path(), exported_at=at, target=target, tables=TABLES)
    return len(taken)


def test_merge_cost_is_linear_in_the_number_of_rows(tmp_path: Path) -> None:
    """Comparing each row with every other one would be quadratic."""
    few, many = steps_of_a_merge(500, tmp_path / "few"), steps_of_a_merge(2_000, tmp_path / "many")
    assert few > 0
    assert many < 6 * few


def test_exports_and_pending_are_read_while_another_connection_writes(tmp_path: Path) -> None:
    """Reading a file does not wait for a load into it."""
    engine = sqlite_engine(tmp_path)
    export_pages(
        [page(conversation("a"))], Path(), exported_at=NOW, target=engine.destination(), tables=TABLES
    )
    with closing(engine.connect()) as writer:
        writer.execute("BEGIN IMMEDIATE")
        (found,) = engine.destination().exports()
        pending = engine.destination().find_pending(DAY, timedelta(days=3))
    assert found.rows == 1
    assert pending == PendingConversations()
