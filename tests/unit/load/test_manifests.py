"""Pending conversations in manifests: the same with and without an index, with a bounded number of reads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.exporting import Root, export_pages, files_below, page
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.files import layout
from voiceos_provider.load.files.manifests import Manifests
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.pending import IntervalOutcome, is_relevant

START = datetime(2026, 11, 1, tzinfo=UTC)
HOURS = [Interval(START + timedelta(hours=n), START + timedelta(hours=n + 1)) for n in range(400)]
MAX_AGE = timedelta(hours=24)
INDEX = "_pending/index.json"


class Reads:
    """A store that counts reads."""

    def __init__(self, root: Any) -> None:
        self.store = Store(root)
        self.keys: list[str] = []
        self._read = self.store.read
        self.store.read = self.read  # type: ignore[method-assign]

    def read(self, key: str) -> bytes | None:
        """Read and count."""
        self.keys.append(key)
        return self._read(key)


@pytest.fixture(params=["disk", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Yield an empty path on local disk, and on another store."""
    if request.param == "disk":
        yield tmp_path
        return
    fs = fsspec.filesystem("memory")
    yield Root(fs, "/manifests")
    if fs.exists("/manifests"):
        fs.rm("/manifests", recursive=True)


def publish(store: Store, interval: Interval, pending: str = "", resolved: str = "") -> IntervalOutcome:
    """Write a manifest as an export does; ids are letters."""
    manifest = {
        "pending_ids": [*pending[::2]],
        "unfinished_ids": [*pending[1::2]],
        "resolved_ids": [*resolved],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(manifest, file)
        file.flush()
        store.put(Path(file.name), layout.manifest(interval))
    return IntervalOutcome(interval, frozenset(pending), frozenset(resolved))


def outcomes(store: Store, interval: Interval) -> dict[Interval, IntervalOutcome]:
    """Return the outcomes of earlier intervals that a run of the interval finds."""
    return {each.interval: each for each in Manifests(store).outcomes(interval, MAX_AGE)}


def test_each_run_reads_the_index_and_newer_manifests(root: Any) -> None:
    """Here these are two: the previous run and a repeated hour."""
    reads = Reads(root)
    for number, hour in enumerate(HOURS[:60]):
        reads.keys.clear()
        found = outcomes(reads.store, hour)
        assert len(found) == min(number, 25)
        assert reads.keys.count(INDEX) == 1
        assert len(reads.keys) <= 2
        publish(reads.store, hour, "ab", "c")
    publish(reads.store, HOURS[40], "xyz")
    reads.keys.clear()
    found = outcomes(reads.store, HOURS[60])
    assert sorted(reads.keys) == sorted([INDEX, layout.manifest(HOURS[40]), layout.manifest(HOURS[59])])
    assert found[HOURS[40]].pending == {"x", "y", "z"}


def test_backfill_does_not_read_later_intervals(root: Any) -> None:
    """It does not invalidate the index for current runs."""
    reads = Reads(root)
    for hour in HOURS:
        publish(reads.store, hour)
    outcomes(reads.store, HOURS[-1])
    reads.keys.clear()
    outcomes(reads.store, HOURS[100])
    assert 24 < len(reads.keys) <= 2 * 24 + 4
    for hour in (HOURS[-1], HOURS[100]):
        reads.keys.clear()
        outcomes(reads.store, hour)
        assert reads.keys == [INDEX]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.integers(0, 30),
            st.text("abcdef", max_size=4),
            st.text("abcdef", max_size=3),
        ),
        st.tuples(st.just("look"), st.integers(0, 30)),
        st.tuples(st.just("lose the index")),
        st.tuples(st.just("spoil the index")),
        st.tuples(st.just("bring back an old index")),
        st.tuples(st.just("remove"), st.integers(0, 30)),
    ),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(operations=OPERATIONS)
def test_index_never_changes_the_result(operations: list[Any]) -> None:
    """Runs are in any order, repeated, concurrent, and killed before or after they wrote the index."""
    with tempfile.TemporaryDirectory() as folder:
        store, index = Store(Path(folder)), Path(folder) / INDEX
        written: dict[Interval, IntervalOutcome] = {}
        old: bytes | None = None
        for name, *arguments in operations:
            match name:
                case "publish":
                    number, pending, resolved = arguments
                    written[HOURS[number]] = publish(store, HOURS[number], pending, resolved)
                case "look":
                    here = HOURS[arguments[0]]
                    expected = {
                        hour: each for hour, each in written.items() if is_relevant(hour, here, MAX_AGE)
                    }
                    assert outcomes(store, here) == expected
                    old = old or index.read_bytes() if index.exists() else None
                case "lose the index":
                    index.unlink(missing_ok=True)
                case "spoil the index" if index.exists():
                    index.write_bytes(b'{"x": 1}')
                case "bring back an old index" if old:
                    index.write_bytes(old)
                case "remove":
                    written.pop(HOURS[arguments[0]], None)
                    store.remove(layout.manifest(HOURS[arguments[0]]))


def test_unwritable_index_only_costs_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is a cache."""
    store = Store(tmp_path)
    expected = {hour: publish(store, hour, "ab") for hour in HOURS[:5]}

    def refuse(*_: Any) -> None:
        raise VoiceOSDestinationError("no")

    monkeypatch.setattr(Store, "put", refuse)
    for _ in range(2):
        assert outcomes(store, HOURS[5]) == expected
    assert not (tmp_path / INDEX).exists()


def test_invalid_manifest_is_named(tmp_path: Path) -> None:
    """An export that needs it fails, and says what to remove."""
    store = Store(tmp_path)
    publish(store, HOURS[0])
    (tmp_path / layout.manifest(HOURS[0])).write_text("[1, 2")
    with pytest.raises(VoiceOSExportError, match=f"{layout.manifest(HOURS[0])} is not a manifest. Remove it"):
        outcomes(store, HOURS[1])


def test_export_without_pending_writes_no_index(tmp_path: Path) -> None:
    """The folder has no additional file."""
    export_pages([page({"id": "a"})], tmp_path)
    assert INDEX not in files_below(tmp_path)
