"""Retry policy for tasks that use the hook, for `retry_policy=` of Airflow 3.3 and later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSError

try:
    from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy
except ImportError as error:
    raise AirflowOptionalProviderFeatureException("VoiceOSRetryPolicy needs Airflow 3.3 or later.") from error

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_LONGEST = 86_400.0


class VoiceOSRetryPolicy(RetryPolicy):
    """Fail at once on non-retryable errors, and wait for the time in ``Retry-After``, at most a day.

    Use it for your own tasks that use the hook; the operators and the sensor of this provider do not need it. The
    causes of an error are examined, too. Airflow decides about other errors and the number of retries.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide for Airflow whether a failed task is retried."""
        error = next((e for e in _causes(exception) if isinstance(e, VoiceOSError)), None)
        if error is None:
            return RetryDecision.default()
        if not error.retryable:
            return RetryDecision.fail(f"Non-retryable: {type(error).__name__}: {error}")
        if isinstance(error, VoiceOSAPIError) and error.retry_after:
            delay = timedelta(seconds=ceil(min(error.retry_after, _LONGEST)))
            return RetryDecision.retry(delay, f"The API asked to wait {error.retry_after:g} s (Retry-After).")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Return no arguments: the policy has no settings."""
        return {"__type": type(self).__name__}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> VoiceOSRetryPolicy:
        """Return the policy."""
        return cls()


def _causes(exception: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        yield exception
        exception = exception.__cause__
