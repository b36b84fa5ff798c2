"""Loads into lakes that are killed at any moment of their publication, and what their retries make of it."""

from __future__ import annotations

import multiprocessing
import random
import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.exporting import NOW, start_forkserver
from tests.support.lakes import LakeUnderTest
from tests.support.run_lake_load import run
from voiceos_provider.load.plan import AUDIT_COLUMNS
from voiceos_provider.transform import TABLES

pytestmark = pytest.mark.slow

KILLS = 5
DEPENDENT = [table.name for table in TABLES if table.name != "conversations"]


def load(
    lake: LakeUnderTest, reading: str, at: datetime, disposition: str, *, kill_after: float | None
) -> float:
    """Load in another process, and kill it some seconds after publication begins; return how long that took."""
    context = multiprocessing.get_context("forkserver")
    start_forkserver(context)
    here, there = context.Pipe()
    process = context.Process(target=run, args=(lake, reading, at, disposition, there), daemon=True)
    process.start()
    there.close()
    assert here.recv() == "publishing"
    began = time.monotonic()
    if kill_after is None:
        assert here.recv() == "done"
    else:
        here.poll(kill_after)
        process.kill()
    process.join()
    here.close()
    return time.monotonic() - began


def contents(lake: LakeUnderTest, *, versions: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table, without the columns of the export unless `versions` is set."""
    left_out = () if versions else AUDIT_COLUMNS
    return {
        table.name: [{name: row[name] for name in row if name not in left_out} for row in lake.read(table)]
        for table in TABLES
    }


def test_killed_at_any_moment_a_retry_completes_the_tables(lake: LakeUnderTest) -> None:
    """Meanwhile each table holds what was there before or all of it, and conversations come last."""
    rng = random.Random(20261127)
    at = NOW
    complete: dict[str, dict[str, Any]] = {}
    took = 0.0
    for reading in ("first", "second"):
        took = max(took, load(lake, reading, at, "replace", kill_after=None))
        complete[reading] = contents(lake)
        at += timedelta(hours=1)
    assert complete["first"] != complete["second"]
    before, reading, interrupted = complete["second"], "first", 0
    for number in range(KILLS):
        load(lake, reading, at, "replace", kill_after=(number + rng.random()) * took / KILLS)
        found = contents(lake)
        for name, rows in found.items():
            assert rows in (before[name], complete[reading][name]), name
        if found["conversations"] == complete[reading]["conversations"]:
            assert found == complete[reading]
        interrupted += found != complete[reading]
        at += timedelta(hours=1)
        load(lake, reading, at, "replace", kill_after=None)
        assert contents(lake) == complete[reading]
        before, reading = complete[reading], "second" if reading == "first" else "first"
        at += timedelta(hours=1)
    assert interrupted


def test_killed_at_any_moment_a_retry_appends_once(lake: LakeUnderTest) -> None:
    """The retry resumes with the checkpoint of the killed attempt, and so with its time."""
    rng = random.Random(20261127)
    took = load(lake, "first", NOW, "append", kill_after=None)
    appended = contents(lake, versions=True)
    keyed = {"agent_configs"}
    for number in range(KILLS):
        at = NOW + timedelta(hours=1 + number)
        load(lake, "first", at, "append", kill_after=(number + rng.random()) * took / KILLS)
        load(lake, "first", at, "append", kill_after=None)
        found = contents(lake, versions=True)
        for name, rows in appended.items():
            new = [row for row in found[name] if row["_exported_at"] == at]
            assert name in keyed or len(new) == len(rows) > 0, name
            assert len(found[name]) == (len(rows) if name in keyed else len(rows) * (number + 2)), name
