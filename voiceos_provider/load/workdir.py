"""Where do rows wait on this machine, and what may stay there for another try?"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError

log = logging.getLogger(__name__)

_PREFIX = "voiceos-export-"
_LOCK = "lock"
_CHECKPOINT = "checkpoint.json"
_ABANDONED_AFTER = 86_400.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_CURE = "Set TMPDIR, in the environment of the worker, to a folder that has room for them."


class DamagedWorkDirError(VoiceOSDestinationError):
    """What an earlier try has left is not what it wrote. It is removed, so the next try starts over."""


class InUseError(Exception):
    """Another process works in the folder: a try that lives on though Airflow has given it up."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """From where another try can go on, as plain JSON.

    :param read: what has been read
    :param written: which bytes of the files in the folder hold it
    """

    read: dict[str, Any]
    written: dict[str, Any]


class WorkDir:
    """A folder that only this export uses, gone when it is left.

    `checkpoint` is from where an earlier try left this one to go on; here there is none.
    """

    checkpoint: Checkpoint | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Decide what stays, also of a try that has not come to work in the folder."""

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The folder, for as long as the export works."""
        sweep_abandoned()
        with blaming_the_disk(_temporary()):
            made = tempfile.TemporaryDirectory(prefix=_PREFIX)
        with made as folder:
            yield Path(folder)

    @property
    def is_kept(self) -> bool:
        """Whether it is worth the while to save a checkpoint."""
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        """Note from where another try could go on."""


class ResumableWorkDir(WorkDir):
    """A folder that stays if its process is killed, or fails in a way that another try may mend.

    One process at a time: the kernel holds its lock, and lets go of it when the process ends in whatever way.

    :param path: the folder; it exists
    :param stays: asked at the end, whether there will be another try
    :raises InUseError: if another one has it
    """

    def __init__(self, path: Path, *, stays: Callable[[], bool] = lambda: True) -> None:
        import fcntl  # not on Windows, where no Airflow runs

        self._path = path
        self._stays = stays
        self._lock = (path / _LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InUseError from None
        with suppress(FileNotFoundError, ValueError, TypeError):
            self.checkpoint = Checkpoint(**json.loads((path / _CHECKPOINT).read_bytes()))

    @classmethod
    def make(cls) -> Path:
        """A new folder for one."""
        with blaming_the_disk(_temporary()):
            return Path(tempfile.mkdtemp(prefix=_PREFIX))

    @classmethod
    def is_one(cls, path: Path) -> bool:
        """Whether this is a folder that could be one: somebody else may have named it."""
        there = path.parent == _temporary() and path.name.startswith(_PREFIX)
        return there and path.is_dir() and not path.is_symlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not (_may_be_mended(error) and self._stays()):
            self.remove()
        self.release()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The folder, for as long as the export works."""
        with suppress(FileNotFoundError):
            os.utime(self._path)
        sweep_abandoned()
        with self:
            yield self._path

    @property
    def is_kept(self) -> bool:
        """Whether it is worth the while to save a checkpoint."""
        return True

    def save(self, checkpoint: Checkpoint) -> None:
        """Note from where another try could go on; the last note stands until this one is whole."""
        new = self._path / f"{_CHECKPOINT}.new"
        try:
            new.write_text(json.dumps(asdict(checkpoint)))
            new.replace(self._path / _CHECKPOINT)
        except OSError as error:  # it would only have saved time
            log.warning("Cannot note in %s how far this try is: %s.", self._path, error)

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._path, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let another try have it, as it is."""
        self._lock.close()


def _may_be_mended(error: BaseException) -> bool:
    """Whether another try may go on where this error has ended one: it passes, or the time was up."""
    if isinstance(error, VoiceOSError):
        return error.retryable and not isinstance(error, DamagedWorkDirError)
    # Airflow's timeout is neither; a task that is told to stop ends with a kind of KeyboardInterrupt.
    return not isinstance(error, (Exception, KeyboardInterrupt))


@contextmanager
def blaming_the_disk(folder: Path) -> Iterator[None]:
    """Say where rows wait on this machine, if it cannot hold them."""
    try:
        yield
    except OSError as error:
        raise no_room(error, folder) from error


def is_of_the_disk(error: Exception) -> bool:
    """Whether a file on this machine could not grow: a driver keeps some of its own."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def no_room(error: Exception, folder: Path | None = None) -> VoiceOSDestinationError:
    """What to raise where rows cannot wait.

    :param folder: where; the folder for temporary files, by default
    """
    reason = " ".join(str(error).split())
    return VoiceOSDestinationError(f"cannot keep rows in {folder or _temporary()}: {reason}. {_CURE}")


def _temporary() -> Path:
    """The folder below which rows wait.

    :raises VoiceOSDestinationError: if there is none; Python tries TMPDIR, and then what is usual
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise VoiceOSDestinationError(
            f"cannot keep rows on this machine: {error.strerror}. {_CURE}"
        ) from error


@contextmanager
def local_file(suffix: str) -> Iterator[Path]:
    """Where to write what a driver sends from a file; gone afterwards. A killed task's is swept as its rows are."""
    with blaming_the_disk(_temporary()):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        yield folder / f"rows{suffix}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_abandoned() -> None:
    """Remove what killed exports of this user have left on local disk. It holds what people said."""
    for folder in _temporary().glob(f"{_PREFIX}*"):
        with suppress(OSError):
            mine = folder.stat().st_uid == os.getuid()
            touched = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if mine and time.time() - touched > _ABANDONED_AFTER and not _is_held(folder):
                shutil.rmtree(folder)


def _is_held(folder: Path) -> bool:
    """Whether a process works there: one may wait for longer than a day before it writes."""
    import fcntl

    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
