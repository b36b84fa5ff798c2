"""Atomic writes of files on every kind of store."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.support.exporting import Root, files_below
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSValueError
from voiceos_provider.load.files.store import Store, StorePath

KEY = "conversations/file.parquet"
HOUR = 3600


@pytest.fixture
def memory() -> Iterator[Root]:
    """Yield a store that does not guarantee atomic writes."""
    fs = fsspec.filesystem("memory")
    yield Root(fs, "/exports")
    if fs.exists("/exports"):
        fs.rm("/exports", recursive=True)


@pytest.fixture(params=["path", "fsspec", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path, memory: Root) -> Path | StorePath:
    """Return a local path, the same as fsspec sees it, and another store."""
    return {
        "path": tmp_path / "exports",
        "fsspec": Root(fsspec.filesystem("file"), str(tmp_path / "exports")),
        "memory": memory,
    }[request.param]


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return a finished file."""
    path = tmp_path / "finished"
    path.write_bytes(b"whole" * 50_000)
    return path


def everything(root: Path | StorePath) -> list[str]:
    """Return all files below the root, including hidden ones."""
    if isinstance(root, Path):
        return list(files_below(root))
    return sorted(path.partition("/exports/")[2] for path in root.fs.find(root.path))


def test_put_writes_one_file(root: Path | StorePath, local: Path):
    """No temporary copy remains."""
    Store(root).put(local, KEY)
    assert Store(root).read(KEY) == local.read_bytes()
    assert everything(root) == [KEY]


def test_put_replaces_the_earlier_file(root: Path | StorePath, local: Path):
    """The new file may be shorter."""
    store = Store(root)
    store.put(local, KEY)
    local.write_bytes(b"new")
    store.put(local, KEY)
    assert store.read(KEY) == b"new"
    assert everything(root) == [KEY]


def test_empty_file_can_be_put(root: Path | StorePath, local: Path):
    """JSON lines of an interval without conversations are empty."""
    store = Store(root)
    local.write_bytes(b"")
    store.put(local, KEY)
    assert store.read(KEY) == b""
    assert store.has_content_of(local, KEY)


def test_missing_file_reads_as_none(root: Path | StorePath):
    """Removing it is not an error."""
    store = Store(root)
    assert store.read(KEY) is None
    store.remove(KEY)
    assert everything(root) == []


def test_remove_deletes_only_the_named_file(root: Path | StorePath, local: Path):
    """A file with a longer name stays."""
    store = Store(root)
    store.put(local, KEY)
    store.put(local, f"{KEY}.gz")
    store.remove(KEY)
    assert everything(root) == [f"{KEY}.gz"]


@pytest.mark.parametrize(
    "other",
    [b"whole" * 49_999, b"whole" * 49_999 + b"whale", b"", b"whole" * 50_001],
    ids=["shorter", "another end", "empty", "longer"],
)
def test_has_content_of_compares_size_and_content(root: Path | StorePath, local: Path, other: bytes):
    """Another size or another end differs."""
    store = Store(root)
    assert not store.has_content_of(local, KEY)
    store.put(local, KEY)
    assert store.has_content_of(local, KEY)
    local.write_bytes(other)
    assert not store.has_content_of(local, KEY)


@pytest.mark.parametrize("folder", ["[eu]", "a*b", "a?b"])
def test_path_that_a_store_takes_for_a_pattern_is_rejected_early(memory: Root, tmp_path: Path, folder: str):
    """The store would write to another path; on local disk it is an ordinary name."""
    with pytest.raises(VoiceOSValueError, match="takes for a pattern; name another folder"):
        Store(Root(memory.fs, f"/exports/{folder}")).require_place()
    Store(tmp_path / folder).require_place()


def test_glob_sees_only_complete_files_during_a_put(tmp_path: Path, memory: Root, local: Path):
    """Readers use `conversations/*`, with and without hidden files."""
    store, seen = Store(memory), []
    put_file, mv = memory.fs.put_file, memory.fs.mv

    def list_files() -> None:
        seen.append([memory.fs.cat_file(path) for path in memory.fs.glob("/exports/conversations/*")])

    class Listing(type(memory.fs)):  # type: ignore[misc]
        def put_file(self, *args: object, **kwargs: object) -> None:
            list_files()
            put_file(*args, **kwargs)
            list_files()

        def mv(self, *args: object, **kwargs: object) -> None:
            list_files()
            mv(*args, **kwargs)
            list_files()

    watched = Store(Root(Listing(skip_instance_cache=True), memory.path))
    first = local.read_bytes()
    watched.put(local, KEY)
    local.write_bytes(b"second")
    watched.put(local, KEY)
    assert [[first]] == [files for files in seen if files][:1]
    assert {content for files in seen for content in files} == {first, b"second"}
    assert all(len(files) <= 1 for files in seen)
    assert store.read(KEY) == b"second"


class Refusing(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
    """A store that refuses to move a file."""

    protocol = "memory"

    def mv(self, *args: object, **kwargs: object) -> None:
        raise PermissionError("moving is not for you")


def test_refused_move_leaves_no_copy_and_keeps_the_earlier_file(memory: Root, local: Path):
    """The temporary copy is removed."""
    Store(memory).put(local, KEY)
    refusing = Store(Root(Refusing(skip_instance_cache=True), memory.path))
    other = local.with_name("other")
    other.write_bytes(b"other")
    with pytest.raises(VoiceOSDestinationError) as refusal:
        refusing.put(other, KEY)
    assert str(refusal.value) == (
        "cannot write memory://exports/conversations/file.parquet: PermissionError: moving is not for you; "
        "let the credentials of storage_conn_id read and write there, or name another path."
    )
    assert everything(memory) == [KEY]
    assert Store(memory).read(KEY) == local.read_bytes()


def test_folder_that_cannot_be_created_is_named(tmp_path: Path, local: Path):
    """The message has the path and the system's reason, and the error is retryable."""
    (tmp_path / "exports").write_text("a file where a folder should be")
    with pytest.raises(VoiceOSDestinationError) as refusal:
        Store(tmp_path / "exports").put(local, KEY)
    assert str(refusal.value).startswith(f"cannot write {tmp_path}/exports/{KEY}: ")
    assert "NotADirectoryError" in str(refusal.value) or "FileExistsError" in str(refusal.value)
    assert refusal.value.retryable


def test_temporary_files_of_killed_runs_are_removed_later(tmp_path: Path, local: Path):
    """A newer copy may belong to a running export."""
    store = Store(tmp_path / "exports")
    store.put(local, KEY)
    incoming = tmp_path / "exports/_incoming"
    old, young, foreign = incoming / "file.csv.1.tmp", incoming / "file.parquet.2.tmp", incoming / "notes.txt"
    for path in (old, young, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    store.put(local, KEY)
    assert everything(tmp_path / "exports") == ["_incoming/file.parquet.2.tmp", "_incoming/notes.txt", KEY]


def test_paths_have_no_credentials(tmp_path: Path, memory: Root):
    """Receipts and errors may be read by anyone."""
    assert Store(tmp_path).uri_of(KEY) == f"{tmp_path}/{KEY}"
    assert Store(memory).uri_of(KEY) == f"memory://exports/{KEY}"


def test_object_storage_path_of_airflow_is_a_root(tmp_path: Path, local: Path):
    """The operator passes it, with and without a slash at its end."""
    sdk = pytest.importorskip("airflow.providers.common.compat.sdk")
    for path in (f"file://{tmp_path}/exports", f"file://{tmp_path}/exports/"):
        store = Store(sdk.ObjectStoragePath(path))
        store.put(local, KEY)
        assert store.uri_of(KEY) == f"{tmp_path}/exports/{KEY}"
    assert everything(tmp_path / "exports") == [KEY]
