"""Errors that end a task whatever retries remain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from voiceos_provider.exceptions import VoiceOSError


@contextmanager
def failing_for_good() -> Iterator[None]:
    """Let errors that a retry cannot mend fail the task at once; the others are Airflow's to retry."""
    try:
        yield
    except VoiceOSError as error:
        if error.retryable:
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


class TaskStopped(KeyboardInterrupt):
    """The task was told to stop. No `Exception`, so that nothing on the way takes it for a failing store."""


class StopsWhenKilled:
    """For operators: a task that is cleared, marked or terminated stops where it is, and tidies up.

    Airflow calls `on_kill` in the handler of SIGTERM, in the thread that works. Airflow 3 would let it work on.
    """

    def on_kill(self) -> None:
        """Leave the work at once; a task whose time is up has left it already, and has its own error to raise."""
        if isinstance(sys.exception(), AirflowTaskTimeout):
            return
        raise TaskStopped("The task was told to stop. What it had not published yet is discarded.")
