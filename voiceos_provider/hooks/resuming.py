"""May this try of a task go on where the last one stopped?

It may if Airflow keeps state for tasks (3.3 and later), the last try left its rows on this machine, nobody has cleared
the task since, and it is asked for the same. Else it starts over, which gives the same files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import socket
from pathlib import Path
from typing import Any

from voiceos_provider import __version__
from voiceos_provider.targets.scratch import KeptScratch, Scratch

log = logging.getLogger(__name__)

_KEY = "voiceos_export"


def scratch_of(operator: Any, context: Any, **inputs: Any) -> Scratch:
    """The place where the rows of a task wait: the last try's, if this one may go on from it.

    :param operator: the operator; what is templated in it decides what is exported
    :param context: the task's context
    :param inputs: whatever else does
    """
    store, task_instance = context.get("task_state_store"), context.get("ti")
    if store is None or task_instance is None or operator.pagination != "slices":
        return Scratch()
    inputs |= {name: getattr(operator, name) for name in operator.template_fields}
    # A clear leaves the state in place and raises the number of tries that a task has; a retry does not.
    told = json.dumps([__version__, task_instance.max_tries, inputs], sort_keys=True, default=str)
    here = {"inputs": hashlib.sha256(told.encode()).hexdigest(), "host": socket.gethostname()}
    try:
        left = store.get(_KEY) or {}
        folder = Path(left["folder"]) if left.get("folder") else None
        if folder and folder.is_dir() and left.get("host") == here["host"]:
            if left["inputs"] == here["inputs"]:
                log.info("Going on where the last try stopped.")
                return KeptScratch(folder, stays=lambda: _will_be_tried_again(task_instance))
            shutil.rmtree(folder, ignore_errors=True)
        folder = KeptScratch.make()
        store.set(_KEY, {**here, "folder": str(folder)})
    except Exception as error:  # noqa: BLE001  it would only have saved time
        log.warning(
            "Airflow does not keep this task's state (%s); a retry will start over.", type(error).__name__
        )
        return Scratch()
    return KeptScratch(folder, stays=lambda: _will_be_tried_again(task_instance))


def _will_be_tried_again(task_instance: Any) -> bool:
    return bool(task_instance.try_number <= task_instance.max_tries)
