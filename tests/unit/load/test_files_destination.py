"""Atomic publication of an export as files."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.support.exporting import (
    DATA,
    DAY,
    ENCODINGS,
    MANIFEST,
    NOW,
    PARQUET,
    QUIET_DAY,
    REJECTED,
    TABLE_NAMES,
    Root,
    data_of,
    emulate,
    export_options,
    export_pages,
    files_below,
    page,
    published_files,
    read_pages,
    truth,
)
from tests.support.reading import LIBRARIES
from voiceos_provider.client.pages import RawPage
from voiceos_provider.emulator import Emulator, Fault
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSDestinationError,
    VoiceOSExportError,
    VoiceOSResponseError,
)
from voiceos_provider.interval import Interval
from voiceos_provider.load.files import publication
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.receipt import ReadCounts
from voiceos_provider.load.workdir import WorkDir
from voiceos_provider.transform import TABLES, Redaction, choose_tables, fingerprint

CSV, JSONL = Encoding.choose("csv", "gzip"), Encoding.choose("jsonl", None)
DUCKDB = LIBRARIES[0]

pytestmark = pytest.mark.usefixtures("workdir")


@pytest.fixture
def emulator() -> Emulator:
    """Return an emulator with three days of conversations."""
    return emulate(600)


def ids_in(root: Path, encoding: Encoding = PARQUET) -> set[str]:
    """Return the ids in the published files, after checking that each is unique."""
    rows = DUCKDB.rows(root / f"{DATA}{encoding.suffix}", encoding)
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"] for row in rows}


def broken_after(pages: Iterable[RawPage], count: int, error: Exception) -> Iterator[RawPage]:
    """Yield the first pages, then raise an error."""
    for number, each in enumerate(pages):
        if number == count:
            raise error
        yield each


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
def test_file_matches_the_receipt(emulator: Emulator, root: Path, encoding: Encoding):
    """Compare rows, size, SHA-256 and ids."""
    receipt = export_pages(read_pages(emulator), root, encoding=encoding)
    assert [file.table for file in receipt.files] == TABLE_NAMES
    for file, table in zip(receipt.files, TABLES, strict=True):
        content = Path(file.path).read_bytes()
        assert file.path == f"{root}/{table.name}/{table.name}_{DAY.label}{encoding.suffix}"
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert file.rows == len(DUCKDB.rows(file.path, encoding, table)) > 0
    assert receipt.files[0].rows == receipt.exported == len(ids_in(root, encoding))
    assert ids_in(root, encoding) == truth(emulator)


def test_manifest_equals_the_receipt(emulator: Emulator, root: Path):
    """Readers without Airflow get counters, files, checksums, fingerprint and interval."""
    receipt = export_pages(read_pages(emulator), root)
    manifest = json.loads((root / MANIFEST).read_text())
    assert manifest == receipt.as_dict()
    assert receipt.manifest == f"{root}/{MANIFEST}"
    bounds = (manifest["interval_start"], manifest["interval_end"])
    assert bounds == ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    assert [file["schema_fingerprint"] for file in manifest["files"]] == [
        fingerprint(table.schema) for table in TABLES
    ]
    assert manifest["listed"] == manifest["exported"] == len(truth(emulator))


def test_receipt_has_the_total_cost_of_the_rows(emulator: Emulator, root: Path):
    """Cost and duration omit replaced copies and rows without a value."""
    receipt = export_pages(read_pages(emulator), root)
    rows = pq.read_table(receipt.files[0].path).column("total_cost").to_pylist()
    assert receipt.cost == round(float(sum(cost for cost in rows if cost is not None)), 6) > 0
    durations = pq.read_table(receipt.files[0].path).column("duration_seconds").to_pylist()
    assert receipt.duration_seconds == pytest.approx(sum(each for each in durations if each is not None))
    copies = [{"id": "a", "cost_breakdown": {"total": cost}} for cost in (0.5, 0.25)]
    later = Interval(DAY.end, DAY.end + timedelta(days=1))
    assert export_pages([page(*copies)], root, interval=later).cost == 0.25
    free = Interval(later.end, later.end + timedelta(days=1))
    assert export_pages([page({"id": "b"})], root, interval=free).cost is None


def test_export_has_one_file_per_table_and_one_manifest(emulator: Emulator, root: Path, workdir: Path):
    """No other file remains at the path or on this machine."""
    export_pages(read_pages(emulator), root)
    assert list(files_below(root)) == published_files()
    assert list(workdir.iterdir()) == []


def test_conversations_are_published_after_the_other_tables(
    emulator: Emulator, root: Path, monkeypatch: pytest.MonkeyPatch
):
    """Readers of a conversation find its messages, and readers of the manifest find all its files."""
    order, put = [], Store.put

    def watch(store: Store, local: Path, key: str) -> None:
        order.append((key, sorted(files_below(root))))
        put(store, local, key)

    monkeypatch.setattr(Store, "put", watch)
    export_pages(read_pages(emulator), root)
    *details, conversations, manifest = order
    rest = data_of(tables=TABLE_NAMES[1:])
    assert sorted(key for key, _ in details) == rest
    assert conversations == (f"{DATA}.parquet", rest)
    assert manifest == (MANIFEST, data_of())


def test_second_run_replaces_the_first(emulator: Emulator, root: Path):
    """Retry, clear and backfill leave the same rows in one file."""
    first = export_pages(read_pages(emulator), root)
    rows = [
        row
        for file, table in zip(first.files, TABLES, strict=True)
        for row in DUCKDB.rows(file.path, PARQUET, table)
    ]
    second = export_pages(read_pages(emulator), root, exported_at=NOW + timedelta(hours=1))
    again = [
        row
        for file, table in zip(second.files, TABLES, strict=True)
        for row in DUCKDB.rows(file.path, PARQUET, table)
    ]
    assert list(files_below(root)) == published_files()
    assert [row | {"_exported_at": None} for row in again] == [row | {"_exported_at": None} for row in rows]
    assert json.loads((root / MANIFEST).read_text()) == second.as_dict() != first.as_dict()


def test_equal_runs_write_equal_bytes(emulator: Emulator, root: Path):
    """Only the time of the export differs between runs."""
    files = []
    for _ in range(2):
        export_pages(read_pages(emulator), root)
        files.append(files_below(root))
    assert files[0] == files[1]


def test_other_intervals_are_unchanged(emulator: Emulator, root: Path):
    """An export touches only files of its own interval, in any format."""
    export_pages(read_pages(emulator, QUIET_DAY), root, interval=QUIET_DAY, encoding=CSV)
    longer = Interval(DAY.start, DAY.end + timedelta(microseconds=1))
    export_pages(read_pages(emulator, longer), root, interval=longer)
    before = files_below(root)
    export_pages(read_pages(emulator), root)
    assert {name: content for name, content in files_below(root).items() if name in before} == before


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
def test_empty_interval_is_an_empty_file(emulator: Emulator, root: Path, encoding: Encoding):
    """A missing file means that the interval was never exported."""
    receipt = export_pages(
        read_pages(emulator, QUIET_DAY), root, interval=QUIET_DAY, encoding=encoding, statuses=["ended"]
    )
    assert (receipt.listed, receipt.exported) == (0, 0)
    for file, table in zip(receipt.files, TABLES, strict=True):
        assert file.rows == 0
        assert DUCKDB.rows(file.path, encoding, table) == []
        if encoding.file_format != "jsonl":
            names = duckdb.sql(f"DESCRIBE SELECT * FROM '{file.path}'").fetchall()
            assert [name for name, *_ in names] == table.schema.names


def test_batch_without_remaining_rows_is_no_row_group(root: Path):
    """Only the later copies are written."""
    pages = [page(*({"id": f"{n}", "uri": "x" * 30_000} for n in range(100))) for _ in range(3)]
    receipt = export_pages(pages, root)
    assert (receipt.exported, receipt.duplicates) == (100, 200)
    assert len(ids_in(root)) == 100


@pytest.mark.parametrize("earlier", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
@pytest.mark.parametrize("later", [PARQUET, CSV, JSONL], ids=lambda e: e.suffix)
def test_another_format_replaces_the_earlier_one(
    emulator: Emulator, root: Path, earlier: Encoding, later: Encoding
):
    """A glob over the folder counts each interval once."""
    export_pages(read_pages(emulator), root, encoding=earlier)
    export_pages(read_pages(emulator), root, encoding=later, replace_existing=True)
    assert list(files_below(root)) == published_files(later.suffix)
    assert ids_in(root, later) == truth(emulator)


def test_files_of_a_killed_run_in_another_format_are_removed(emulator: Emulator, root: Path):
    """No manifest names them."""
    export_pages(read_pages(emulator), root)
    for left in data_of(".csv") + data_of(".jsonl.zst"):
        (root / left).write_bytes(b"whole, but of a run that is no more")
    export_pages(read_pages(emulator), root)
    assert list(files_below(root)) == published_files()


@pytest.mark.parametrize("rubbish", [b"", b"[1, 2", b"null", b'{"files": 3}', b"\xff\xfe"])
def test_unreadable_manifest_is_replaced_only_on_request(emulator: Emulator, root: Path, rubbish: bytes):
    """It may belong to another export."""
    export_pages(read_pages(emulator), root, encoding=CSV)
    (root / MANIFEST).write_bytes(rubbish)
    with pytest.raises(VoiceOSExportError, match=r"set replace_existing .*\(it does not name them\)"):
        export_pages(read_pages(emulator), root)
    receipt = export_pages(read_pages(emulator), root, replace_existing=True)
    assert json.loads((root / MANIFEST).read_text()) == receipt.as_dict()
    assert list(files_below(root)) == published_files()


def test_manifest_without_arguments_is_rejected_even_during_an_export(emulator: Emulator, root: Path):
    """Publication applies the same rule as the start of an export."""

    def pages() -> Iterator[RawPage]:
        yield from read_pages(emulator)
        (root / MANIFEST).parent.mkdir(parents=True)
        (root / MANIFEST).write_text('{"files": []}')

    with pytest.raises(VoiceOSExportError, match=r"set replace_existing .*\(it does not name them\)"):
        export_pages(pages(), root)
    assert list(files_below(root)) == [MANIFEST]


OTHERS: dict[str, dict[str, Any]] = {
    "status was all, now started": {"statuses": ["started"]},
    "tables was all, now conversations": {"tables": choose_tables(["conversations"])},
    "file_format was parquet, now csv": {"encoding": CSV},
    "redaction was none, now messages=drop": {"redaction": Redaction(messages="drop")},
    "redaction was none, now prompts=drop": {"redaction": Redaction(prompts="drop")},
    "redaction was none, now metadata=drop": {"redaction": Redaction(metadata="drop")},
    "redaction was none, now phone_numbers=drop": {"redaction": Redaction(phone_numbers="drop")},
    "redaction was none, now phone_numbers=hash, key_id=.*": {
        "redaction": Redaction(phone_numbers="hash", hash_key="a secret of the tests")
    },
    "redaction was none, now metadata=hash, key_id=.*": {
        "redaction": Redaction(metadata="hash", hash_key="a secret of the tests")
    },
}


@pytest.mark.parametrize("difference", OTHERS)
def test_export_with_other_arguments_is_rejected_before_any_change(
    emulator: Emulator, root: Path, workdir: Path, difference: str
):
    """The message starts with the remedy and names the argument; the earlier export is unchanged."""
    export_pages(read_pages(emulator), root)
    before, requests = files_below(root), len(emulator.requests)
    with pytest.raises(VoiceOSExportError, match=f"^Choose another path.* \\({difference}\\)") as refusal:
        export_pages(read_pages(emulator), root, **OTHERS[difference])
    assert not refusal.value.retryable
    assert len(str(refusal.value)) < 400
    assert (files_below(root), len(emulator.requests)) == (before, requests)
    assert list(workdir.iterdir()) == []


def test_every_kind_of_redaction_is_compared():
    """This includes kinds that are added later."""
    named = {name for other in OTHERS.values() for name in vars_of(other.get("redaction"))}
    assert named == {field.name for field in fields(Redaction)}


def vars_of(redaction: Redaction | None) -> set[str]:
    """Return the fields that differ from the defaults."""
    return {
        each.name
        for each in fields(Redaction)
        if redaction and getattr(redaction, each.name) != getattr(Redaction(), each.name)
    }


def test_another_hash_key_is_another_argument(emulator: Emulator, root: Path):
    """It gives other hashes; no file and no message holds the key."""
    keys = "the first of two keys", "the second of two keys"
    first, second = (Redaction(phone_numbers="hash", hash_key=key) for key in keys)
    export_pages(read_pages(emulator), root, redaction=first)
    export_pages(read_pages(emulator), root, redaction=first)
    with pytest.raises(VoiceOSExportError, match=f"key_id={first.key_id}.* now .*{second.key_id}") as refusal:
        export_pages(read_pages(emulator), root, redaction=second)
    published = str(refusal.value) + (root / MANIFEST).read_text()
    assert not [key for key in keys if key in published]


def test_another_compression_or_interval_is_allowed(emulator: Emulator, root: Path):
    """Readers get the same rows."""
    export_pages(read_pages(emulator), root)
    export_pages(read_pages(emulator), root, encoding=Encoding.choose("parquet", "gzip"))
    export_pages(read_pages(emulator, QUIET_DAY), root, interval=QUIET_DAY, statuses=["started"])


def test_replacement_on_request_is_logged_and_listed(
    emulator: Emulator, root: Path, caplog: pytest.LogCaptureFixture
):
    """Receipt and manifest name the removed files and the changed arguments."""
    caplog.set_level("INFO", logger="voiceos_provider")
    first = export_pages(read_pages(emulator), root)
    options: dict[str, Any] = {"statuses": ["started"], "tables": choose_tables(["conversations"])}
    receipt = export_pages(read_pages(emulator), root, **options, replace_existing=True)
    removed = sorted(file.path for file in first.files if file.table != "conversations")
    assert len(removed) == 3
    assert receipt.removed_files == removed
    assert json.loads((root / MANIFEST).read_text()) == receipt.as_dict()
    assert all(f"Removed {path}" in caplog.text for path in removed)
    assert "status was all, now started; tables was all, now conversations" in caplog.text
    again = export_pages(read_pages(emulator), root, **options)
    assert again.removed_files == []


def test_files_without_a_manifest_are_replaced_and_listed(emulator: Emulator, root: Path):
    """A killed run left them, and no option is needed."""
    orphan = root / f"{DATA}.csv.gz"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"of a killed run")
    receipt = export_pages(read_pages(emulator), root)
    assert receipt.removed_files == [str(orphan)]
    assert json.loads((root / MANIFEST).read_text()) == receipt.as_dict()
    assert list(files_below(root)) == published_files()


def test_overlapping_intervals_at_one_path_are_reported(
    emulator: Emulator, root: Path, caplog: pytest.LogCaptureFixture
):
    """Hours and days in one folder duplicate conversations; adjacent intervals do not."""
    hours = [
        Interval(DAY.start + timedelta(hours=n), DAY.start + timedelta(hours=n + 1)) for n in range(-1, 8)
    ]
    for hour in hours:
        export_pages([], root, interval=hour)
    assert "overlap with" not in caplog.text
    export_pages([], root)
    (line,) = (record.getMessage() for record in caplog.records if "overlap with" in record.getMessage())
    assert line.startswith(f"8 other intervals at {root} overlap with {DAY}: {hours[1]}, ")
    assert line.count("[") == 6
    assert str(hours[0]) not in line
    caplog.clear()
    export_pages([], root, interval=hours[3])
    assert f"1 other intervals at {root} overlap with {hours[3]}: {DAY}." in caplog.text


FAILURES: dict[str, tuple[Fault, type[Exception]]] = {
    "a refused token": (Fault.unauthorized(), VoiceOSAuthError),
    "a body that is not JSON": (Fault.body(b"<html>sign in</html>"), VoiceOSResponseError),
    "a page without items": (Fault.items_missing(), VoiceOSResponseError),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("request_number", [1, 3])
def test_api_error_publishes_nothing(
    emulator: Emulator, root: Path, workdir: Path, failure: str, request_number: int
):
    """The page does not matter, and the work directory is removed."""
    fault, expected = FAILURES[failure]
    emulator.faults.add(fault, at=range(request_number, 1000))
    with pytest.raises(expected):
        export_pages(read_pages(emulator), root)
    assert files_below(root) == {}
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("encoding", [PARQUET, CSV], ids=lambda e: e.suffix)
def test_api_error_keeps_the_earlier_export(emulator: Emulator, root: Path, failure: str, encoding: Encoding):
    """All bytes are unchanged, also if the failed run has another format."""
    export_pages(read_pages(emulator), root)
    before = files_below(root)
    fault, expected = FAILURES[failure]
    emulator.faults.add(fault, at=range(emulator.faults.count("list") + 2, 1000))
    with pytest.raises(expected):
        export_pages(read_pages(emulator), root, encoding=encoding, replace_existing=True)
    assert files_below(root) == before


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError])
def test_any_exception_during_the_export_publishes_nothing(
    emulator: Emulator, root: Path, workdir: Path, interruption: type[Exception]
):
    """Stopping a task by hand raises one, too."""
    with pytest.raises(interruption):
        export_pages(broken_after(read_pages(emulator), 2, interruption()), root)
    assert files_below(root) == {}
    assert list(workdir.iterdir()) == []


def test_writer_without_publish_leaves_nothing(emulator: Emulator, root: Path):
    """Publication is always explicit."""
    target = FilesDestination(root, encoding=PARQUET)
    with target.open(export_options(), WorkDir(), exported_at=NOW):
        pass
    assert files_below(root) == {}


@pytest.mark.parametrize("stays", [*TABLE_NAMES, "_manifests"])
def test_store_with_other_content_than_sent_is_an_error(
    emulator: Emulator, root: Path, monkeypatch: pytest.MonkeyPatch, stays: str
):
    """A put reports success and stores something else."""
    put = Store.put

    def put_half(store: Store, local: Path, key: str) -> None:
        if key.startswith(f"{stays}/"):
            local = local.with_name("other")
            local.write_bytes(b"something else")
        put(store, local, key)

    monkeypatch.setattr(Store, "put", put_half)
    monkeypatch.setattr(publication.random, "uniform", lambda *_: 0)
    with pytest.raises(VoiceOSDestinationError, match="does not hold what was sent"):
        export_pages(read_pages(emulator), root)


def test_inconsistent_counters_publish_nothing(root: Path):
    """A listed conversation that no other counter includes is lost."""
    reading = ReadCounts(
        interval_start="", interval_end="", status=None, exported_at="", listed=3, filtered=1
    )
    target = FilesDestination(root, encoding=PARQUET)
    with (
        pytest.raises(
            VoiceOSExportError,
            match=r"3 conversations were listed, but 0 .* 1 filtered, 0 pending and 0 rejected",
        ),
        target.open(export_options(), WorkDir(), exported_at=NOW) as writer,
    ):
        writer.publish(reading)
    assert files_below(root) == {}


def test_file_with_a_wrong_number_of_rows_is_not_published(
    emulator: Emulator, root: Path, monkeypatch: pytest.MonkeyPatch
):
    """The rows in the file count, and not those that its writer reports."""
    monkeypatch.setattr(Encoding, "count", lambda *_: 17)
    with pytest.raises(VoiceOSExportError, match="holds 17 rows instead of"):
        export_pages(read_pages(emulator), root)
    assert files_below(root) == {}


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
def test_later_of_two_copies_is_kept_and_counted(root: Path, encoding: Encoding):
    """A conversation may move to a later page while pages are read."""
    pages = [
        page({"id": "a", "status": "started"}, {"id": "b", "status": "ended"}),
        page({"id": "c"}, {"id": "a", "status": "ended"}),
        page({"id": "c"}),
    ]
    receipt = export_pages(pages, root, encoding=encoding)
    rows = DUCKDB.rows(receipt.files[0].path, encoding)
    assert [(row["id"], row["status"]) for row in rows] == [("a", "ended"), ("b", "ended"), ("c", None)]
    assert (receipt.listed, receipt.exported, receipt.duplicates) == (5, 3, 2)


def version_of(id_: str, version: int, **more: Any) -> dict[str, Any]:
    """Return a version of a conversation that its messages, costs and configuration identify."""
    return {
        "id": id_,
        "messages": [{"role": "user", "content": f"{id_}{version}"}] * version,
        "cost_breakdown": {"total": version, "agent": {"cost": version}, "voice": {"cost": version}},
        "agent_config": {"prompt": f"{id_}{version}"},
    } | more


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
def test_messages_and_costs_of_an_earlier_copy_are_dropped(root: Path, encoding: Encoding):
    """The last copy may have none; a configuration may stay."""
    bare = version_of("b", 4, messages=[], cost_breakdown=None)
    pages = [
        page(version_of("a", 1), version_of("b", 3)),
        page(version_of("c", 2), version_of("a", 2)),
        page(bare, version_of("a", 3)),
    ]
    receipt = export_pages(pages, root, encoding=encoding)
    assert (receipt.listed, receipt.exported, receipt.duplicates) == (6, 3, 3)
    rows, costs, messages, configs = (
        DUCKDB.rows(file.path, encoding, table) for file, table in zip(receipt.files, TABLES, strict=True)
    )
    assert [(row["id"], row["message_count"]) for row in rows] == [("a", 3), ("b", 0), ("c", 2)]
    assert [(row["conversation_id"], row["content"]) for row in messages] == [("a", "a3")] * 3 + [
        ("c", "c2")
    ] * 2
    assert [(row["conversation_id"], row["component"], row["cost"]) for row in costs] == [
        ("a", "agent", 3), ("a", "voice", 3), ("c", "agent", 2), ("c", "voice", 2),
    ]  # fmt: skip
    assert {row["prompt"] for row in configs} >= {"a3", "b4", "c2"}
    assert {row["agent_config_hash"] for row in rows} <= {row["agent_config_hash"] for row in configs}
    assert [file.rows for file in receipt.files] == [3, 4, 5, len(configs)]


@pytest.mark.parametrize(
    "wanted",
    [["conversations"], ["conversation_messages"], ["agent_configs", "conversation_costs"]],
    ids="+".join,
)
def test_only_requested_tables_are_written(emulator: Emulator, root: Path, workdir: Path, wanted: list[str]):
    """The receipt still counts the conversations."""
    receipt = export_pages(read_pages(emulator), root, tables=choose_tables(wanted))
    assert list(files_below(root)) == published_files(tables=wanted)
    assert [file.table for file in receipt.files] == [name for name in TABLE_NAMES if name in wanted]
    assert receipt.exported == len(truth(emulator))
    for file in receipt.files:
        content = Path(file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert json.loads((root / MANIFEST).read_text()) == receipt.as_dict()
    assert list(workdir.iterdir()) == []


def test_table_that_is_no_longer_requested_is_removed_for_that_interval(emulator: Emulator, root: Path):
    """Its rows would belong to another export than the other tables."""
    export_pages(read_pages(emulator, QUIET_DAY), root, interval=QUIET_DAY)
    other = files_below(root)
    export_pages(read_pages(emulator), root, encoding=CSV)
    wanted = ["conversations", "agent_configs"]
    export_pages(read_pages(emulator), root, tables=choose_tables(wanted), replace_existing=True)
    after = files_below(root)
    assert sorted(after.keys() - other.keys()) == sorted(published_files(tables=wanted))
    assert {name: after[name] for name in other} == other


def test_publication_that_fails_halfway_leaves_no_second_copy(
    emulator: Emulator, root: Path, monkeypatch: pytest.MonkeyPatch
):
    """Files in another format are removed again, and the earlier export is unchanged."""
    export_pages(read_pages(emulator), root)
    before, put = files_below(root), Store.put
    for failing in [*data_of(".csv"), MANIFEST]:
        for error in (VoiceOSDestinationError("no"), KeyboardInterrupt()):

            def put_some(
                store: Store, local: Path, key: str, failing: str = failing, error: BaseException = error
            ) -> None:
                if key == failing:
                    raise error
                put(store, local, key)

            monkeypatch.setattr(Store, "put", put_some)
            with pytest.raises(type(error)):
                export_pages(
                    read_pages(emulator), root, encoding=Encoding.choose("csv", None), replace_existing=True
                )
            assert files_below(root) == before, failing


def test_repeated_export_that_fails_halfway_mixes_files_until_the_next_run(
    emulator: Emulator, root: Path, monkeypatch: pytest.MonkeyPatch
):
    """No store replaces several files at once; each conversation is still in one file."""
    export_pages(read_pages(emulator), root)
    before, put = files_below(root), Store.put

    def put_some(store: Store, local: Path, key: str) -> None:
        if key == f"{DATA}.parquet":
            raise VoiceOSDestinationError("no")
        put(store, local, key)

    monkeypatch.setattr(Store, "put", put_some)
    with pytest.raises(VoiceOSDestinationError):
        export_pages(read_pages(emulator), root, exported_at=DAY.end + timedelta(days=1))
    mixed = files_below(root)
    assert mixed.keys() == before.keys()
    assert [name for name in mixed if mixed[name] != before[name]] == data_of(tables=TABLE_NAMES[1:])
    monkeypatch.undo()
    export_pages(read_pages(emulator), root, exported_at=DAY.end + timedelta(days=2))
    after = files_below(root)
    assert not any(after[name] in (before[name], mixed[name]) for name in after)


def test_first_export_that_fails_halfway_leaves_nothing(
    emulator: Emulator, root: Path, monkeypatch: pytest.MonkeyPatch
):
    """There are no messages without their conversations."""
    put = Store.put

    def put_details(store: Store, local: Path, key: str) -> None:
        if key == f"{DATA}.parquet":
            raise VoiceOSDestinationError("no")
        put(store, local, key)

    monkeypatch.setattr(Store, "put", put_details)
    with pytest.raises(VoiceOSDestinationError):
        export_pages(read_pages(emulator), root)
    assert files_below(root) == {}


DAY_OLD = 86_400 + 60


def test_work_directories_of_killed_exports_are_removed_after_a_day(
    emulator: Emulator, root: Path, workdir: Path
):
    """A newer one may belong to a running export; other directories stay."""
    kept = {"voiceos-export-young": 3_600, "voiceos-export-busy": DAY_OLD, "another-program": DAY_OLD}
    for name, age in {"voiceos-export-old": DAY_OLD, "voiceos-export-empty": DAY_OLD, **kept}.items():
        folder = workdir / name
        folder.mkdir()
        if not name.endswith("empty"):
            (folder / "conversations.arrow").write_bytes(b"what people said")
            (folder / "conversation_messages.arrow").write_bytes(b"what people said")
        for path in (*folder.iterdir(), folder):
            os.utime(path, (time.time() - age,) * 2)
    os.utime(workdir / "voiceos-export-busy" / "conversations.arrow")
    (workdir / "voiceos-export-a-file").write_text("no folder")
    (workdir / "voiceos-export-a-link").symlink_to(workdir / "another-program")
    if os.geteuid() == 0:
        kept["voiceos-export-of-another-user"] = DAY_OLD
        folder = workdir / "voiceos-export-of-another-user"
        folder.mkdir()
        os.utime(folder, (time.time() - DAY_OLD,) * 2)
        os.chown(folder, 65534, 65534)
    found: list[str] = []

    def pages() -> Iterator[RawPage]:
        found.extend(path.name for path in workdir.iterdir())  # at the start, before any page is read
        yield page({"id": "a"})

    export_pages(pages(), root)
    (own,) = {name for name in found if name.startswith("voiceos-export-") and name not in kept} - {
        "voiceos-export-a-file",
        "voiceos-export-a-link",
    }
    assert own not in {path.name for path in workdir.iterdir()}
    assert {path.name for path in workdir.iterdir() if path.is_dir() and not path.is_symlink()} == set(kept)
    assert len(list((workdir / "another-program").iterdir())) == 2


def test_collection_that_changes_while_it_is_read_has_no_duplicates(root: Path):
    """New arrivals move old conversations to the next page, where they are listed again."""
    emulator = emulate(600)

    def arrive(nth: int) -> None:
        emulator.world.insert(created_at=DAY.end - timedelta(minutes=1))

    emulator.before_list = arrive
    started = truth(emulator)
    receipt = export_pages(read_pages(emulator, page_size=25), root)
    assert receipt.duplicates > 0
    assert started <= ids_in(root)
    assert receipt.listed == receipt.exported + receipt.duplicates


BAD = [
    {"status": "ended", "api_key": "sk-very-secret"},
    {"id": 7, "status": "ended"},
    {"id": ""},
    "text",
    None,
]


def test_conversations_without_a_key_are_set_aside_with_the_reason(root: Path):
    """The receipt counts them and names the file."""
    receipt = export_pages(
        [page({"id": "a"}, *BAD[:2]), page(*BAD[2:], {"id": "b"})], root, max_bad_records=5
    )
    assert (receipt.listed, receipt.exported, receipt.rejected) == (7, 2, 5)
    assert receipt.rejected_file == f"{root}/{REJECTED}"
    lines = [json.loads(line) for line in (root / REJECTED).read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["no usable id"] * 3 + ["not a JSON object"] * 2
    assert lines[1]["conversation"] == {"id": 7, "status": "ended"}
    assert [line["conversation"] for line in lines[2:]] == BAD[2:]
    assert "sk-very-secret" not in (root / REJECTED).read_text()
    assert ids_in(root) == {"a", "b"}


def test_too_many_rejects_fail_the_export_and_name_the_file(root: Path, workdir: Path):
    """The default allows none, and only the file of rejects is published."""
    with pytest.raises(VoiceOSExportError) as failure:
        export_pages([page({"id": "a"}, BAD[0])], root)
    assert str(failure.value) == (
        "1 conversations cannot be keyed (no usable id), more than max_bad_records=0. "
        f"Nothing was exported; they are in {root}/{REJECTED}."
    )
    assert list(files_below(root)) == [REJECTED]
    assert list(workdir.iterdir()) == []


def test_too_many_rejects_keep_the_earlier_export(emulator: Emulator, root: Path):
    """Only the file of rejects is new."""
    export_pages(read_pages(emulator), root)
    before = files_below(root)
    with pytest.raises(VoiceOSExportError, match="max_bad_records=2"):
        export_pages([page(*BAD[:3])], root, max_bad_records=2)
    after = files_below(root)
    assert after.pop(REJECTED)
    assert after == before


def test_clean_run_removes_the_rejects_of_an_earlier_one(emulator: Emulator, root: Path):
    """The folder of rejects shows only current ones."""
    with pytest.raises(VoiceOSExportError):
        export_pages([page(BAD[0])], root)
    receipt = export_pages(read_pages(emulator), root)
    assert receipt.rejected_file is None
    assert list(files_below(root)) == published_files()


def test_each_conversation_is_counted_once(root: Path):
    """Listed = exported + duplicates + filtered + pending + rejected."""
    ended, queued = {"status": "ended"}, {"status": "queued"}
    pages = [
        page({"id": "a"} | ended, {"id": "b"} | queued, BAD[0]),
        page({"id": "a"} | ended, {"id": "c"} | ended, {"id": "b"} | queued),
        page(),
    ]
    receipt = export_pages(pages, root, statuses=["ended"], max_bad_records=1)
    counts = ("listed", "exported", "duplicates", "filtered", "pending", "rejected")
    assert [getattr(receipt, count) for count in counts] == [6, 2, 2, 0, 1, 1]
    receipt = export_pages(pages, root / "queued", statuses=["queued"], max_bad_records=1)
    assert [getattr(receipt, count) for count in counts] == [6, 1, 1, 3, 0, 1]


@pytest.mark.parametrize("full", [*(f"{name}.arrow" for name in TABLE_NAMES), "agent_configs.parquet"])
def test_full_local_disk_is_distinguished_from_a_full_store(
    emulator: Emulator, root: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, full: str
):
    """The message names the work directory, and says how to choose another."""
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("this system has no /dev/full")
    make = tempfile.mkdtemp

    def make_full(**options: Any) -> str:
        folder = make(**options)
        (Path(folder) / full).symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", make_full)
    with pytest.raises(VoiceOSDestinationError) as failure:
        export_pages(read_pages(emulator), root)
    assert str(failure.value).startswith(f"cannot keep rows in {workdir}/voiceos-export-")
    assert "No space left on device" in str(failure.value)
    assert "Set TMPDIR, in the environment of the worker" in str(failure.value)
    assert files_below(root) == {}
    assert list(workdir.iterdir()) == []


def test_store_is_checked_before_the_api(emulator: Emulator, tmp_path: Path):
    """An unreadable path fails at once instead of after an hour of reading."""
    (tmp_path / "exports").write_text("a file where a folder should be")
    with pytest.raises(VoiceOSDestinationError, match="NotADirectoryError"):
        export_pages(read_pages(emulator), tmp_path / "exports")
    assert emulator.requests == []


def test_store_that_fails_during_publication_keeps_the_earlier_export(emulator: Emulator, root: Path):
    """All files are unchanged."""
    import fsspec

    fs = fsspec.filesystem("memory")
    place = Root(fs, "/failing")
    export_pages(read_pages(emulator), place)
    before = {path: fs.cat_file(path) for path in fs.find("/failing")}

    class Full(type(fs)):  # type: ignore[misc]
        protocol = "memory"

        def put_file(self, *args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(
        VoiceOSDestinationError, match=r"cannot write memory://failing/agent_configs/.*No space left"
    ):
        export_pages(
            read_pages(emulator), Root(Full(skip_instance_cache=True), "/failing"), exported_at=DAY.end
        )
    assert {path: fs.cat_file(path) for path in fs.find("/failing")} == before
    fs.rm("/failing", recursive=True)
