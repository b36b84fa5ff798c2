"""Loads that are killed at any moment, and their retries, on every engine.

What runs within the process dies with it, and has its tables in a file: DuckDB, SQLite, ClickHouse (chDB), and the
emulated Snowflake, whose transactions are DuckDB's. The others are servers, which notice that a client has gone.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.support.databases import Engine
from tests.support.exporting import NOW
from tests.support.load_process import LoadProcess
from voiceos_provider.transform import TABLES

KILLS = {"sqlite": 10, "duckdb": 6, "postgres": 4, "mariadb": 6}
"""Kills during each of the two loads, 3 for other engines; the environment variable `KILLS` sets another number."""

CONVERSATIONS = 200
NAMES = [table.name for table in TABLES]
NO_TRANSACTIONS = ("clickhouse", "databricks")
OTHER = {"first": "second", "second": "first"}

Elsewhere = Callable[[], Engine]


def rows(stands: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of a database state."""
    return {name: stands[name] for name in NAMES}


def require_promise(
    stands: dict[str, Any], before: dict[str, Any], after: dict[str, Any], dialect: str
) -> None:
    """Check what readers may rely on at any moment."""
    if dialect not in NO_TRANSACTIONS:
        assert rows(stands) in (rows(before), rows(after))
        assert len(stands["readings"]) <= 1
        return
    owned = [name for name in NAMES if "conversation_id" in (after[name] or before[name])[0]]
    for number, conversation in enumerate(stands["conversations"]):
        if conversation in after["conversations"] and conversation not in before["conversations"]:
            for name in owned:
                assert children(stands, name, conversation) == children(after, name, conversation), number


def children(stands: dict[str, Any], name: str, conversation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that belong to a conversation."""
    return [row for row in stands[name] if row["conversation_id"] == conversation["id"]]


def moments(lengths: list[float], kills: int, rng: random.Random) -> list[tuple[int, float]]:
    """Yield random moments spread over all steps of a load: the step, and the seconds after its start."""
    drawn = [(number + rng.random()) * len(lengths) / kills for number in range(kills)]
    return [(int(at), rng.random() * lengths[int(at)]) for at in drawn]


def test_killed_at_any_moment_a_retry_completes_the_tables(
    elsewhere: Elsewhere, measured: Elsewhere, dialect: str, reached: str
) -> None:
    """Kill a first load, then one that inserts, updates and deletes; each retry reads the same.

    Meanwhile readers see the state before or the complete new one; without transactions, no conversation of the new
    reading without its messages and costs.
    """
    rng, kills = random.Random(20261122), int(os.environ.get("KILLS", KILLS.get(reached, 3)))
    arguments = {"conversations": CONVERSATIONS, "disposition": "replace"}
    steps, empty = {}, None
    complete: dict[str, dict[str, Any]] = {}
    for hours, reading in enumerate(OTHER):
        whole = LoadProcess(measured, at=NOW + timedelta(hours=hours), **arguments)
        empty = empty or whole.existing
        assert whole.start(reading).finish() == CONVERSATIONS * 4 / 5
        steps[reading] = whole.steps
        complete[reading] = LoadProcess(measured, at=NOW).leave()
    assert empty is not None

    at, before, reading, killed = NOW, empty, "first", 0
    attempts = (NOW + timedelta(minutes=number) for number in itertools.count())
    for lengths in steps.values():
        for step, delay in moments(lengths, kills, rng):
            loading = LoadProcess(elsewhere, at=at, began=next(attempts), **arguments)
            if before is not empty:
                if rows(loading.existing) == rows(
                    complete[reading]
                ):  # the last one was killed after its commit
                    before, reading = complete[reading], OTHER[reading]
                at += timedelta(hours=1)
            require_promise(loading.existing, before, complete[reading], dialect)
            killed += loading.start(reading).kill_at(step, delay)
        at += timedelta(hours=1)
        LoadProcess(elsewhere, at=at, began=at + timedelta(days=2), **arguments).start(reading).finish()
        stands = LoadProcess(elsewhere, at=at).leave()
        assert rows(stands) == rows(complete[reading])
        assert stands["readings"] == {at}
        if dialect != "bigquery":  # where they expire after a day, which the emulator does not know
            assert not [name for name in stands["others"] if "_voiceos_" in name]
        before, reading = complete[reading], OTHER[reading]
    assert killed > kills
