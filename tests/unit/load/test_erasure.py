"""Erasure of conversations from files: nothing of them remains, and everything else stays as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.conversations import conversation
from tests.support.erasing import find_below
from tests.support.exporting import (
    DAY,
    ENCODINGS,
    MANIFEST,
    NOW,
    PARQUET,
    export_pages,
    files_below,
    page,
)
from tests.support.reading import LIBRARIES
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.coverage import compute_coverage
from voiceos_provider.load.erasure import Erased, ErasedTable
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.erasure import ErasableFiles
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.manifests import Manifests
from voiceos_provider.load.files.recordings import RecordingFiles
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.transform import TABLES

NEXT_DAY = Interval(DAY.end, DAY.end + timedelta(days=1))
ERASED = "call-7f3a"
TEXTS = (ERASED, "my name is Jane Roe", "+15557770123", "prompt of Jane Roe alone")
DUCKDB = LIBRARIES[0]


def personal() -> dict[str, Any]:
    """Return the conversation to erase, with texts that no other one has."""
    made = conversation(ERASED, said=("Hello.", 'my name is Jane Roe,\n "Jane"'))
    made["uri"] = f"/conversations/{ERASED}"
    made["phone_call"]["from_number"] = "+15557770123"
    made["agent_config"]["prompt"] = "prompt of Jane Roe alone"
    return made


def export(
    root: Path, *ids: str, interval: Interval = DAY, encoding: Encoding = PARQUET, **options: Any
) -> Any:
    """Export conversations below a folder."""
    started = (interval.start + timedelta(hours=10)).isoformat()
    calls = [personal() if id_ == ERASED else conversation(id_) for id_ in ids]
    pages = [page(*(call | {"started_at": started} for call in calls))]
    target = FilesDestination(root, encoding=encoding, layout=options.pop("layout", "flat"))
    return export_pages(pages, interval=interval, target=target, **options)


def rows(root: Path, encoding: Encoding = PARQUET) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table as a reader sees them, without those of the erased conversation."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        found[table.name] = []
        for file in sorted((root / table.name).rglob(f"*{encoding.suffix}")):
            # Elsewhere, where DuckDB makes no column of a folder's name.
            copy = shutil.copy(file, root.parent / f"copy{encoding.suffix}")
            found[table.name] += DUCKDB.rows(copy, encoding, table)
    return found


def others(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that belong to other conversations."""
    return {
        name: [
            row
            for row in rows
            if ERASED not in (row.get("id"), row.get("conversation_id"))
            and row.get("prompt") != "prompt of Jane Roe alone"
        ]
        for name, rows in found.items()
    }


def verify(root: Path) -> None:
    """Check that each manifest describes its files."""
    for path in sorted((root / "_manifests").iterdir()):
        manifest = json.loads(path.read_text())
        assert manifest["files"]
        for file in manifest["files"]:
            content = Path(file["path"]).read_bytes()
            assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        exported = [file["rows"] for file in manifest["files"] if file["table"] == "conversations"]
        assert sum(exported) == manifest["exported"] - manifest.get("erased", 0)


@pytest.mark.parametrize(
    ("encoding", "layout"),
    [*((each, "flat") for each in ENCODINGS), *((each, "hive") for each in ENCODINGS[::4])],
    ids=lambda value: value if isinstance(value, str) else f"{value.file_format}-{value.compression}",
)
def test_erasure_removes_exactly_the_selected_conversations(
    root: Path, encoding: Encoding, layout: str
) -> None:
    """No byte of any file, decompressed or not, holds them; a second run changes nothing."""
    export(root, "a", ERASED, "b", encoding=encoding, layout=layout)
    export(root, "c", interval=NEXT_DAY, encoding=encoding, layout=layout)
    before, untouched = rows(root, encoding), set(files_below(root).items())
    assert len(find_below(root, *TEXTS)) > len(TEXTS)
    erased = ErasableFiles(root).erase([ERASED])
    assert find_below(root, *TEXTS) == []
    assert rows(root, encoding) == others(before)
    assert erased.found == {ERASED}
    assert {name: table.rows for name, table in erased.tables.items()} == {
        "conversations": 1,
        "conversation_costs": 5,
        "conversation_messages": 2,
        "agent_configs": 1,
    }
    verify(root)
    changed = {name for name, _ in set(files_below(root).items()) - untouched}
    assert len(changed) == len(TABLES) + 1
    assert all(DAY.label in name for name in changed)
    after = files_below(root)
    assert ErasableFiles(root).erase([ERASED]) == Erased()
    assert files_below(root) == after


def test_each_part_of_a_split_interval_is_searched(root: Path) -> None:
    """The manifest describes every part afterwards."""
    said = tuple(hashlib.sha256(bytes([n])).hexdigest() * 2_000 for n in range(20))
    calls = [conversation(f"c{n}", said=said) for n in range(3)] + [personal()]
    target = FilesDestination(root, encoding=Encoding.choose("jsonl", None), target_file_bytes=1_000_000)
    receipt = export_pages([page(call) for call in calls], target=target)
    assert sum(file.table == "conversation_messages" for file in receipt.files) > 2
    ErasableFiles(root).erase([ERASED, "c1"])
    assert find_below(root, *TEXTS, '"c1"') == []
    assert {row["id"] for row in rows(root, Encoding.choose("jsonl", None))["conversations"]} == {
        "c0",
        "c2",
    }
    verify(root)


def test_a_configuration_stays_while_another_conversation_of_the_interval_refers_to_it(
    root: Path,
) -> None:
    """It goes with the last one; other intervals have a row of their own."""
    export(root, "a", "b")
    export(root, "c", interval=NEXT_DAY)
    files = ErasableFiles(root)
    assert "agent_configs" not in files.erase(["a"]).tables
    assert files.erase(["b"]).tables["agent_configs"] == ErasedTable(rows=1, files_rewritten=1)
    assert [len(found) for found in rows(root).values()] == [1, 5, 2, 1]
    verify(root)


def test_coverage_has_neither_a_gap_nor_a_false_anomaly(root: Path) -> None:
    """Most conversations of a day are erased, and the counters of its export stay."""
    ids = [f"c{n}" for n in range(30)]
    days = [
        Interval(DAY.start + n * timedelta(days=7), DAY.end + n * timedelta(days=7)) for n in range(-4, 1)
    ]
    for day in days:
        export(root, *ids, interval=day)
    manifests = Manifests(Store(root))
    (before,) = compute_coverage(manifests.exports(), now=NOW)
    ErasableFiles(root).erase(ids[:29])
    (after,) = compute_coverage(manifests.exports(), now=NOW)
    assert not after.anomalies
    assert after.bytes < before.bytes
    assert after == replace(before, bytes=after.bytes)


class Killed(BaseException):
    """The process ends."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that ends each later erasure after a number of writes to the store."""
    remaining = 10**9

    def count(method: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            nonlocal remaining
            if not remaining:
                raise Killed
            remaining -= 1
            method(*arguments)

        return counted

    def kill(writes: int) -> None:
        nonlocal remaining
        remaining = writes

    for name in ("put", "remove"):
        monkeypatch.setattr(Store, name, count(getattr(Store, name)))
    return kill


def populate(root: Path) -> None:
    """Export two intervals with everything that can name a conversation."""
    running = personal() | {"status": "started", "ended_at": None, "cost_breakdown": None}
    export_pages([page(conversation("a"), running, {"id": None, "uri": f"/conversations/{ERASED}"})], root,
                 max_bad_records=1)  # fmt: skip
    late = LateArrivals(
        PendingConversations({ERASED: DAY}), lambda ids: ((id_, page(personal())) for id_ in ids)
    )
    export_pages([page(conversation("b"))], root, interval=NEXT_DAY, late_arrivals=late)
    store_recording(root, ERASED)
    store_recording(root, "a")
    Manifests(Store(root)).outcomes(NEXT_DAY, timedelta(days=9))


def store_recording(root: Path, id_: str) -> None:
    """Store audio, and list it."""
    from voiceos_provider.client.recordings import Recording

    audio = root.parent / "audio"
    audio.write_bytes(f"voice of {id_}".encode())
    files = RecordingFiles(root, DAY)
    files.open()
    digest = hashlib.sha256(audio.read_bytes()).hexdigest()
    row = files.put(id_, audio, Recording(audio.stat().st_size, digest, "audio/wav"))
    files.publish({id_: row}, root.parent)


def test_killed_between_any_two_writes_another_run_completes_the_erasure(
    tmp_path: Path, killed_after: Callable[[int], None]
) -> None:
    """Rejected records, recordings, lists of ids and their index among them."""
    root, saved = tmp_path / "exports", tmp_path / "saved"
    populate(root)
    assert "_pending/index.json" in files_below(root)
    root.rename(saved)
    complete: dict[str, bytes] = {}
    for writes in range(100):
        shutil.copytree(saved, root)
        killed_after(writes)
        try:
            ErasableFiles(root).erase([ERASED])
        except Killed:
            killed_after(10**9)
            for path in root.rglob("*.parquet"):
                pq.read_table(path)
            ErasableFiles(root).erase([ERASED])
        else:
            break
        verify(root)
        assert find_below(root, *TEXTS, f"voice of {ERASED}") == []
        assert ErasableFiles(root).erase([ERASED]) == Erased()
        complete = complete or files_below(root)
        assert files_below(root) == complete
        shutil.rmtree(root)
    assert writes > 10
    assert files_below(root) == complete
    assert (root / f"recordings/{DAY.label}/a.wav").exists()


def test_erased_pending_conversation_is_not_requested_again(root: Path) -> None:
    """It was either left out, or exported before its end."""
    waiting = conversation("waiting", status="queued", started_at=None, ended_at=None, cost_breakdown=None)
    running = personal() | {"status": "started", "ended_at": None, "cost_breakdown": None}
    target = FilesDestination(root, encoding=PARQUET)
    export_pages([page(running, conversation("a"))], target=target)
    export_pages([page(waiting)], target=target, interval=NEXT_DAY, statuses=["ended"])
    later = Interval(NEXT_DAY.end, NEXT_DAY.end + timedelta(days=1))
    assert set(target.find_pending(later, timedelta(days=9)).ids) == {ERASED, "waiting"}
    erased = ErasableFiles(root).erase([ERASED, "waiting"])
    assert erased.found == {ERASED, "waiting"}
    assert target.find_pending(later, timedelta(days=9)) == PendingConversations()
    assert find_below(root, *TEXTS, "waiting") == []


def test_concurrent_export_is_not_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The erasure processes its files as well."""
    export(root, "a", ERASED)
    read, reads, exports = Store.read, ["second", "first"], [("a", ERASED, "new")]

    def once(store: Store, key: str) -> Any:
        if exports and key.startswith("_manifests") and reads.pop() == "second":
            monkeypatch.setattr(Store, "read", read)
            export(root, *exports.pop(), exported_at=NOW + timedelta(hours=1))
        return read(store, key)

    monkeypatch.setattr(Store, "read", once)
    ErasableFiles(root).erase([ERASED])
    assert not exports
    assert find_below(root, *TEXTS) == []
    assert {row["id"] for row in rows(root)["conversations"]} == {"a", "new"}
    verify(root)


def test_files_added_by_a_concurrent_export_are_processed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It splits the interval into files that did not exist when the erasure began."""
    encoding = Encoding.choose("jsonl", None)
    export(root, "a", ERASED, "b", encoding=encoding)
    listed = ErasableFiles._intervals
    calls: list[Any] = []

    def then_export(self: ErasableFiles) -> Any:
        found = listed(self)
        calls.append(found)
        if len(calls) == 1:
            long = [conversation(id_) for id_ in ("a", "b")]
            for call in long:
                call["messages"] = [{"role": "agent", "content": "x" * 1_200_000}]
            split = FilesDestination(
                root, encoding=encoding, target_file_bytes=1_000_000, replace_existing=True
            )
            later = NOW + timedelta(hours=1)
            export_pages([page(*long, personal())], target=split, exported_at=later)
        return found

    monkeypatch.setattr(ErasableFiles, "_intervals", then_export)
    assert ErasableFiles(root).erase([ERASED]).found == {ERASED}
    assert len(calls) == 3
    assert find_below(root, ERASED) == []


def test_a_file_of_an_export_that_was_overwritten_is_reported(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload of the erasure that ends after the export has verified its files: the message says what to do."""
    export(root, "a", ERASED)
    put, exports = Store.put, [("a", "new")]

    def slow(store: Store, local: Path, key: str) -> None:
        if exports and key.startswith("conversations/"):
            monkeypatch.setattr(Store, "put", put)
            export(root, *exports.pop(), exported_at=NOW + timedelta(hours=1))
        put(store, local, key)

    monkeypatch.setattr(Store, "put", slow)
    monkeypatch.setattr("voiceos_provider.load.files.erasure._PAUSE", 0)
    with pytest.raises(VoiceOSDestinationError, match=r"Export \[2026-11-01.*again"):
        ErasableFiles(root).erase([ERASED])


def test_a_file_that_is_not_a_manifest_is_named(root: Path) -> None:
    """It may hold ids, and cannot be rewritten."""
    export(root, ERASED)
    (root / MANIFEST).write_text("[]")
    with pytest.raises(VoiceOSExportError, match="is not a manifest"):
        ErasableFiles(root).erase([ERASED])


def test_other_files_are_unchanged(root: Path) -> None:
    """They are below the same path; a folder without exports is reported as such."""
    assert ErasableFiles(root / "missing").erase([ERASED]) == Erased(exists=False)
    export(root, ERASED)
    mine = root / "conversations" / "notes.csv"
    mine.write_text(f'"id"\n"{ERASED}"\n')
    before = datetime.fromtimestamp(mine.stat().st_mtime, UTC)
    ErasableFiles(root).erase([ERASED])
    assert datetime.fromtimestamp(mine.stat().st_mtime, UTC) == before
