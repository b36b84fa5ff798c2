"""Counters of receipts after kills, resumes and changes of state."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.exporting import DATA, MANIFEST, export_pages, page
from voiceos_provider.client.pages import RawPage
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSServerError
from voiceos_provider.load.receipt import ExportReceipt, ReadCounts
from voiceos_provider.load.workdir import ResumableWorkDir

LIVES = ["queued", "started", "ended"]
STATUSES = st.sampled_from([(), ("ended",), ("ended", "started")])
SEEN = st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 2))
"""A conversation on a page, and its progress since it was last listed."""

ATTEMPTS = st.lists(st.lists(st.lists(SEEN, max_size=4), max_size=4), min_size=1, max_size=3)
"""Pages of each attempt; all attempts but the last are killed after them."""


def attempt(
    root: Path, workdir: Path, statuses: tuple[str, ...], pages: list[RawPage], *, killed: bool
) -> ExportReceipt:
    """Run one attempt of an export, which saves a checkpoint after every page."""

    def read() -> Iterator[RawPage]:
        yield from pages
        if killed:
            raise VoiceOSServerError("killed")

    hours = itertools.count(0, 3_600)
    return export_pages(
        read(),
        root,
        statuses=statuses,
        workdir=ResumableWorkDir(workdir),
        monotonic=lambda: float(next(hours)),
    )


@settings(max_examples=40)
@given(attempts=ATTEMPTS, statuses=STATUSES)
def test_each_conversation_is_counted_once(
    attempts: list[list[list[tuple[str, int]]]], statuses: tuple[str, ...]
) -> None:
    """Listed = exported + filtered + pending + rejected + duplicates, and no id is both exported and pending."""
    seen: dict[str, int] = {}
    listed = 0
    with tempfile.TemporaryDirectory() as folder:
        root, workdir = Path(folder) / "exports", ResumableWorkDir.create()
        for number, pages in enumerate(attempts):
            raw, last = [], number == len(attempts) - 1
            for items in pages if last else pages[:1]:  # a checkpoint holds the first one
                listed += len(items)
                on_page = []
                for id_, steps in items:
                    seen[id_] = min(seen.get(id_, -1) + steps, 2)
                    on_page.append({"id": id_, "status": LIVES[seen[id_]]})
                raw.append(page(*on_page))
            if not last:
                with pytest.raises(VoiceOSServerError):
                    attempt(root, workdir, statuses, raw, killed=True)
            else:
                receipt = attempt(root, workdir, statuses, raw, killed=False)
        rows = pq.read_table(root / f"{DATA}.parquet", columns=["id", "status"]).to_pylist()
        manifest = json.loads((root / MANIFEST).read_text())
    status_of = {row["id"]: row["status"] for row in rows}
    assert len(rows) == len(status_of) == receipt.exported
    assert status_of == {
        id_: LIVES[state] for id_, state in seen.items() if not statuses or LIVES[state] in statuses
    }
    assert receipt.pending == len(receipt.pending_ids) == len(set(receipt.pending_ids))
    assert {*receipt.pending_ids} == seen.keys() - status_of.keys()
    assert {*receipt.unfinished_ids} == {id_ for id_, status in status_of.items() if status != "ended"}
    assert receipt.filtered == receipt.rejected == 0
    assert receipt.duplicates == receipt.listed - len(seen)
    assert receipt.listed == listed
    assert manifest == receipt.as_dict()


def test_inconsistent_counters_are_rejected() -> None:
    """A listed conversation that no other counter includes is lost."""
    reading = ReadCounts(
        interval_start="", interval_end="", status=None, exported_at="", listed=3, filtered=1
    )
    with pytest.raises(
        VoiceOSExportError, match=r"3 conversations were listed, but 1 exported, 0 duplicates"
    ):
        ExportReceipt.of(reading, exported=1, replaced=0, target="x")
    assert ExportReceipt.of(reading, exported=1, replaced=1, target="x").duplicates == 1


def test_summary_truncates_long_lists_of_ids_and_the_manifest_does_not() -> None:
    """XCom and asset events have limits."""
    ids = [f"{n}" for n in range(1_500)]
    reading = ReadCounts(
        interval_start="", interval_end="", status=None, exported_at="", listed=1_500, pending=1_500,
        pending_ids=ids, unfinished_ids=ids, resolved_ids=ids,
    )  # fmt: skip
    receipt = ExportReceipt.of(reading, exported=0, replaced=0, target="x")
    for name in ("pending_ids", "unfinished_ids", "resolved_ids"):
        assert receipt.summary()[name] == ids[:1_000]
        assert receipt.as_dict()[name] == ids
