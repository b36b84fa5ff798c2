"""Complete files on any filesystem: object stores, local disk, and everything else that fsspec supports.

If an exception interrupts writing, `fsspec` closes and thereby publishes the file; on local disk, readers see partial
files. So nothing is written in place: a finished local file is put there in one step.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import pathlib
import posixpath
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSValueError
from voiceos_provider.load.files import layout

log = logging.getLogger(__name__)

T = TypeVar("T")

_PUTS_AT_ONCE = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "oss", "r2"}
)
"""Object stores: an object is visible when its upload is complete, and not before."""

_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl"), "azure"),
}
"""The extra of this package for each URL scheme."""

_PATTERN = re.compile(r"[*?[]")
"""Characters that fsspec expands where it moves a file."""

_VERSION_KEYS = [
    "ETag",
    "etag",
    "generation",
    "ino",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
]
"""What the filesystems call the version of a file, or the time of its last change."""

_ABANDONED_AFTER = 3600.0
_TAIL = 65_536
_BLOCK = 2**20
_AT_ONCE = 8


def cannot_open(path: str, error: Exception) -> VoiceOSValueError:
    """Return the error for a path with an unknown scheme, or whose package is not installed."""
    extra = _EXTRAS.get(path.partition("://")[0])
    known = "write s3://, gs://, abfs:// or file://, or install the Airflow provider of that store"
    cure = f"pip install 'airflow-provider-voiceos[{extra}]'" if extra else known
    return VoiceOSValueError(f"path {path!r} cannot be opened: {error}; {cure}.")


class StorePath(Protocol):
    """A path with its filesystem, such as Airflow's `ObjectStoragePath`."""

    @property
    def fs(self) -> Any:
        """The fsspec filesystem, authenticated."""

    @property
    def path(self) -> str:
        """The path on that filesystem."""
        ...


class Store:
    """Complete files below one root.

    :param root: an `ObjectStoragePath`, a `upath.UPath`, or a local `pathlib.Path`
    """

    def __init__(self, root: StorePath | pathlib.Path) -> None:
        fs = getattr(root, "fs", None)  # some versions of ObjectStoragePath are a pathlib.Path too
        if fs is None:
            from fsspec.implementations.local import LocalFileSystem

            self._fs: Any = LocalFileSystem()
            self._root = str(root)
        else:
            self._fs = fs
            self._root = str(getattr(root, "path", root)).rstrip("/")
        spelled = self._fs.protocol
        protocols = (spelled,) if isinstance(spelled, str) else tuple(spelled)
        self._local = not {"file", "local"}.isdisjoint(protocols)
        self._lists_by_prefix = not {"s3", "s3a"}.isdisjoint(
            protocols
        )  # a folder may have thousands of files
        self._puts_at_once = not _PUTS_AT_ONCE.isdisjoint(protocols)
        self.uri = self._root if self._local else f"{protocols[0]}://{self._root.lstrip('/')}"

    def uri_of(self, key: str) -> str:
        """Return the address of a file for readers, without connection id and credentials."""
        return f"{self.uri}/{key}"

    def put(self, local: Path, key: str) -> None:
        """Publish a finished local file at `key` in one step, replacing an existing file.

        :raises VoiceOSDestinationError: if the store refuses; the existing file then remains
        """
        place = self._place(key)
        incoming = self._place(layout.incoming(f"{posixpath.basename(key)}.{uuid.uuid4().hex}.tmp"))
        with self._store_errors(f"cannot write {self.uri_of(key)}"):
            if self._local:
                _put_locally(local, Path(incoming), Path(place))
            elif self._puts_at_once:
                self._fs.put_file(str(local), place)
            else:
                for path in (incoming, place):
                    self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
                try:
                    self._fs.put_file(str(local), incoming)
                    self._fs.mv(incoming, place)
                except BaseException:
                    with suppress(Exception):
                        self._fs.rm_file(incoming)
                    raise

    def require_place(self) -> None:
        """Raise before anything is read if nothing can be written there.

        :raises VoiceOSValueError: if the path would be taken for a pattern
        :raises VoiceOSDestinationError: if the bucket does not exist, or the folder is not writable
        """
        if self._local:
            with self._store_errors(f"cannot write to {self.uri}"):
                _require_writable(Path(self._place(layout.MANIFESTS)))
        elif self._puts_at_once:
            bucket = self._root.lstrip("/").partition("/")[0]
            with self._store_errors(f"cannot write to {self.uri}"):
                if self._lacks(bucket):
                    raise FileNotFoundError(
                        f"there is no bucket {bucket!r}; create it, or name another one in path"
                    )
        elif odd := _PATTERN.search(self._root):
            raise VoiceOSValueError(
                f"path {self.uri!r} holds {odd[0]!r}, which this kind of store takes for a pattern; "
                "name another folder."
            )

    def _lacks(self, bucket: str) -> bool:
        # Without the right to look at a bucket, S3 reports that it does not exist; a listing knows better.
        try:
            if not self._fs.exists(bucket):
                self._fs.ls(bucket)
        except FileNotFoundError:
            return True
        except Exception as error:  # noqa: BLE001  any other error does not say that there is no bucket
            log.info("Cannot check whether the bucket %r exists: %s.", bucket, type(error).__name__)
        return False

    def read(self, key: str) -> bytes | None:
        """Return a small file, or None if it does not exist."""
        with self._store_errors(f"cannot read {self.uri_of(key)}"):
            try:
                return bytes(self._fs.cat_file(self._place(key)))
            except FileNotFoundError:
                return None

    def digest(self, key: str) -> tuple[int, str] | None:
        """Return the size and the SHA-256 of a file, read in blocks; None if it does not exist."""
        size, digest, place = 0, hashlib.sha256(), self._place(key)
        with self._store_errors(f"cannot read {self.uri_of(key)}"):
            self._fs.invalidate_cache(posixpath.dirname(place))
            try:
                with self._fs.open(place, "rb", block_size=_BLOCK) as file:
                    while block := file.read(_BLOCK):
                        size += len(block)
                        digest.update(block)
            except FileNotFoundError:
                return None
            return size, digest.hexdigest()

    def has_content_of(self, local: Path, key: str) -> bool:
        """Return whether the file at `key` has the size and the last bytes of the one at `local`.

        Every data file ends in the time of its export, so that two exports of one interval differ there.
        """
        size, place = local.stat().st_size, self._place(key)
        with self._store_errors(f"cannot read back {self.uri_of(key)}"):
            self._fs.invalidate_cache(posixpath.dirname(place))
            try:
                if self._fs.size(place) != size:
                    return False
                if not size:
                    return True
                with local.open("rb") as file:
                    file.seek(-min(size, _TAIL), os.SEEK_END)
                    return (
                        bytes(self._fs.cat_file(place, start=max(0, size - _TAIL), end=size)) == file.read()
                    )
            except FileNotFoundError:
                return False

    def read_all(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield small files with their keys, reading a few at a time in parallel."""
        return _each(self.read, keys)

    def list_versions(self, folder: str) -> dict[str, str]:
        """Return the files in a folder by name, each with its version; none if the folder does not exist.

        The version changes when the file is replaced; it is empty where the store does not show one.
        """
        place = self._place(folder)
        with self._store_errors(f"cannot list {self.uri_of(folder)}"):
            self._fs.invalidate_cache(place)
            try:
                entries = self._fs.ls(place, detail=True)
            except FileNotFoundError:
                return {}
            return {posixpath.basename(entry["name"]): _version(entry) for entry in entries}

    def exists(self, key: str) -> bool:
        """Return whether a file exists."""
        place = self._place(key)
        with self._store_errors(f"cannot look for {self.uri_of(key)}"):
            self._fs.invalidate_cache(posixpath.dirname(place))
            try:
                self._fs.info(place)
            except FileNotFoundError:
                return False
            return True

    def keys_below(self, folder: str) -> list[str]:
        """Return the keys of all files below a folder, at any depth; none if it does not exist."""
        place = self._place(folder)
        with self._store_errors(f"cannot list {self.uri_of(folder)}"):
            self._fs.invalidate_cache()
            try:
                paths = self._fs.find(place)
            except FileNotFoundError:
                return []
        start = len(str(self._fs._strip_protocol(place)))
        return sorted(folder + path[start:] for path in paths)

    @contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        """Open a file for reading, at any position."""
        place = self._place(key)
        with self._store_errors(f"cannot read {self.uri_of(key)}"):
            self._fs.invalidate_cache(posixpath.dirname(place))
            with self._fs.open(place, "rb") as file:
                yield file

    def keys_with_prefixes(self, prefixes: Iterable[str]) -> dict[str, list[str]]:
        """Return the keys of existing files by their prefix, listing a few folders at a time in parallel.

        :param prefixes: each is a folder and the start of the names of files in it
        """
        return dict(_each(self._keys_with_prefix, prefixes))

    def _keys_with_prefix(self, prefix: str) -> list[str]:
        folder, start = posixpath.split(prefix)
        place = self._place(folder)
        with self._store_errors(f"cannot list {self.uri_of(folder)}"):
            self._fs.invalidate_cache(place)
            try:
                paths = (
                    self._fs.find(place, prefix=start)
                    if self._lists_by_prefix
                    else self._fs.ls(place, detail=False)
                )
            except FileNotFoundError:
                return []
        names = sorted(posixpath.basename(path.rstrip("/")) for path in paths)
        return [f"{folder}/{name}" for name in names if name.startswith(start)]

    def sweep(self) -> None:
        """Remove copies that killed exports have left on local disk."""
        if self._local:
            _sweep(Path(self._place(layout.incoming(""))))

    def remove(self, key: str) -> None:
        """Remove a file if it exists; if it does not, no permission to delete is needed."""
        with self._store_errors(f"cannot remove {self.uri_of(key)}"), suppress(FileNotFoundError):
            if self.exists(key):
                self._fs.rm_file(self._place(key))

    def _place(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _store_errors(self, what: str) -> Iterator[None]:
        """Raise the errors of a filesystem as `VoiceOSDestinationError`, naming what was refused."""
        try:
            yield
        except VoiceOSDestinationError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise VoiceOSDestinationError(
                f"{what}: {type(error).__name__}: {reason}{self._cure(error)}"
            ) from error

    def _cure(self, error: Exception) -> str:
        if isinstance(error, NotADirectoryError):
            return "; a part of path is a file, name a folder."
        if not isinstance(error, PermissionError):
            return ""
        who = "the user that the worker runs as" if self._local else "the credentials of storage_conn_id"
        return f"; let {who} read and write there, or name another path."


def _each(function: Callable[[str], T], keys: Iterable[str]) -> Iterator[tuple[str, T]]:
    wanted = list(keys)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from zip(wanted, pool.map(function, wanted), strict=True)


def _version(entry: dict[str, Any]) -> str:
    known = [f"{key}={entry[key]}" for key in _VERSION_KEYS if entry.get(key)]
    return " ".join([*known, f"size={entry.get('size')}"]) if known else ""


def _require_writable(folder: Path) -> None:
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    may = os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    if not may:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))


def _put_locally(local: Path, incoming: Path, place: Path) -> None:
    for path in (incoming, place):
        path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(incoming.parent)
    try:
        with local.open("rb") as source, incoming.open("xb") as copy:
            shutil.copyfileobj(source, copy, 2**20)
            copy.flush()
            os.fsync(copy.fileno())
        incoming.replace(place)
        _sync_folder(place.parent)
    except BaseException:
        incoming.unlink(missing_ok=True)
        raise


def _sweep(folder: Path) -> None:
    """Remove the copies of killed exports; one that is still growing is younger."""
    for copy in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - copy.stat().st_mtime > _ABANDONED_AFTER:
                copy.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
