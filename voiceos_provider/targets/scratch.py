"""Where do rows wait on this machine, and what may stay there for another try?"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voiceos_provider.exceptions import VoiceOSError, VoiceOSTargetError

_PREFIX = "voiceos-export-"
_STATE = "checkpoint.json"
_ABANDONED_AFTER = 86_400.0


class Scratch:
    """A folder that only this export uses, gone when it is left.

    `state` is what an earlier try has left to go on from; here there is none.
    """

    state: dict[str, Any] | None = None

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The folder, for as long as the export works."""
        sweep_abandoned()
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
            yield Path(folder)

    @property
    def is_kept(self) -> bool:
        """Whether it is worth the while to save a state."""
        return False

    def save(self, state: dict[str, Any]) -> None:
        """Note from where another try could go on."""


class KeptScratch(Scratch):
    """A folder that stays if its process is killed, or fails in a way that another try may mend.

    :param path: the folder; it exists
    :param stays: asked at the end, whether there will be another try
    """

    def __init__(self, path: Path, *, stays: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._stays = stays
        with suppress(FileNotFoundError, ValueError):
            self.state = json.loads((path / _STATE).read_bytes())

    @classmethod
    def make(cls) -> Path:
        """A new folder for one."""
        return Path(tempfile.mkdtemp(prefix=_PREFIX))

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """The folder, for as long as the export works."""
        sweep_abandoned()
        stays = False
        try:
            yield self._path
        except VoiceOSError as error:
            stays = error.retryable and self._stays()
            raise
        finally:
            if not stays:
                shutil.rmtree(self._path, ignore_errors=True)

    @property
    def is_kept(self) -> bool:
        """Whether it is worth the while to save a state."""
        return True

    def save(self, state: dict[str, Any]) -> None:
        """Note from where another try could go on; the last note stands until this one is whole."""
        new = self._path / f"{_STATE}.new"
        new.write_text(json.dumps(state))
        new.replace(self._path / _STATE)


@contextmanager
def blaming_the_disk(folder: Path) -> Iterator[None]:
    """Say where rows wait on this machine, if it cannot hold them."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        raise VoiceOSTargetError(
            f"cannot keep rows in {folder}: {reason}. TMPDIR names another folder."
        ) from error


def sweep_abandoned() -> None:
    """Remove what killed exports of this user have left on local disk. It holds what people said."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            mine = folder.stat().st_uid == os.getuid()
            touched = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if mine and time.time() - touched > _ABANDONED_AFTER:
                shutil.rmtree(folder)
