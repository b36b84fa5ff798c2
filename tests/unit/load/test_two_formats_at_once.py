"""Concurrent runs of one interval with other arguments: one is rejected, or each removes the other's files."""

import json
import random
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporting import DATA, MANIFEST, export_pages, files_below, page, published_files
from tests.support.stores import sha256
from voiceos_provider.exceptions import VoiceOSExportError
from voiceos_provider.load.files import publication
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.files.store import Store
from voiceos_provider.load.receipt import ExportReceipt

ENCODINGS = {name: Encoding.choose(name, None) for name in ("parquet", "csv")}
PAGE = page({"id": "a", "messages": [{"role": "user", "content": "hello"}], "agent_config": {"prompt": "p"}})
TIMEOUT = 20


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Return a directory for work directories; waits between attempts are short and uneven."""
    uneven = random.uniform
    folder = tmp_path / "workdir"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(publication.random, "uniform", lambda low, high: uneven(low, high) / 10)


Hook = Callable[[str, str], None]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call a hook with the format of the run and the key, around puts and removals."""

    def nothing(_: str, __: str) -> None: ...

    def install(
        *,
        before_put: Hook = nothing,
        after_put: Hook = nothing,
        before_remove: Hook = nothing,
        after_remove: Hook = nothing,
    ) -> None:
        put, remove = Store.put, Store.remove

        def watched_put(store: Store, local: Path, key: str) -> None:
            before_put(threading.current_thread().name, key)
            put(store, local, key)
            after_put(threading.current_thread().name, key)

        def watched_remove(store: Store, key: str) -> None:
            before_remove(threading.current_thread().name, key)
            remove(store, key)
            after_remove(threading.current_thread().name, key)

        monkeypatch.setattr(Store, "put", watched_put)
        monkeypatch.setattr(Store, "remove", watched_remove)

    return install


def run_to_the_end(
    root: Path, done: dict[str, threading.Event], *, replace_existing: bool
) -> dict[str, Future[ExportReceipt]]:
    """Run both exports at once, each in a thread with the name of its format, until both have ended."""

    def run(name: str) -> ExportReceipt:
        threading.current_thread().name = name
        try:
            return export_pages([PAGE], root, encoding=ENCODINGS[name], replace_existing=replace_existing)
        finally:
            done[name].set()

    with ThreadPoolExecutor(2) as pool:
        return {name: pool.submit(run, name) for name in ENCODINGS}


def run_both(root: Path, done: dict[str, threading.Event]) -> list[ExportReceipt]:
    """Run both exports at once; both must succeed."""
    return [each.result() for each in run_to_the_end(root, done, replace_existing=True).values()]


def check_that_one_is_left(root: Path, receipts: list[ExportReceipt]) -> None:
    """Check that the published files are the data of one export with its own manifest."""
    files = files_below(root)
    manifest = json.loads(files[MANIFEST])
    (receipt,) = (receipt for receipt in receipts if receipt.as_dict() == manifest)
    assert list(files) == published_files(Path(receipt.files[0].path).suffix)
    for file in receipt.files:
        assert sha256(files[str(Path(file.path).relative_to(root))]) == file.sha256


@pytest.mark.parametrize("goes_on_first", ENCODINGS)
@pytest.mark.parametrize("publishes_last", ENCODINGS)
def test_after_both_have_published_data_always_remains(
    root: Path, watch: Callable[..., None], goes_on_first: str, publishes_last: str
):
    """Both publish before either removes files."""
    done = {name: threading.Event() for name in ENCODINGS}
    published = {name: threading.Event() for name in ENCODINGS}
    empty_after: list[tuple[str, str]] = []

    def before_put(name: str, key: str) -> None:
        if key == MANIFEST and name == publishes_last:
            for other in published.keys() - {name}:
                assert published[other].wait(TIMEOUT)

    def after_put(name: str, key: str) -> None:
        if key == MANIFEST and not published[name].is_set():
            published[name].set()
            assert all(event.wait(TIMEOUT) for event in published.values())
            if name != goes_on_first:
                assert done[goes_on_first].wait(TIMEOUT)

    def after_remove(name: str, key: str) -> None:
        if not list(root.glob("conversations/*")):
            empty_after.append((name, key))

    watch(before_put=before_put, after_put=after_put, after_remove=after_remove)
    receipts = run_both(root, done)
    assert empty_after == []
    check_that_one_is_left(root, receipts)


def test_runs_that_removed_each_other_s_files_check_again(root: Path, watch: Callable[..., None]):
    """Each run has found its own files and removes the other's; the last one to remove checks last."""
    done = {name: threading.Event() for name in ENCODINGS}
    data_put = {name: threading.Event() for name in ENCODINGS}
    removing = {name: threading.Event() for name in ENCODINGS}
    other = {"parquet": "csv", "csv": "parquet"}

    def before_put(name: str, key: str) -> None:
        if key == MANIFEST and not data_put[name].is_set():
            data_put[name].set()
            # One publishes its manifest once both have data; the other does once the first has listed all of it.
            assert (data_put["csv"] if name == "parquet" else removing["parquet"]).wait(TIMEOUT)

    def before_remove(name: str, key: str) -> None:
        if key == f"{DATA}.{other[name]}" and not removing[name].is_set():
            removing[name].set()
            assert removing[other[name]].wait(TIMEOUT)

    watch(before_put=before_put, before_remove=before_remove)
    receipts = run_both(root, done)
    assert all(event.is_set() for event in removing.values())
    check_that_one_is_left(root, receipts)


@pytest.mark.parametrize("same_format", [False, True])
def test_first_to_publish_stays_and_the_other_is_rejected(
    root: Path, watch: Callable[..., None], *, same_format: bool
):
    """Both started before either published; the rejected run leaves no file."""
    reading, published = threading.Event(), threading.Event()
    second = {"statuses": ["ended"]} if same_format else {"encoding": ENCODINGS["csv"]}

    def pages() -> Any:
        reading.set()
        assert published.wait(TIMEOUT)
        yield PAGE

    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(export_pages, pages(), root, **second)
        assert reading.wait(TIMEOUT)
        receipt = export_pages([PAGE], root)
        published.set()
        with pytest.raises(VoiceOSExportError, match="was written with other arguments"):
            refused.result(TIMEOUT)
    check_that_one_is_left(root, [receipt])


@pytest.mark.parametrize("last", ENCODINGS)
def test_last_manifest_decides_between_concurrent_publications(
    root: Path, watch: Callable[..., None], last: str
):
    """Both put their manifests before either verifies its own: the last is complete, the other is rejected."""
    done = {name: threading.Event() for name in ENCODINGS}
    manifests = {name: threading.Event() for name in ENCODINGS}
    in_flight = threading.Event()
    (first,) = ENCODINGS.keys() - {last}

    def before_put(name: str, key: str) -> None:
        if key == MANIFEST and name == last:
            in_flight.set()
            assert manifests[first].wait(TIMEOUT)
        elif key == MANIFEST:
            assert in_flight.wait(TIMEOUT)

    def after_put(name: str, key: str) -> None:
        if key == MANIFEST:
            manifests[name].set()
            assert manifests[last].wait(TIMEOUT)

    watch(before_put=before_put, after_put=after_put)
    ended = run_to_the_end(root, done, replace_existing=False)
    with pytest.raises(VoiceOSExportError, match="was written with other arguments") as rejected:
        ended[first].result()
    assert not rejected.value.retryable
    check_that_one_is_left(root, [ended[last].result()])


@pytest.mark.parametrize("last", ENCODINGS)
def test_manifest_in_flight_replaces_an_export_that_has_ended(
    root: Path, watch: Callable[..., None], last: str
):
    """One ends, and removes the other's files, after the other has read its manifest for the last time."""
    done = {name: threading.Event() for name in ENCODINGS}
    in_flight = threading.Event()
    (first,) = ENCODINGS.keys() - {last}

    def before_put(name: str, key: str) -> None:
        if key == MANIFEST and name == last:
            in_flight.set()
            assert done[first].wait(TIMEOUT)
        elif key == MANIFEST:
            assert in_flight.wait(TIMEOUT)

    watch(before_put=before_put)
    ended = run_to_the_end(root, done, replace_existing=False)
    ended[first].result()
    check_that_one_is_left(root, [ended[last].result()])
