"""Loads into PostgreSQL that are killed at any moment, and a server that restarts during them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.support import databases
from tests.support.databases import Engine
from tests.support.exporting import NOW, emulate, export_pages, read_pages, truth
from tests.support.load_process import LoadProcess
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import CONVERSATIONS

KILLS = int(os.environ.get("KILLS", "6"))
CONVERSATIONS_IN_WORLD = 3_000


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """Yield a PostgreSQL that can be restarted."""
    with databases.postgres_server_to_restart() as server:
        yield server


def waiting(server: Any, hours: int) -> LoadProcess:
    """Return a load that has not started; its reading is this number of hours after `NOW`."""
    engine = partial(databases.postgres_engine, server.uri)
    at = NOW + timedelta(hours=hours)
    return LoadProcess(engine, at=at, emulated=True, conversations=CONVERSATIONS_IN_WORLD)


def database_state(engine: Engine) -> dict[str, Any]:
    """Return for each table the number of rows and the times of their readings."""
    names = {
        name
        for (name,) in engine.rows(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
    }
    if "conversations" not in names:
        assert names == set()
        return {}
    found: dict[str, Any] = {table.name: engine.count(table) for table in TABLES}
    found["read"] = sorted(
        at for (at,) in engine.rows(f"SELECT DISTINCT _exported_at FROM {engine.table(CONVERSATIONS)}")
    )
    return found


def test_killed_load_leaves_the_tables_unchanged_or_complete(server: Any) -> None:
    """This includes the first load, which creates them; the next load succeeds without repairs."""
    rng = random.Random(20261122)
    engine = databases.postgres_engine(server.uri)
    expected = len(truth(emulate(CONVERSATIONS_IN_WORLD)))
    whole = waiting(server, 0)
    began = time.monotonic()
    assert whole.start().finish() == expected
    undisturbed = time.monotonic() - began
    complete = database_state(engine) | {"read": None}
    for table in TABLES:
        engine.run(f"DROP TABLE {engine.table(table)}")
    before: dict[str, Any] = {}
    for number in range(1, KILLS + 1):
        loading = waiting(server, number).start()
        time.sleep(rng.uniform(0, undisturbed))
        loading.kill()
        _await_rollback(engine)
        after = database_state(engine)
        if after != before:
            assert after | {"read": None} == complete, number
            assert after["read"] == [NOW + timedelta(hours=number)], number
        before = after
    assert waiting(server, KILLS + 1).start().finish() == expected
    assert database_state(engine) == complete | {"read": [NOW + timedelta(hours=KILLS + 1)]}


def test_server_restart_during_a_load_ends_with_the_whole_export(server: Any) -> None:
    """The load loses its connection, waiting_loads, and restarts."""
    rng = random.Random(7)
    engine = databases.postgres_engine(server.uri)
    expected = len(truth(emulate(CONVERSATIONS_IN_WORLD)))
    for number in range(100, 103):
        loading = waiting(server, number).start()
        time.sleep(rng.uniform(0.1, 0.6))
        server.restart()
        assert loading.finish() == expected
        assert database_state(engine)["read"] == [NOW + timedelta(hours=number)]


def test_deadlock_is_retried(server: Any) -> None:
    """Another session and the load wait for each other; the load rolls back and restarts."""
    import threading

    import psycopg

    engine = databases.postgres_engine(server.uri)
    engine.run("CREATE SCHEMA IF NOT EXISTS deadlock")
    engine.schema = "deadlock"
    emulator = emulate(300)
    waits: list[float] = []

    def load(hours: int) -> None:
        at = NOW + timedelta(hours=hours)
        target = engine.destination(sleep=waits.append)
        export_pages(read_pages(emulator), None, exported_at=at, target=target, tables=TABLES)  # type: ignore[arg-type]

    load(0)
    with psycopg.connect(server.uri) as other:
        # The server ends the load, and not this session.
        other.execute("SET deadlock_timeout = '100s'")
        other.execute("UPDATE deadlock.conversations SET uri = uri")
        loading = threading.Thread(target=load, args=(1,))
        loading.start()
        # The load has written the messages when it waits for the conversations.
        waiting_loads = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE%'"
        )
        # Outside of a transaction, in which the result would not change.
        while engine.rows(waiting_loads) == [(0,)]:
            time.sleep(0.05)
        other.execute("LOCK TABLE deadlock.agent_configs IN ACCESS EXCLUSIVE MODE")
        other.commit()
        loading.join()
    assert len(waits) == 1
    assert engine.count(CONVERSATIONS) == len(truth(emulator))


def _await_rollback(engine: Engine) -> None:
    """Wait until the server has noticed that its client is gone."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    while engine.rows(others) != [(0,)]:
        time.sleep(0.02)
