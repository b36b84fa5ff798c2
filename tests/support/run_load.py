"""One load in a separate process that reports each step, so that it can be killed at any of them.

Its process is forked from one that has imported all of this. It reports the existing rows, waits for a word, and loads.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.support.conversations import conversation
from tests.support.databases import Engine
from tests.support.exporting import emulate, export_pages, page, read_pages
from voiceos_provider.client.pages import RawPage
from voiceos_provider.load.plan import AUDIT_COLUMNS
from voiceos_provider.load.sql.dialect import STAMP, Dialect
from voiceos_provider.transform import TABLES

_SLOW_TO_IMPORT = {
    "clickhouse": "clickhouse_connect",
    "snowflake": "fakesnow",
    "bigquery": "google.cloud.bigquery",
}
for _engine in os.environ.get("ENGINES", "").split():
    with suppress(KeyError):
        import_module(_SLOW_TO_IMPORT[_engine])


def readings(many: int) -> dict[str, list[RawPage]]:
    """Return two readings of an interval with five conversations: the second adds one, drops one and changes two."""

    def spoken(number: int, reading: str) -> RawPage:
        says = reading if number % 5 in (2, 3) else "always"
        said = tuple(
            f"{says} {ordinal}" for ordinal in range(2 if says == "always" else 2 + len(reading) % 2)
        )
        return conversation(f"c{number:05}", said=said, agent_id=says)

    return {
        reading: [
            page(*(spoken(number, reading) for number in range(start, start + 100) if number % 5 != absent))
            for start in range(0, many, 100)
        ]
        for reading, absent in (("first", 0), ("second", 1))
    }


def run(arguments: dict[str, Any], test: Connection) -> None:
    """Load as the arguments say, and notify the test."""
    sys.modules["__main__"].__file__ = __file__  # without one, PySpark takes itself to be under test
    try:
        engine: Engine = arguments["engine"]()
        test.send(database_state(engine))
        if (reading := test.recv()) is not None:
            test.send(_load(engine, arguments, reading, test))
    except Exception:  # noqa: BLE001  the test shall see whatever it was
        test.send(traceback.format_exc())


def database_state(engine: Engine) -> dict[str, Any]:
    """Return the rows of each table without the time of their reading, the readings, and other tables."""
    there = {name.lower() for name in engine.tables()}
    found: dict[str, Any] = {}
    readings = set()
    for table in TABLES:
        rows = engine.read(table) if table.name in there else []
        if table.name == "conversations":
            readings = {row["_exported_at"] for row in rows}
        found[table.name] = [{name: row[name] for name in row if name not in AUDIT_COLUMNS} for row in rows]
    found["readings"] = readings
    found["others"] = there - {table.name for table in TABLES}
    return found


def _load(engine: Engine, arguments: dict[str, Any], reading: str, test: Connection) -> int:
    at: datetime = arguments["at"]
    if arguments.get("emulated"):
        pages = list(read_pages(emulate(arguments["conversations"]), page_size=100))
    else:
        pages = readings(arguments["conversations"])[reading]
    dialect = notifying(engine.dialect_for(f"{arguments['began']:{STAMP}}"), partial(_notify, test))
    test.send("begins")
    target = engine.destination(
        sleep=time.sleep,
        use_dialect=dialect,
        disposition=arguments.get("disposition", "merge"),
        lock_timeout=60,
    )
    return export_pages(pages, Path(), exported_at=at, target=target, tables=TABLES).exported


def _notify(test: Connection) -> None:
    test.send(time.monotonic())


def notifying(dialect: Dialect, notify: Callable[[], None]) -> Dialect:
    """Return a dialect that notifies before each statement and each batch of rows."""
    load_rows = dialect.load_rows

    def notified(do: Callable[..., Any], *arguments: Any) -> Any:
        notify()
        return do(*arguments)

    for name in ("run", "rows", "commit"):
        setattr(dialect, name, partial(notified, getattr(dialect, name)))

    def load_rows_notifying(namespace: Any, table: Any, rows: pa.RecordBatchReader) -> None:
        def pieces() -> Iterator[Any]:
            for batch in rows:
                notify()
                yield batch
            notify()

        load_rows(namespace, table, pa.RecordBatchReader.from_batches(rows.schema, pieces()))

    dialect.load_rows = load_rows_notifying  # type: ignore[method-assign]
    return dialect
