"""A PostgreSQL that fails during a load: a lock, a conflict, a full disk.

Each time the tables are as before, the message says who can mend it, and no row is in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import databases
from tests.support.databases import Engine
from tests.support.exporting import NOW, emulate, export_pages, read_pages, truth
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.sql.session import Session
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import CONVERSATIONS

LATER = NOW + timedelta(hours=1)
DRIVERS = ("adbc", "psycopg", "psycopg2")


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    """Yield a PostgreSQL."""
    with databases.postgres_server() as uri:
        yield uri


@pytest.fixture(params=DRIVERS)
def engine(request: pytest.FixtureRequest, uri: str) -> Engine:
    """Return an empty schema of the server, through each driver."""
    engine = databases.postgres_engine(uri, driver=request.param)
    return databases.fresh_schema(engine, f"faults {request.param} {abs(hash(request.node.nodeid))}")


def load(engine: Engine, *, at: Any = NOW, waits: list[float] | None = None, **options: Any) -> None:
    """Load 300 conversations."""
    sleep = (lambda _: None) if waits is None else waits.append
    target = engine.destination(sleep=sleep, **options)
    export_pages(read_pages(emulate(300)), Path(), exported_at=at, target=target, tables=TABLES)


def database_state(engine: Engine) -> dict[str, Any]:
    """Return all rows of all tables."""
    return {table.name: engine.read(table) for table in TABLES}


def require_discreet(error: BaseException) -> None:
    """Check that neither the error nor its causes contain values of a row."""
    messages = [str(error)]
    while (error := error.__cause__ or error.__context__) is not None:  # type: ignore[assignment]
        messages.append(str(error))
    values = {row[name] for row in truth_rows() for name in ("id", "from_number", "to_number") if row[name]}
    assert not [value for value in values if any(value in text for text in messages)]


def truth_rows() -> list[dict[str, Any]]:
    """Return the conversations, as rows."""
    from voiceos_provider.load.memory import MemoryDestination

    memory = MemoryDestination()
    export_pages(read_pages(emulate(300)), Path(), exported_at=NOW, target=memory, tables=[CONVERSATIONS])
    assert memory.table is not None
    rows: list[dict[str, Any]] = memory.table.to_pylist()
    return rows


def test_lock_held_too_long_fails_the_load_and_changes_nothing(engine: Engine, uri: str) -> None:
    """The message names the table and the parameter; Airflow retries the task, and the load does not."""
    load(engine)
    before, waits = database_state(engine), list[float]()
    with psycopg.connect(uri) as other:
        other.execute(f"UPDATE {engine.table(CONVERSATIONS)} SET uri = 'mine'")
        with pytest.raises(
            VoiceOSDestinationError,
            match=r"(?s)write to the table .*conversations.*55P03.*held a lock for longer than lock_timeout",
        ) as refused:
            load(engine, at=LATER, waits=waits, lock_timeout=0.3)
        other.rollback()
    assert refused.value.retryable
    assert waits == []
    require_discreet(refused.value)
    assert database_state(engine) == before
    load(engine, at=LATER)
    assert {row["_exported_at"] for row in engine.read(CONVERSATIONS)} == {LATER}


def test_wait_for_another_export_is_limited(engine: Engine, uri: str) -> None:
    """All exports to a namespace share one lock."""
    load(engine)
    before = database_state(engine)
    other = engine.fresh_dialect
    other.open(psycopg.connect(uri))
    with closing(other):
        other.lock()
        with pytest.raises(
            VoiceOSDestinationError,
            match=r"(?s)wait for other loads into the same tables.*55P03.*lock_timeout",
        ) as refused:
            load(engine, at=LATER, lock_timeout=0.3)
    require_discreet(refused.value)
    assert database_state(engine) == before


def test_serialization_failure_is_retried_after_uneven_waits(
    engine: Engine, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SERIALIZABLE session changes what the load has read; the load restarts until it is alone."""
    load(engine)
    waits: list[float] = []
    dialect = type(engine.fresh_dialect)
    begin = dialect.begin
    remaining = [1, 2, 3]

    def serializable(self: Any) -> None:
        begin(self)
        self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    numbers = Session.numbers

    def interfering(self: Session, query: str) -> tuple[int, ...]:
        found = numbers(self, query)
        if "LEFT JOIN" in query and "conversation_costs" in query and remaining:
            number = remaining.pop()
            with psycopg.connect(uri) as other:
                other.execute(f"UPDATE {engine.table(CONVERSATIONS)} SET uri = 'changed {number}'")
        return found

    monkeypatch.setattr(dialect, "begin", serializable)
    monkeypatch.setattr(Session, "numbers", interfering)
    load(engine, at=LATER, waits=waits)
    assert len(waits) == 3
    assert (
        len({round(wait / 2**attempt, 6) for attempt, wait in enumerate(waits)}) == 3
    )  # random, and not only longer
    assert all(0.5 * 2**attempt <= wait <= 2**attempt for attempt, wait in enumerate(waits))
    rows = engine.read(CONVERSATIONS)
    assert len(rows) == len(truth(emulate(300)))
    assert not [row for row in rows if str(row["uri"]).startswith("changed")]
    assert {row["_exported_at"] for row in rows} == {LATER}


def test_permanent_conflict_fails_the_load_with_its_sqlstate(
    engine: Engine, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message gives the reason after eight attempts."""
    load(engine)
    before, waits = database_state(engine), list[float]()
    dialect = type(engine.fresh_dialect)
    begin = dialect.begin

    def refused(self: Any) -> None:
        begin(self)
        self.run(
            "DO $$ BEGIN RAISE serialization_failure USING MESSAGE = 'could not serialize access'; END $$"
        )

    monkeypatch.setattr(dialect, "begin", refused)
    with pytest.raises(VoiceOSDestinationError, match=r"SQLSTATE 40001\): could not serialize access"):
        load(engine, at=LATER, waits=waits)
    assert len(waits) == 7
    monkeypatch.undo()
    assert database_state(engine) == before


@contextmanager
def small_disk(owner: int) -> Iterator[Path]:
    """Yield a disk of 12 MB, which the server may write to."""
    folder = Path(tempfile.mkdtemp(prefix="voiceos-small-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=12m,uid={owner}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder)


def _can_mount() -> bool:
    """Return whether this machine lets us mount a disk."""
    try:
        with small_disk(0):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _fill(path: Path) -> None:
    """Fill a disk."""
    with suppress(OSError), path.open("wb", buffering=0) as filling:
        while True:
            filling.write(bytes(4096))


if _can_mount():  # which root may do, outside of most containers

    def test_full_disk_fails_the_load_and_changes_nothing(engine: Engine, uri: str) -> None:
        """The message names the server's disk; with free space a retry completes the export."""
        load(engine)
        before, waits = database_state(engine), list[float]()
        ((data,),) = engine.rows("SELECT current_setting('data_directory')")
        with small_disk(os.stat(str(data)).st_uid) as folder, psycopg.connect(uri, autocommit=True) as admin:
            name = f"small_{abs(hash(folder))}"
            admin.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
            for table in TABLES:
                admin.execute(f"ALTER TABLE {engine.table(table)} SET TABLESPACE {name}")
            _fill(folder / "filling")
            with pytest.raises(
                VoiceOSDestinationError, match=r"(?s)53100.*The server's disk is full"
            ) as refused:
                load(engine, at=LATER, waits=waits)
            assert refused.value.retryable
            assert waits == []
            require_discreet(refused.value)
            assert database_state(engine) == before
            (folder / "filling").unlink()
            load(engine, at=LATER)
            assert {row["_exported_at"] for row in engine.read(CONVERSATIONS)} == {LATER}
            for table in TABLES:
                admin.execute(f"DROP TABLE {engine.table(table)}")
            admin.execute(f"DROP TABLESPACE {name}")
