"""Which errors end the task, whatever retries it has left?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

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
