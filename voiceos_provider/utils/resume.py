"""May this try of a task go on where the last one stopped?

It may if Airflow keeps state for tasks (3.3 and later), the last try left its rows on this machine, nobody has cleared
the task since, and it is asked for the same. Else it starts over, which gives the same files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voiceos_provider import __version__
from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.load.workdir import InUseError, ResumableWorkDir, WorkDir

log = logging.getLogger(__name__)

_KEY = "voiceos_export"
_OTHERS = ("carry_pending", "max_age", "max_bad_records", "visibility_delay")


def workdir_for(operator: Any, context: Any, **inputs: Any) -> WorkDir:
    """The place where the rows of a task wait: the last try's, if this one may go on from it.

    :param operator: the operator; what is templated in it decides what is exported
    :param context: the task's context
    :param inputs: whatever else does; only a hash of it is kept
    """
    store, task_instance = context.get("task_state_store"), context.get("ti")
    if store is None or task_instance is None or operator.read_strategy != "windows":
        return WorkDir()
    inputs |= {name: getattr(operator, name, None) for name in (*operator.template_fields, *_OTHERS)}
    # A clear leaves the state in place and raises the number of tries that a task has; a retry does not.
    told = json.dumps([__version__, task_instance.max_tries, inputs], sort_keys=True, default=str)
    here = {"inputs": hashlib.sha256(told.encode()).hexdigest(), "host": socket.gethostname()}

    def stays() -> bool:
        return bool(task_instance.try_number <= task_instance.max_tries)

    workdir = None
    try:
        if left := _left(store.get(_KEY), here, stays):
            return left
        path = ResumableWorkDir.make()
        workdir = ResumableWorkDir(path, stays=stays)
        store.set(_KEY, {**here, "folder": str(path)})
    except VoiceOSError:
        raise
    except Exception as error:  # noqa: BLE001  it would only have saved time
        log.warning("This task's state cannot be kept (%s); a retry will start over.", type(error).__name__)
        if workdir:
            workdir.remove()
        return WorkDir()
    return workdir


def _left(told: Any, here: dict[str, str], stays: Callable[[], bool]) -> ResumableWorkDir | None:
    """What the last try has left to go on from; what is of no use is removed."""
    # Whoever may write a task's state could name any folder.
    if (
        not told
        or told.get("host") != here["host"]
        or not ResumableWorkDir.is_one(path := Path(str(told["folder"])))
    ):
        return None
    try:
        workdir = ResumableWorkDir(path, stays=stays)
    except InUseError:
        log.warning("The last try is still at work in %s; this one starts over.", path)
        return None
    if told["inputs"] == here["inputs"]:
        log.info("Going on where the last try stopped.")
        return workdir
    workdir.remove()
    return None
