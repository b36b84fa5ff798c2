"""The layout `hive`, and intervals with several files."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pytest

from tests.support.exporting import (
    DAY,
    ENCODINGS,
    MANIFEST,
    PARQUET,
    QUIET_DAY,
    TABLE_NAMES,
    emulate,
    export_pages,
    files_below,
    page,
    published_files,
    read_pages,
    truth,
)
from tests.support.reading import LIBRARIES
from voiceos_provider.client.pages import RawPage
from voiceos_provider.emulator import Emulator
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError, VoiceOSValueError
from voiceos_provider.interval import Interval
from voiceos_provider.load.coverage import compute_coverage
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.manifests import Manifests
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.transform import TABLES, choose_tables

DUCKDB = LIBRARIES[0]
TARGET = 1_000_000
DAYS = [Interval(DAY.start + timedelta(days=n), DAY.end + timedelta(days=n)) for n in (-1, 0, 1)]
CONVERSATIONS_ONLY = choose_tables(["conversations"])

pytestmark = pytest.mark.usefixtures("workdir")


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    """Return an emulator with three days of conversations."""
    return emulate(300)


def export(
    pages: Iterator[RawPage] | list[RawPage],
    root: Path,
    *,
    layout: Any = "flat",
    target_file_bytes: int | None = None,
    encoding: Encoding = PARQUET,
    replace_existing: bool = False,
    **options: Any,
) -> ExportReceipt:
    """Export in a layout."""
    target = FilesDestination(
        root,
        encoding=encoding,
        layout=layout,
        target_file_bytes=target_file_bytes,
        replace_existing=replace_existing,
    )
    return export_pages(pages, target=target, **options)


def hive_file(table: str, interval: Interval = DAY) -> str:
    """Return the path of the file of a day."""
    return f"{table}/dt={interval.start.date()}/{table}_{interval.label}.parquet"


def large_pages(conversations: int, seed: int = 7) -> list[RawPage]:
    """Return conversations of 30 kB each that do not compress well."""
    rng = random.Random(seed)
    items = [{"id": f"{n:04}", "uri": rng.randbytes(15_000).hex()} for n in range(conversations)]
    return [page(*items[start : start + 20]) for start in range(0, conversations, 20)]


def test_hive_writes_each_day_into_its_folder(emulator: Emulator, root: Path) -> None:
    """The folder is the UTC day of the interval; file names and contents are unchanged."""
    for day in DAYS:
        export(read_pages(emulator, day), root, layout="hive", interval=day)
    files = [hive_file(table, day) for table in TABLE_NAMES for day in DAYS]
    manifests = [f"_manifests/{day.label}.json" for day in DAYS]
    assert sorted(files_below(root)) == sorted([*files, *manifests])
    manifest = json.loads((root / MANIFEST).read_text())
    assert manifest["arguments"]["layout"] == "hive"
    assert [file["path"] for file in manifest["files"]] == [f"{root}/{hive_file(t)}" for t in TABLE_NAMES]


def test_duckdb_reads_only_the_folder_of_the_day(emulator: Emulator, root: Path) -> None:
    """A filter by `dt` reads one of three files."""
    for day in DAYS:
        export(read_pages(emulator, day), root, layout="hive", interval=day)
    rows = f"read_parquet('{root}/conversations/*/*.parquet', hive_partitioning = true)"
    for day in DAYS:
        found = duckdb.sql(f"SELECT id FROM {rows} WHERE dt = '{day.start.date()}'").fetchall()
        assert {id_ for (id_,) in found} == truth(emulator, day)
        plan = duckdb.sql(
            f"EXPLAIN ANALYZE SELECT id FROM {rows} WHERE dt = '{day.start.date()}'"
        ).fetchall()[0][1]
        assert re.search(r"Scanning Files:\s*1/3|Total Files Read:\s*1\b", plan), plan
    everything = duckdb.sql(f"SELECT count(*), count(DISTINCT dt) FROM {rows}").fetchall()
    assert everything == [(sum(len(truth(emulator, day)) for day in DAYS), 3)]


def test_arrow_finds_the_partition_column(emulator: Emulator, root: Path) -> None:
    """A filter reads only the file of the day."""
    for day in DAYS:
        export(read_pages(emulator, day), root, layout="hive", interval=day)
    dataset = ds.dataset(root / "conversations", partitioning="hive")
    condition = ds.field("dt") == str(DAY.start.date())
    assert len(list(dataset.get_fragments(condition))) == 1
    assert set(dataset.to_table(filter=condition)["id"].to_pylist()) == truth(emulator)


def test_hours_of_a_day_share_its_folder(root: Path) -> None:
    """An interval that ends at midnight belongs to the day before."""
    hours = [
        Interval(DAY.start + timedelta(hours=n), DAY.start + timedelta(hours=n + 1)) for n in (0, 12, 23)
    ]
    for hour in hours:
        export([page({"id": hour.label})], root, layout="hive", interval=hour)
    assert sorted(path.name for path in (root / "conversations/dt=2026-11-01").iterdir()) == [
        f"conversations_{hour.label}.parquet" for hour in hours
    ]
    assert [path.name for path in (root / "conversations").iterdir()] == ["dt=2026-11-01"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z"),
        ("2026-11-01T00:00:00+01:00", "2026-11-02T00:00:00+01:00"),
        ("2026-11-01T23:59:59Z", "2026-11-02T00:00:00.000001Z"),
    ],
)
def test_interval_across_midnight_is_rejected_in_hive(
    emulator: Emulator, root: Path, start: str, end: str
) -> None:
    """Some conversations would be in the folder of another day."""
    interval, requests = Interval.parse(start, end), len(emulator.requests)
    with pytest.raises(VoiceOSValueError, match=r"extends from 2026-1\d-\d+ to 2026-11-0\d.*layout='flat'"):
        export(read_pages(emulator, interval), root, layout="hive", interval=interval)
    assert (files_below(root), len(emulator.requests)) == ({}, requests)


@pytest.mark.parametrize(("first", "second"), [("flat", "hive"), ("hive", "flat")])
@pytest.mark.parametrize("replace_existing", [False, True])
def test_another_layout_at_one_path_is_rejected_before_any_read(
    emulator: Emulator, root: Path, first: str, second: str, *, replace_existing: bool
) -> None:
    """This includes new intervals, and `replace_existing` does not allow it."""
    export(read_pages(emulator, DAYS[0]), root, layout=first, interval=DAYS[0])
    before, requests = files_below(root), len(emulator.requests)
    with pytest.raises(VoiceOSExportError, match=f"the layout of .* is {first}, .* layout {second}") as error:
        export(read_pages(emulator), root, layout=second, replace_existing=replace_existing)
    assert not error.value.retryable
    assert (files_below(root), len(emulator.requests)) == (before, requests)


@pytest.mark.parametrize(("first", "second"), [("flat", "hive"), ("hive", "flat")])
def test_only_interval_of_a_path_can_be_replaced_in_another_layout(
    emulator: Emulator, root: Path, first: str, second: str
) -> None:
    """It needs `replace_existing`; the files of the earlier layout are removed."""
    earlier = export(read_pages(emulator), root, layout=first)
    with pytest.raises(VoiceOSExportError, match=f"layout was {first}, now {second}"):
        export(read_pages(emulator), root, layout=second)
    receipt = export(read_pages(emulator), root, layout=second, replace_existing=True)
    assert receipt.removed_files == sorted(file.path for file in earlier.files)
    expected = [MANIFEST, *map(hive_file, TABLE_NAMES)] if second == "hive" else published_files()
    assert sorted(files_below(root)) == sorted(expected)


@pytest.mark.parametrize("layout", ["flat", "hive"])
def test_files_of_a_killed_run_in_another_layout_are_removed(
    emulator: Emulator, root: Path, layout: str
) -> None:
    """No manifest names them."""
    left = [f"conversations/conversations_{DAY.label}.csv", hive_file("conversation_costs") + ".not-ours"]
    left += [f"conversations/dt=2026-11-01/conversations_{DAY.label}_0003.parquet"]
    for name in left:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"of a killed run")
    receipt = export(read_pages(emulator), root, layout=layout)
    assert receipt.removed_files == sorted(f"{root}/{name}" for name in (left[0], left[2]))
    assert left[1] in files_below(root)


def test_repeated_hive_export_replaces_only_its_files(emulator: Emulator, root: Path) -> None:
    """Files of other days are unchanged."""
    for day in DAYS:
        export(read_pages(emulator, day), root, layout="hive", interval=day)
    before = files_below(root)
    receipt = export(read_pages(emulator), root, layout="hive", exported_at=DAY.end + timedelta(days=9))
    after = files_below(root)
    changed = {name for name in after if after[name] != before[name]}
    assert after.keys() == before.keys()
    assert changed == {MANIFEST, *map(hive_file, TABLE_NAMES)}
    assert receipt.removed_files == []


def test_coverage_and_late_arrivals_do_not_depend_on_the_layout(root: Path) -> None:
    """Both read the manifests."""
    for layout in ("flat", "hive"):
        place = root / layout
        for day in (DAYS[0], DAYS[2]):
            pages = [page({"id": "a", "status": "ended"}, {"id": "b", "status": "queued"})]
            export(pages, place, layout=layout, interval=day, statuses=["ended"])
        (found,) = compute_coverage(Manifests(Store(place)).exports(), now=DAY.end + timedelta(days=2))
        assert (found.exports, found.rows, found.pending, found.gaps) == (2, 2, 2, (DAYS[1],))
        assert found.bytes == sum(path.stat().st_size for path in place.rglob("*.parquet"))
        pending = FilesDestination(place, encoding=PARQUET, layout=layout).find_pending(
            DAYS[2], timedelta(days=3)
        )
        assert dict(pending.ids) == {"b": DAYS[0]}


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
def test_large_interval_has_files_of_limited_size(root: Path, encoding: Encoding) -> None:
    """Each row is in one of them, in the order of arrival; the receipt describes each file."""
    pages = large_pages(240)
    receipt = export(pages, root, encoding=encoding, target_file_bytes=TARGET, tables=CONVERSATIONS_ONLY)
    assert len(receipt.files) > 2
    rows = [row["id"] for file in receipt.files for row in DUCKDB.rows(file.path, encoding)]
    assert rows == [f"{n:04}" for n in range(240)]
    for file in receipt.files:
        assert Path(file.path).stat().st_size == file.bytes
        assert len(DUCKDB.rows(file.path, encoding)) == file.rows
    assert all(file.bytes >= TARGET for file in receipt.files[:-1])
    assert max(file.bytes for file in receipt.files) < 4 * TARGET
    stem = f"conversations_{DAY.label}"
    assert [Path(file.path).name for file in receipt.files] == [
        f"{stem}{f'_{part:04}' if part > 1 else ''}{encoding.suffix}"
        for part in range(1, len(receipt.files) + 1)
    ]
    assert len(list((root / "conversations").iterdir())) == len(receipt.files)


def test_files_of_limited_size_are_in_the_folder_of_their_day(root: Path) -> None:
    """A filter by `dt` finds all of them."""
    receipt = export(large_pages(240), root, layout="hive", target_file_bytes=TARGET)
    paths = [Path(file.path) for file in receipt.files if file.table == "conversations"]
    assert len(paths) > 2
    assert sorted((root / "conversations/dt=2026-11-01").iterdir()) == sorted(paths)
    found = duckdb.sql(f"SELECT DISTINCT id FROM '{root}/conversations/*/*.parquet' WHERE dt = '2026-11-01'")
    assert len(found.fetchall()) == 240


def test_small_interval_has_one_file_per_table(emulator: Emulator, root: Path) -> None:
    """The files are the same as without a limit."""
    export(read_pages(emulator), root)
    before = files_below(root)
    export(read_pages(emulator), root, target_file_bytes=TARGET)
    assert files_below(root) == before


def test_empty_interval_has_one_file_per_table(root: Path) -> None:
    """It shows that there were no conversations."""
    receipt = export([], root, target_file_bytes=TARGET)
    assert [(file.table, file.rows) for file in receipt.files] == [(table.name, 0) for table in TABLES]


@pytest.mark.parametrize("second", [{}, {"target_file_bytes": 4 * TARGET}])
def test_repeated_export_with_fewer_files_removes_the_others(root: Path, second: dict[str, Any]) -> None:
    """The receipt lists the removed files, and the limit may change."""
    options: dict[str, Any] = {"tables": CONVERSATIONS_ONLY}
    first = export(large_pages(240), root, target_file_bytes=TARGET, **options)
    receipt = export(large_pages(240, seed=8), root, **second, **options)
    assert len(receipt.files) < len(first.files)
    assert receipt.removed_files == [file.path for file in first.files[len(receipt.files) :]]
    paths = [str(Path(file.path).relative_to(root)) for file in receipt.files]
    assert sorted(files_below(root)) == sorted([MANIFEST, *paths])
    assert len(duckdb.sql(f"SELECT DISTINCT id FROM '{root}/conversations/*.parquet'").fetchall()) == 240


def test_first_export_of_several_files_that_fails_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file in turn cannot be written."""
    put, count = Store.put, len(export(large_pages(240), root / "probe", target_file_bytes=TARGET).files)
    assert count > 5
    for failing in range(count):
        left = iter(range(count))

        def put_some(
            store: Store, local: Path, key: str, failing: int = failing, left: Iterator[int] = left
        ) -> None:
            if next(left) == failing:
                raise VoiceOSDestinationError("no")
            put(store, local, key)

        monkeypatch.setattr(Store, "put", put_some)
        with pytest.raises(VoiceOSDestinationError):
            export(large_pages(240), root / "target", target_file_bytes=TARGET)
        assert files_below(root / "target") == {}


def test_manifest_appears_after_every_file_it_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who waits for it finds all rows of the interval."""
    put, keys = Store.put, []

    def watch(store: Store, local: Path, key: str) -> None:
        keys.append(key)
        put(store, local, key)

    monkeypatch.setattr(Store, "put", watch)
    receipt = export(large_pages(240), root, target_file_bytes=TARGET)
    assert keys[-1] == MANIFEST
    assert set(keys[:-1]) == {str(Path(file.path).relative_to(root)) for file in receipt.files}
    conversations = [key.startswith("conversations/") for key in keys[:-1]]
    assert conversations == sorted(conversations)


def test_wrong_layouts_and_sizes_are_rejected(root: Path) -> None:
    """The message names the parameter."""
    with pytest.raises(VoiceOSValueError, match="layout 'tree' is not one of flat, hive"):
        export([], root, layout="tree")
    with pytest.raises(VoiceOSValueError, match="target_file_bytes 999999 is less than 1,000,000"):
        export([], root, target_file_bytes=999_999)
    assert export([], root, layout="hive", interval=QUIET_DAY).exported == 0
