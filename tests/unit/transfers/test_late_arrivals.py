"""Late arrivals: conversations that end after their interval was exported, over many runs of the operator."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from voiceos_provider.emulator import Emulator, Fault, World
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
    """A path, and a server whose clock says when each export runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = START
        # Some last longer than an interval, and a few are stuck for ever.
        self.world = World(seed=4, conversations=600, start=START, end=INTERVALS[-1].end)
        self.emulator = Emulator(self.world, clock=lambda: self.now)

    def run(self, nth: int, **options: Any) -> dict[str, Any]:
        """Export an interval at the current time of the server."""
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
        """Export each interval right after it has ended."""
        receipts = []
        for nth, interval in enumerate(INTERVALS):
            self.now = interval.end + timedelta(seconds=5)
            receipts.append(self.run(nth, **options))
        return receipts

    def latest(self) -> set[str]:
        """Return the ids in the latest rows of the files."""
        rows = duckdb.sql(LATEST.format(self.path)).fetchall()
        assert {status for _, status, _ in rows} <= {"ended"}
        for id_, _, start in rows:  # whichever file it is in
            assert start <= self.world.created_at(id_) < start + STEP
        ids = [id_ for id_, _, _ in rows]
        assert len(ids) == len(set(ids))
        return set(ids)

    def copies(self) -> int:
        """Return the number of rows, copies included."""
        found = duckdb.sql(
            f"SELECT count(*) FROM read_parquet('{self.path}/conversations/*.parquet')"
        ).fetchone()
        assert found
        return int(found[0])

    def ended(self) -> set[str]:
        """Return the ids of conversations that have ended by now."""
        return set(self.world.ids(status="ended", now=self.now))


@pytest.fixture
def exports(tmp_path: Path, connect: Any) -> Iterator[Exports]:
    """Serve conversations that are not exported yet."""
    exports = Exports(tmp_path)
    with exports.emulator.serve() as url:
        connect(host=url, password=exports.emulator.token)
        yield exports


def test_without_carry_pending_late_arrivals_are_missing(exports: Exports) -> None:
    """The receipts name them."""
    receipts = exports.run_all(carry_pending=None)
    lost = exports.ended() - exports.latest()
    assert len(lost) > 50
    assert lost <= {id_ for receipt in receipts for id_ in receipt["pending_ids"]}


def test_each_late_arrival_is_exported_once(exports: Exports) -> None:
    """The first run after its end exports it. The last run names those that have not ended."""
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


@pytest.mark.slow
def test_any_run_can_be_repeated_in_any_order(exports: Exports) -> None:
    """The latest rows stay the same, or more conversations have ended; none is ever removed."""
    exports.run_all()
    exports.now = INTERVALS[-1].end + timedelta(minutes=40)
    exports.run(len(INTERVALS) - 1)
    whole = exports.latest()
    rng = random.Random(3)
    for nth in [*rng.sample(range(len(INTERVALS)), len(INTERVALS)), 3, 3, 0, 9]:
        exports.run(nth)
        assert exports.latest() == whole == exports.ended()


def test_a_skipped_interval_affects_no_other(exports: Exports) -> None:
    """Only its own conversations are missing, until it is exported."""
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


def test_a_conversation_that_never_ends_is_abandoned_and_named(
    exports: Exports, caplog: pytest.LogCaptureFixture
) -> None:
    """One receipt counts it, and its log names it."""
    stuck = set(exports.world.ids()) - set(exports.world.ids(status="ended"))
    early = stuck & set(exports.world.ids(created_before=INTERVALS[3].end))
    assert early, "this world has none that is stuck early on"
    with caplog.at_level(logging.WARNING):
        receipts = exports.run_all(carry_pending=timedelta(minutes=20))
    assert sum(receipt["abandoned"] for receipt in receipts) >= len(early)
    logged = [record.getMessage() for record in caplog.records if "carry_pending" in record.getMessage()]
    assert all(sum(id_ in message for message in logged) == 1 for id_ in early)
    requested = [request.path for request in exports.emulator.requests if request.path.count("/") == 2]
    assert all(requested.count(f"/conversations/{id_}") <= 5 for id_ in early)


def test_a_deleted_conversation_is_counted_and_not_requested_again(exports: Exports) -> None:
    """404 fails nothing."""
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
    requested = {request.path.rpartition("/")[2] for request in exports.emulator.requests}
    assert not requested & set(pending[:3])


def test_a_conversation_that_cannot_be_read_stays_pending(exports: Exports) -> None:
    """The export succeeds without it, and a later one requests it again."""
    exports.now = INTERVALS[0].end + timedelta(seconds=5)
    pending = set(exports.run(0)["pending_ids"])
    exports.emulator.faults.add(Fault.body(b"{}", status=403), on="conversation")
    exports.now = INTERVALS[1].end + timedelta(minutes=30)
    receipt = exports.run(1)
    assert (receipt["carried"], receipt["gone"]) == (0, 0)
    exports.emulator.faults.clear()
    assert exports.run(2)["carried"] > 0
    ended = exports.ended()
    assert pending & ended
    assert pending & ended <= exports.latest()


def test_with_all_states_a_late_arrival_has_a_second_row(exports: Exports) -> None:
    """Queries take the latest."""
    exports.run_all(status=None)
    exports.now = INTERVALS[-1].end + timedelta(minutes=40)
    exports.run(9, status=None)
    rows = duckdb.sql(LATEST.format(exports.path)).fetchall()
    assert {id_ for id_, _, _ in rows} == set(exports.world.ids())
    assert {id_ for id_, status, _ in rows if status == "ended"} == exports.ended()
    assert exports.copies() > len(rows)
