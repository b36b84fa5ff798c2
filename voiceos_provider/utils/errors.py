"""Errors that fail a task without further retries."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

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
