"""Resuming a task's export in its next attempt.

Airflow 3.3 and later keep state for a task. An attempt resumes if the rows of the last attempt are on this machine, the
task has not been cleared since, and its inputs are the same. Otherwise it starts over, with the same result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from voiceos_provider import __version__
from voiceos_provider.exceptions import VoiceOSError
from voiceos_provider.load.workdir import (
    InUseError,
    Owner,
    ResumableWorkDir,
    TaskIdentity,
    WorkDir,
    is_workdir,
    remove_abandoned,
)

log = logging.getLogger(__name__)

_KEY = "voiceos_export"
_ENDED = ("success", "failed", "skipped", "removed")
_OTHERS = ("carry_pending", "max_bad_records", "visibility_delay")
_LONGEST_RETRY_DELAY = timedelta(days=1)  # Airflow's own limit of an exponential backoff
_UNTIL_STARTED = timedelta(hours=2)  # to notice that a worker is dead, and to queue for another


def workdir_for(operator: Any, context: Any, **inputs: Any) -> WorkDir:
    """Return the work directory of a task: that of its last attempt, if this one may resume from it.

    :param operator: the operator; its template fields decide what is exported
    :param inputs: further inputs that determine the export; only their hash is stored
    """
    store, task_instance = context.get("task_state_store"), context.get("ti")
    task = _identity(task_instance)
    if store is None or task_instance is None or operator.read_strategy != "windows":
        return WorkDir(Owner.this_process(task))
    inputs |= {name: getattr(operator, name, None) for name in (*operator.template_fields, *_OTHERS)}
    # A clear keeps the state and raises the task's max_tries; a retry does not.
    hashed = json.dumps([__version__, task_instance.max_tries, inputs], sort_keys=True, default=str)
    here = {"inputs": hashlib.sha256(hashed.encode()).hexdigest(), "host": socket.gethostname()}
    retry_follows = bool(task_instance.try_number <= task_instance.max_tries)
    keep_for = _until_retried(operator).total_seconds() if retry_follows else 0.0
    owner = Owner.this_process(task, keep_for=keep_for)
    workdir = None
    try:
        if resumed := _resumed(store.get(_KEY), here, owner, retry_follows=retry_follows):
            return resumed
        path = ResumableWorkDir.create()
        workdir = ResumableWorkDir(path, owner, retry_follows=retry_follows)
        store.set(_KEY, {**here, "folder": str(path)})
    except VoiceOSError:
        raise
    except Exception as error:  # noqa: BLE001  it would only have saved time
        log.warning("Cannot keep this task's state (%s); a retry will start over.", type(error).__name__)
        if workdir:
            workdir.remove()
        return WorkDir(Owner.this_process(task))
    return workdir


def remove_leftovers(context: Any) -> None:
    """Remove the work directories of killed tasks on this machine, if no retry may resume from them.

    Each exporting task calls this when it starts, since the retry of a killed task may run on another machine.
    Airflow 3 knows whether a task instance has ended; without it, a directory stays until no retry can follow.
    """
    try:
        remove_abandoned(has_ended=partial(_has_ended, context.get("ti")))
    except Exception as error:  # noqa: BLE001  the task has other work to do
        log.warning("Cannot remove work directories of killed tasks (%s).", type(error).__name__)


def _has_ended(task_instance: Any, task: TaskIdentity) -> bool:
    if (get_states := getattr(task_instance, "get_task_states", None)) is None:  # before Airflow 3
        return False
    try:
        found = get_states(
            dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index
        )
    except Exception as error:  # noqa: BLE001  other directories are removed nevertheless
        log.warning("Cannot look up the state of %s (%s).", task, type(error).__name__)
        return False
    # A query without a map index also returns the mapped instances of the task.
    name = task.task_id if task.map_index < 0 else f"{task.task_id}_{task.map_index}"
    return found.get(task.run_id, {}).get(name) in _ENDED


def _resumed(
    state: Any, here: dict[str, str], owner: Owner, *, retry_follows: bool
) -> ResumableWorkDir | None:
    """Return the work directory of the last attempt if it can be resumed; otherwise remove it."""
    # A user who may write a task's state could name any folder.
    if not state or state.get("host") != here["host"] or not is_workdir(path := Path(str(state["folder"]))):
        return None
    try:
        workdir = ResumableWorkDir(path, owner, retry_follows=retry_follows)
    except FileNotFoundError:  # removed by another task a moment ago
        return None
    except InUseError:
        log.warning("The last attempt still works in %s; starting over.", path)
        return None
    if state["inputs"] == here["inputs"]:
        log.info("Resuming the last attempt.")
        return workdir
    workdir.remove()
    return None


def _identity(task_instance: Any) -> TaskIdentity | None:
    try:
        return TaskIdentity(
            dag_id=str(task_instance.dag_id),
            task_id=str(task_instance.task_id),
            run_id=str(task_instance.run_id),
            map_index=int(getattr(task_instance, "map_index", -1)),
        )
    except (AttributeError, TypeError, ValueError):  # no task instance of Airflow's
        return None


def _until_retried(operator: Any) -> timedelta:
    """Return how long after the end of an attempt the next one may start."""
    delay = getattr(operator, "retry_delay", None)
    if getattr(operator, "retry_exponential_backoff", False) or getattr(operator, "retry_policy", None):
        delay = getattr(operator, "max_retry_delay", None) or _LONGEST_RETRY_DELAY
    if not isinstance(delay, timedelta):
        delay = timedelta(seconds=float(delay or 0))
    return delay + _UNTIL_STARTED
