"""Errors of a task: those that Airflow does not retry, a stopped task, and a Connection that does not exist."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowTaskTimeout,
    BaseHook,
)

from voiceos_provider.exceptions import VoiceOSError

log = logging.getLogger(__name__)


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """Fail the task at once for a non-retryable error; Airflow retries the others."""
    try:
        yield
    except VoiceOSError as error:
        if error.retryable:
            raise
        # The log view of Airflow 3 cuts off the lines of a traceback after some 70 characters.
        log.error("Failed, and not retried:\n%s", textwrap.fill(error.message, 80))
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


class TaskStopped(KeyboardInterrupt):
    """The task was stopped. Not an `Exception`, so that no handler takes it for a failing destination."""


class StopOnKillMixin:
    """Mixin of operators: a task that is cleared, marked or terminated stops at once and cleans up.

    Airflow calls `on_kill` in the handler of SIGTERM, in the main thread, and Airflow 3 lets `execute` continue.
    """

    def on_kill(self) -> None:
        """Raise `TaskStopped`, unless `execution_timeout` has raised its own error already."""
        if isinstance(sys.exception(), AirflowTaskTimeout):
            return
        raise TaskStopped("The task was stopped. Unpublished rows are discarded.")


def get_connection(conn_id: str, *, parameter: str, conn_type: str = "") -> Any:
    """Return a Connection.

    :param parameter: parameter of the operator that names it
    :param conn_type: its type as the form calls it, if only one is accepted
    :raises AirflowNotFoundException: if it does not exist
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise missing_connection(conn_id, parameter=parameter, conn_type=conn_type) from error


def missing_connection(conn_id: str, *, parameter: str, conn_type: str = "") -> AirflowNotFoundException:
    """Return the error to raise in place of Airflow's own, which does not name the parameter or the cure."""
    kind = f" of the type {conn_type}" if conn_type else ""
    return AirflowNotFoundException(
        f"Add the connection {conn_id!r}{kind} under Admin > Connections, or set AIRFLOW_CONN_{conn_id.upper()}. "
        f"{parameter} names it, and it does not exist."
    )
