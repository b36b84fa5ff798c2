"""Counters of an export: conversations are counted once, however often and in whatever state they are listed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporting import DAY, NOW, export_options, export_pages, page
from voiceos_provider.client import RawPage
from voiceos_provider.interval import Interval
from voiceos_provider.load.checkpoint import Checkpoint, SpooledRows
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.pipeline.counters import Counters
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.pipeline.run import write_pages

EARLIER = Interval(DAY.start - timedelta(days=1), DAY.start)


def conversation(status: str, id_: str = "a") -> dict[str, Any]:
    """Return a conversation in this state."""
    return {"id": id_, "status": status}


def counts(receipt: ExportReceipt) -> tuple[int, int, int, int]:
    """Return how many were listed, exported, pending and duplicates."""
    return receipt.listed, receipt.exported, receipt.pending, receipt.duplicates


def test_a_conversation_listed_before_and_after_its_end_is_exported_and_not_pending() -> None:
    """Its earlier copies are duplicates, and no later interval requests it."""
    pages = [page(conversation(status)) for status in ("queued", "started", "ended")]
    receipt = export_pages(pages, target=MemoryDestination(), statuses=["ended"])
    assert counts(receipt) == (3, 1, 0, 2)
    assert receipt.pending_ids == []


def test_a_pending_conversation_listed_again_is_pending_once() -> None:
    """The receipt counts conversations, not listings."""
    receipt = export_pages(
        [page(conversation("started"))] * 3, target=MemoryDestination(), statuses=["ended"]
    )
    assert counts(receipt) == (3, 0, 1, 2)
    assert receipt.pending_ids == ["a"]


def test_conversation_listed_before_and_after_its_end_is_not_unfinished(tmp_path: Path) -> None:
    """With all states it is exported from the beginning, and its last copy counts."""
    started, ended = page(conversation("started")), page(conversation("ended"))
    assert export_pages([started], tmp_path / "started").unfinished_ids == ["a"]
    receipt = export_pages([started, ended], tmp_path / "both")
    assert counts(receipt) == (2, 1, 0, 1)
    assert receipt.unfinished_ids == []


@pytest.mark.parametrize("statuses", [(), ("ended",)])
def test_open_conversations_are_read_again_until_they_have_ended(statuses: tuple[str, ...]) -> None:
    """The reader drops a conversation that is listed again, except while its id is open."""
    options = export_options(tables=export_options().tables[:1], statuses=statuses)
    counters = Counters.resume(None, options, now=NOW)
    open_ids: list[bool] = []

    def pages() -> Iterator[RawPage]:
        for status in ("started", "ended", "ended"):
            yield page(
                conversation(status), *({"id": f"{status}{n}", "status": "ended"} for n in range(1_000))
            )
            open_ids.append(counters.is_open("a"))

    receipt = write_pages(pages(), MemoryDestination(), options, counters)
    # A pending conversation stays open: whether it has rows by now is known to the writer only.
    assert open_ids == ([True, True, True] if statuses else [True, False, False])
    assert receipt.pending == 0
    assert receipt.exported == 2_001


def test_progress_of_an_earlier_attempt_is_resumed() -> None:
    """What a checkpoint holds comes back equal, and ranges that meet are one."""
    options = export_options(statuses=["ended"])
    counters = Counters.resume(None, options, now=NOW)
    noon = DAY.start + timedelta(hours=12)
    counters.pending = {"b", "a"}
    counters.unfinished = {"c"}
    counters.covered = [Interval(noon, DAY.end), Interval(DAY.start, noon)]
    checkpoint = Checkpoint(read=counters.progress(), written=SpooledRows())
    resumed = Counters.resume(checkpoint, options, now=NOW + timedelta(hours=1))
    assert resumed.covered == [DAY]
    assert (resumed.pending, resumed.unfinished) == ({"a", "b"}, {"c"})
    assert resumed.exported_at == NOW
    assert resumed.reading == counters.reading


def test_late_arrivals_are_exported_if_they_have_ended(caplog: pytest.LogCaptureFixture) -> None:
    """One that is gone is counted; one that runs on or cannot be read is left to later exports."""
    found = {
        "ended": page(conversation("ended", "ended")),
        "running": page(conversation("started", "running")),
        "gone": RawPage((), (), False, requests=0),
        "unreadable": RawPage((), (), False, requests=0, unreadable=("unreadable",)),
    }
    due = PendingConversations(dict.fromkeys(found, EARLIER), abandoned=("old",))
    late_arrivals = LateArrivals(due, lambda ids: ((id_, found[id_]) for id_ in ids))
    target = MemoryDestination(columns=["id", "_interval_start"])
    receipt = export_pages([], target=target, late_arrivals=late_arrivals)
    assert target.table is not None
    assert target.table.to_pylist() == [{"id": "ended", "_interval_start": EARLIER.start}]
    assert (receipt.carried, receipt.gone, receipt.abandoned) == (1, 1, 1)
    assert receipt.resolved_ids == ["ended", "gone"]
    assert counts(receipt) == (1, 1, 0, 0)
    assert "are abandoned: old." in caplog.text
