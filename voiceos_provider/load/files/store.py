"""How does a whole file come to stand at its place at once, and no half file ever?

`fsspec` closes, and so publishes, a file that is being written when an exception passes; on local disk readers see it
grow. So nothing is ever written in place: a finished local file is put there in one step.
"""

from __future__ import annotations

import errno
import logging
import os
import pathlib
import posixpath
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.files import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_PUTS_AT_ONCE = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "oss", "r2"}
)
"""Object stores: an object is visible when its upload is complete, and not before."""

_ABANDONED_AFTER = 3600.0
_TAIL = 65_536


class StorePath(Protocol):
    """What is needed of a path: Airflow's `ObjectStoragePath` has it."""

    @property
    def fs(self) -> Any:
        """The fsspec filesystem, authenticated."""

    @property
    def path(self) -> str:
        """The path on that filesystem."""
        ...


class Store:
    """Whole files below one root.

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
        protocols = self._fs.protocol
        self._protocols = {protocols} if isinstance(protocols, str) else set(protocols)
        self._local = bool(self._protocols & {"file", "local"})
        protocol = protocols if isinstance(protocols, str) else protocols[0]
        self.uri = self._root if self._local else f"{protocol}://{self._root.lstrip('/')}"

    def uri_of(self, key: str) -> str:
        """Where readers find the file; no connection id, no credentials."""
        return f"{self.uri}/{key}"

    def put(self, local: Path, key: str) -> None:
        """Make the finished file at `local` stand at `key`, replacing what stood there.

        :raises VoiceOSDestinationError: if the store refuses; what stood there then still stands
        """
        place = self._place(key)
        incoming = self._place(layout.incoming(f"{posixpath.basename(key)}.{uuid.uuid4().hex}.tmp"))
        with self._blaming(f"cannot write {self.uri_of(key)}"):
            if self._local:
                _put_locally(local, Path(incoming), Path(place))
            elif self._protocols & _PUTS_AT_ONCE:
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
        """Notice at the start that nothing can be written there, and not when all has been read.

        :raises VoiceOSDestinationError: if the store says that there is no bucket, or the disk that nobody may write
        """
        if self._local:
            with self._blaming(f"cannot write to {self.uri}"):
                _require_writable(Path(self._place(layout.manifests())))
        if self._protocols & _PUTS_AT_ONCE:
            bucket = self._root.lstrip("/").partition("/")[0]
            with self._blaming(f"cannot write to {self.uri}"):
                if self._lacks(bucket):
                    raise FileNotFoundError(
                        f"there is no bucket {bucket!r}; create it, or name another one in path"
                    )

    def _lacks(self, bucket: str) -> bool:
        # Whoever may write to a bucket and not ask about it is told that it does not exist; a listing tells better.
        try:
            if not self._fs.exists(bucket):
                self._fs.ls(bucket)
        except FileNotFoundError:
            return True
        except Exception as error:  # noqa: BLE001  whatever else it is, it does not say that there is no bucket
            log.info("Whether there is a bucket %r cannot be told: %s.", bucket, type(error).__name__)
        return False

    def read(self, key: str) -> bytes | None:
        """The whole (small) file, or None if there is none."""
        with self._blaming(f"cannot read {self.uri_of(key)}"):
            try:
                return bytes(self._fs.cat_file(self._place(key)))
            except FileNotFoundError:
                return None

    def holds(self, local: Path, key: str) -> bool:
        """Whether the file at `key` has the size and the last bytes of the one at `local`.

        Every data file ends in the time of its export, so that two exports of one interval differ there.
        """
        size, place = local.stat().st_size, self._place(key)
        with self._blaming(f"cannot read back {self.uri_of(key)}"):
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

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder; none if there is no such folder."""
        place = self._place(folder)
        with self._blaming(f"cannot list {self.uri_of(folder)}"):
            self._fs.invalidate_cache(place)
            try:
                return sorted(posixpath.basename(path) for path in self._fs.ls(place, detail=False))
            except FileNotFoundError:
                return []

    def has(self, key: str) -> bool:
        """Whether there is a file, whatever is in it."""
        place = self._place(key)
        with self._blaming(f"cannot look for {self.uri_of(key)}"):
            self._fs.invalidate_cache(posixpath.dirname(place))
            try:
                self._fs.info(place)
            except FileNotFoundError:
                return False
            return True

    def remove(self, key: str) -> None:
        """Remove the file, if it is there. To remove what is not there may take a right that nobody else needs."""
        with self._blaming(f"cannot remove {self.uri_of(key)}"), suppress(FileNotFoundError):
            if self.has(key):
                self._fs.rm_file(self._place(key))

    def _place(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _blaming(self, what: str) -> Iterator[None]:
        """Turn whatever a store raises into one error that says what was refused."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())
            raise VoiceOSDestinationError(
                f"{what}: {type(error).__name__}: {reason}{self._cure(error)}"
            ) from error

    def _cure(self, error: Exception) -> str:
        """Who can mend it and how, where that is plain."""
        if isinstance(error, NotADirectoryError):
            return "; a part of path is a file, name a folder."
        if not isinstance(error, PermissionError):
            return ""
        who = "the user that the worker runs as" if self._local else "the credentials of storage_conn_id"
        return f"; let {who} read and write there, or name another path."


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
    """Remove what killed runs have left; a copy that is still growing is younger."""
    for left in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_AFTER:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
