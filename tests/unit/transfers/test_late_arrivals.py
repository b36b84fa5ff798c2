"""Conversations that end after their interval was exported, over many runs of the operator."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.interval import Interval
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

STEP = timedelta(minutes=5)
START = datetime(2026, 11, 2, 9, tzinfo=UTC)
INTERVALS = [Interval(START + STEP * nth, START + STEP * (nth + 1)) for nth in range(10)]
LATEST = """
    SELECT id, status, _interval_start FROM read_parquet('{}/conversations/*.parquet')
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY _exported_at DESC) = 1
"""


class Exports:
    """A path, and the server whose clock says when each export is run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = START
        # Some last longer than an interval, and a few are stuck for ever.
        self.world = World(seed=4, conversations=600, start=START, end=INTERVALS[-1].end)
        self.emulator = Emulator(self.world, clock=lambda: self.now)

    def run(self, nth: int, **options: Any) -> dict[str, Any]:
        """Export an interval at the time it is."""
        defaults: dict[str, Any] = {
            "status": "ended",
            "carry_pending": timedelta(hours=1),
            "visibility_delay": timedelta(0),
            "tables": ["conversations"],
        }
        receipt: dict[str, Any] = VoiceOSToObjectStorageOperator(
            task_id="export",
            path=str(self.path),
            interval_start=INTERVALS[nth].start,
            interval_end=INTERVALS[nth].end,
            **defaults | options,
        ).execute({})
        assert receipt["listed"] == sum(
            receipt[name] for name in ("exported", "duplicates", "filtered", "pending", "rejected")
        )
        return receipt

    def run_all(self, **options: Any) -> list[dict[str, Any]]:
        """Each right after its interval has ended."""
        receipts = []
        for nth, interval in enumerate(INTERVALS):
            self.now = interval.end + timedelta(seconds=5)
            receipts.append(self.run(nth, **options))
        return receipts

    def latest(self) -> set[str]:
        """The ids that readers of the files find, each once."""
        rows = duckdb.sql(LATEST.format(self.path)).fetchall()
        assert {status for _, status, _ in rows} <= {"ended"}
        for id_, _, start in rows:  # whichever file it is in
            assert start <= self.world.created_at(id_) < start + STEP
        ids = [id_ for id_, _, _ in rows]
        assert len(ids) == len(set(ids))
        return set(ids)

    def copies(self) -> int:
        """How many rows there are, of all ids."""
        found = duckdb.sql(
            f"SELECT count(*) FROM read_parquet('{self.path}/conversations/*.parquet')"
        ).fetchone()
        assert found
        return int(found[0])

    def ended(self) -> set[str]:
        """Whoever has ended by now."""
        return set(self.world.ids(status="ended", now=self.now))


@pytest.fixture
def exports(tmp_path: Path, connect: Any) -> Iterator[Exports]:
    """Nothing is exported yet."""
    exports = Exports(tmp_path)
    with exports.emulator.serve() as url:
        connect(host=url, password=exports.emulator.token)
        yield exports


def test_without_carrying_they_are_lost(exports: Exports) -> None:
    """Which is what carrying is for, and the receipt names them."""
    receipts = exports.run_all(carry_pending=None)
    lost = exports.ended() - exports.latest()
    assert len(lost) > 50
    assert lost <= {id_ for receipt in receipts for id_ in receipt["pending_ids"]}


def test_each_is_exported_once_by_the_run_that_finds_it_ended(exports: Exports) -> None:
    """But for those that end after the last one, which it names."""
    receipts = exports.run_all()
    latest = exports.latest()
    assert latest <= exports.ended()
    waiting = set(receipts[-1]["pending_ids"]) | (exports.ended() - latest)
    assert exports.copies() == len(latest)
    # One more interval, long after: only those that are stuck are left.
    exports.now = INTERVALS[-1].end + timedelta(minutes=40)
    later = exports.run(len(INTERVALS) - 1)
    assert later["carried"] > 0
    assert waiting & exports.ended() <= exports.latest()
    assert exports.latest() == exports.ended()
    assert exports.copies() == len(exports.latest())
    assert sum(receipt["carried"] for receipt in receipts) > 50


def test_pages_of_one_state_hide_no_late_arrival(exports: Exports) -> None:
    """The server's own filter would leave out those that have not ended, and no later run would know of them."""
    exports.run_all(read_strategy="pages")
    exports.now = INTERVALS[-1].end + timedelta(minutes=40)
    exports.run(len(INTERVALS) - 1, read_strategy="pages")
    assert exports.latest() == exports.ended()


def test_any_run_can_be_repeated_in_any_order(exports: Exports) -> None:
    """What readers find stays the same, or grows by those that have ended since; nothing is ever taken back."""
    exports.run_all()
    exports.now = INTERVALS[-1].end + timedelta(minutes=40)
    exports.run(len(INTERVALS) - 1)
    whole = exports.latest()
    rng = random.Random(3)
    for nth in [*rng.sample(range(len(INTERVALS)), len(INTERVALS)), 3, 3, 0, 9]:
        exports.run(nth)
        assert exports.latest() == whole == exports.ended()


def test_a_failed_day_is_made_good_by_those_after_it(exports: Exports) -> None:
    """A run that never was leaves a hole of its own, and no other."""
    for nth, interval in enumerate(INTERVALS):
        exports.now = interval.end + timedelta(seconds=5)
        if nth != 4:
            exports.run(nth)
    exports.now = INTERVALS[-1].end + timedelta(minutes=40)
    exports.run(9)
    hole = set(exports.world.ids(created_after=INTERVALS[4].start, created_before=INTERVALS[4].end))
    assert exports.ended() - exports.latest() == hole & exports.ended()
    exports.run(4)
    assert exports.latest() == exports.ended()


def test_who_never_ends_is_given_up_and_named(exports: Exports, caplog: pytest.LogCaptureFixture) -> None:
    """Once: in one receipt, and in its log."""
    stuck = set(exports.world.ids()) - set(exports.world.ids(status="ended"))
    early = stuck & set(exports.world.ids(created_before=INTERVALS[3].end))
    assert early, "this world has none that is stuck early on"
    with caplog.at_level(logging.WARNING):
        receipts = exports.run_all(carry_pending=timedelta(minutes=20))
    assert sum(receipt["abandoned"] for receipt in receipts) >= len(early)
    told = [record.getMessage() for record in caplog.records if "carry_pending" in record.getMessage()]
    assert all(sum(id_ in message for message in told) == 1 for id_ in early)
    asked = [request.path for request in exports.emulator.requests if request.path.count("/") == 2]
    assert all(asked.count(f"/conversations/{id_}") <= 5 for id_ in early)


def test_who_is_gone_is_counted_and_not_asked_for_again(exports: Exports) -> None:
    """404 is no failure."""
    exports.now = INTERVALS[0].end + timedelta(seconds=5)
    pending = exports.run(0)["pending_ids"]
    for id_ in pending[:3]:
        exports.world.delete(id_)
    exports.now = INTERVALS[1].end + timedelta(seconds=5)
    receipt = exports.run(1)
    assert receipt["gone"] == 3
    assert set(pending[:3]) <= set(receipt["resolved_ids"])
    exports.emulator.requests.clear()
    exports.now = INTERVALS[2].end + timedelta(seconds=5)
    assert exports.run(2)["gone"] == 0
    asked = {request.path.rpartition("/")[2] for request in exports.emulator.requests}
    assert not asked & set(pending[:3])


def test_with_every_state_a_late_ender_comes_a_second_time_as_it_ended(exports: Exports) -> None:
    """Readers take the latest."""
    exports.run_all(status=None)
    exports.now = INTERVALS[-1].end + timedelta(minutes=40)
    exports.run(9, status=None)
    rows = duckdb.sql(LATEST.format(exports.path)).fetchall()
    assert {id_ for id_, _, _ in rows} == set(exports.world.ids())
    assert {id_ for id_, status, _ in rows if status == "ended"} == exports.ended()
    assert exports.copies() > len(rows)
