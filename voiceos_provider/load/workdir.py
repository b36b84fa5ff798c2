"""Work directories: where the rows of an unfinished export wait on this machine.

Each one is locked by the process that works in it, and the kernel releases the lock when that process ends. Every
export thereby recognizes the directories of processes that have died, and removes those that no retry may resume.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import msgspec

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError, VoiceOSValueError
from voiceos_provider.load.checkpoint import Checkpoint, DamagedWorkDirError

log = logging.getLogger(__name__)

_PREFIX = "voiceos-export-"
_LOCK = "lock"
_OWNER = "owner.json"
_CHECKPOINT = "checkpoint.json"
_UNKNOWN_OWNER_KEPT_FOR = 86_400.0
_CREATION = 60.0
"""Seconds within which a process that has created a directory has locked it."""
_LOCK_ATTEMPTS = 25
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_CURE = "Set TMPDIR, in the environment of the worker, to a folder that has room for them."


class InUseError(Exception):
    """Another process works in the directory."""


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """A task instance, whatever its attempt."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1

    def __str__(self) -> str:
        return f"{self.dag_id}.{self.task_id} {self.run_id}" + (
            f" [{self.map_index}]" if self.map_index >= 0 else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that a work directory belongs to.

    :param task: the task instance it runs; None outside of Airflow
    :param keep_for: seconds after its last write during which a retry may resume; 0 if none can
    """

    host: str
    pid: int
    task: TaskIdentity | None = None
    keep_for: float = 0.0

    @classmethod
    def this_process(cls, task: TaskIdentity | None = None, *, keep_for: float = 0.0) -> Self:
        """Return the owner for this process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), task=task, keep_for=keep_for)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the owner noted in a work directory, or None if none can be read."""
        try:
            return msgspec.json.decode((path / _OWNER).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDirInfo:
    """A work directory on this machine.

    :param owner: whose it is; None if it does not say so
    :param in_use: whether a living process has locked it, or may be about to
    :param idle: seconds since the last write
    :param bytes: size of its files
    """

    path: Path
    owner: Owner | None
    in_use: bool
    idle: float
    bytes: int

    @property
    def resumable_by(self) -> TaskIdentity | None:
        """The task instance on this machine whose retry may resume here; None if a process works there."""
        if self.in_use or self.owner is None or self.owner.host != socket.gethostname():
            return None
        return self.owner.task

    def is_abandoned(self, task: TaskIdentity | None = None) -> bool:
        """Return whether no process works there and no retry may resume from it.

        :param task: the task instance that starts now, with another directory
        """
        if self.in_use:
            return False
        owner = self.owner
        if owner is None or owner.host != socket.gethostname():  # its lock may not be visible here
            return self.idle > _UNKNOWN_OWNER_KEPT_FOR
        return self.idle >= owner.keep_for or (task is not None and owner.task == task)


class WorkDir:
    """A work directory that is removed when the export ends."""

    checkpoint: Checkpoint | None = None
    """Where an earlier attempt stopped; None to start over."""
    is_kept = False
    """Whether checkpoints are of use."""

    def __init__(self, owner: Owner | None = None) -> None:
        self._owner = owner or Owner.this_process()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Keep or remove the directory; also if the export has failed before it used it."""

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield the directory for as long as the export works."""
        remove_abandoned(self._owner.task)
        with _temporary_folder(self._owner) as folder:
            yield folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint, if another attempt can use it."""


class ResumableWorkDir(WorkDir):
    """A work directory that stays if its process is killed, or fails in a way that a retry may fix.

    :param path: the directory, from `create`
    :param owner: the process that works in it from now on
    :param retry_follows: whether there will be another attempt if this one fails
    :raises InUseError: if another process works there
    """

    is_kept = True

    def __init__(self, path: Path, owner: Owner | None = None, *, retry_follows: bool = True) -> None:
        super().__init__(owner)
        self._path = path
        self._retry_follows = retry_follows
        self._lock = _claim(path, self._owner)
        try:
            self.checkpoint = Checkpoint.from_json((path / _CHECKPOINT).read_bytes())
        except FileNotFoundError:
            pass
        except DamagedWorkDirError as error:
            log.warning("%s Starting over.", error)

    @classmethod
    def create(cls) -> Path:
        """Create the directory for one."""
        with disk_errors(_temporary()):
            return Path(tempfile.mkdtemp(prefix=_PREFIX))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or not (self._retry_follows and _is_resumable(error)):
            self.remove()
        self.release()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield the directory for as long as the export works."""
        with suppress(FileNotFoundError):
            os.utime(self._path)
        remove_abandoned(self._owner.task)
        with self:
            yield self._path

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint atomically."""
        new = self._path / f"{_CHECKPOINT}.new"
        try:
            new.write_bytes(checkpoint.to_json())
            new.replace(self._path / _CHECKPOINT)
        except OSError as error:  # it would only have saved time
            log.warning("Cannot save a checkpoint in %s: %s.", self._path, error)

    def remove(self) -> None:
        """Remove the directory and all rows in it."""
        _delete(self._path)
        self.release()

    def release(self) -> None:
        """Unlock the directory and leave it to a retry."""
        self._lock.close()


def is_workdir(path: Path) -> bool:
    """Return whether a path can be a work directory of this user; it may come from an untrusted source."""
    if path.parent != _temporary() or not path.name.startswith(_PREFIX) or path.is_symlink():
        return False
    return path.is_dir() and path.stat().st_uid == os.getuid()


def list_workdirs() -> list[WorkDirInfo]:
    """Return the work directories of this user on this machine, the oldest first."""
    found = []
    for path in _temporary().glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another process removes it
            if is_workdir(path):
                found.append(_describe(path))
    return sorted(found, key=lambda each: -each.idle)


def _describe(path: Path) -> WorkDirInfo:
    stats = [each.lstat() for each in (path, *path.iterdir())]
    owner = Owner.read(path)
    idle = time.time() - max(stat.st_mtime for stat in stats)
    return WorkDirInfo(
        path=path,
        owner=owner,
        in_use=_is_locked(path) or (owner is None and idle < _CREATION),
        idle=idle,
        bytes=sum(stat.st_size for stat in stats[1:]),
    )


def remove_workdir(path: Path) -> None:
    """Remove a work directory. A retry that would have resumed from it starts over.

    :raises VoiceOSValueError: if it is not a work directory of this user
    :raises InUseError: if a process works there
    """
    if not is_workdir(path):
        raise VoiceOSValueError(f"{path} is not a work directory of this user.")
    _remove(path)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError), _locked(path):
        _delete(path.rename(path.with_name(f"{path.name}.removed")))  # no retry can find it half removed


def _delete(path: Path) -> None:
    """Delete a locked directory. The lock goes last: without it, another process would take it for an abandoned one."""
    with suppress(OSError):
        for each in path.iterdir():
            if each.name != _LOCK:
                shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(
    task: TaskIdentity | None = None, *, has_ended: Callable[[TaskIdentity], bool] = lambda task: False
) -> None:
    """Remove the work directories that no process uses and no retry may resume. They hold personal data.

    :param task: the task instance that starts now: those of its earlier attempts are not resumed
    :param has_ended: whether a task instance has ended and has no retry; not called for directories in use
    """
    for each in list_workdirs():
        owner = each.resumable_by
        if each.is_abandoned(task) or (owner is not None and has_ended(owner)):
            with suppress(OSError, InUseError):
                _remove(each.path)
                log.info("Removed %s, which %s has left.", each.path, _name(each.owner))


def _name(owner: Owner | None) -> str:
    return "an earlier export" if owner is None else str(owner.task or f"process {owner.pid}")


@contextmanager
def local_file(suffix: str) -> Iterator[Path]:
    """Yield the path of a file that a driver can send; it is removed at the end."""
    with _temporary_folder(Owner.this_process()) as folder:
        yield folder / f"rows{suffix}"


@contextmanager
def _temporary_folder(owner: Owner) -> Iterator[Path]:
    with disk_errors(_temporary()):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _claim(folder, owner)
    try:
        yield folder
    finally:
        _delete(folder)
        lock.close()


def _claim(path: Path, owner: Owner) -> IO[str]:
    """Lock a directory and note the owner; others lock it for a moment when they list directories."""
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            lock = _lock(path, "w")
            break
        except InUseError:
            if attempt == _LOCK_ATTEMPTS - 1:
                raise
            time.sleep(0.02)
    try:
        (path / _OWNER).write_bytes(msgspec.json.encode(owner))
    except OSError:
        lock.close()
        raise
    return lock


def _lock(path: Path, mode: str) -> IO[str]:
    """Lock a directory until the file is closed or the process ends.

    :raises InUseError: if another process has locked it
    :raises FileNotFoundError: if it is gone, or has no lock and `mode` does not create one
    """
    import fcntl  # not on Windows, where no Airflow runs

    file: IO[str] = (path / _LOCK).open(mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (path / _LOCK).stat()  # removed while this waited for the lock
    except BlockingIOError:
        file.close()
        raise InUseError(f"Another process works in {path}.") from None
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        lock = _lock(path, "r")
    except FileNotFoundError:  # never used, or by an interrupted creation
        yield
    else:
        with lock:
            yield


def _is_locked(path: Path) -> bool:
    try:
        with _locked(path):
            return False
    except InUseError:
        return True


def _is_resumable(error: BaseException) -> bool:
    """Return whether a retry may resume after this error: it is retryable, or a timeout."""
    if isinstance(error, VoiceOSError):
        return error.retryable and not isinstance(error, DamagedWorkDirError)
    # Airflow's timeout is neither; a task that is told to stop ends with a kind of KeyboardInterrupt.
    return not isinstance(error, (Exception, KeyboardInterrupt))


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raise errors of the local disk as `VoiceOSDestinationError`, naming the folder."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, folder) from error


def is_disk_full(error: Exception) -> bool:
    """Return whether an error reports a full local disk; drivers write files of their own."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def disk_error(error: Exception, folder: Path | None = None) -> VoiceOSDestinationError:
    """Return the error for rows that cannot be written to the local disk.

    :param folder: where; the folder for temporary files by default
    """
    reason = " ".join(str(error).split())
    return VoiceOSDestinationError(f"cannot keep rows in {folder or _temporary()}: {reason}. {_CURE}")


def _temporary() -> Path:
    """Return the folder of all work directories.

    :raises VoiceOSDestinationError: if there is none; Python tries TMPDIR, and then the usual ones
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise VoiceOSDestinationError(
            f"cannot keep rows on this machine: {error.strerror}. {_CURE}"
        ) from error
