"""Errors that end a task and errors that are retried, on Airflow 3.3."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowException, RetryAction, RetryDecision

from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSContractError,
    VoiceOSError,
    VoiceOSRateLimitError,
    VoiceOSServerError,
    VoiceOSTLSError,
    VoiceOSValueError,
)
from voiceos_provider.retry_policy import VoiceOSRetryPolicy


def decide(error: BaseException) -> RetryDecision:
    """Return the decision of the policy on an error in the first of four attempts."""
    return VoiceOSRetryPolicy().evaluate(error, try_number=1, max_tries=3)


@pytest.mark.parametrize(
    "error",
    [
        VoiceOSAuthError("GET /conversations: 401.", 401),
        VoiceOSTLSError("certificate"),
        VoiceOSContractError("pages without end"),
        VoiceOSValueError("page_size"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_non_retryable_error_fails_at_once(error: VoiceOSError) -> None:
    """The reason names the error."""
    decision = decide(error)
    assert decision.action == RetryAction.FAIL
    assert str(error) in decision.reason
    assert type(error).__name__ in decision.reason


def test_rate_limit_waits_as_long_as_the_api_requests() -> None:
    """The delay is rounded up."""
    decision = decide(VoiceOSRateLimitError("429", 429, None, 89.2))
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=90))


@pytest.mark.parametrize("requested", [30 * 86_400.0, 1e300, float("inf")])
def test_no_task_waits_for_longer_than_a_day(requested: float) -> None:
    """A header with many digits is a mistake."""
    decision = decide(VoiceOSRateLimitError("429", 429, None, requested))
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(days=1))


@pytest.mark.parametrize(
    "error",
    [VoiceOSRateLimitError("429", 429), VoiceOSServerError("500", 500), RuntimeError("not ours")],
    ids=str,
)
def test_other_errors_get_the_default_decision(error: Exception) -> None:
    """The task's own delay applies."""
    assert decide(error) == RetryDecision.default()


def test_cause_of_an_error_decides() -> None:
    """An error that was only being handled does not."""
    behind = AirflowException("the export failed")
    behind.__cause__ = VoiceOSAuthError("401", 401)
    assert decide(behind).action == RetryAction.FAIL
    beside = AirflowException("the export failed")
    beside.__context__ = VoiceOSAuthError("401", 401)
    assert decide(beside) == RetryDecision.default()


def test_circular_causes_end() -> None:
    """Users may create them."""
    error = RuntimeError("a")
    error.__cause__ = RuntimeError("b")
    error.__cause__.__cause__ = error
    assert decide(error) == RetryDecision.default()


def test_policy_survives_serialization() -> None:
    """Airflow requires it."""
    again = VoiceOSRetryPolicy.deserialize(VoiceOSRetryPolicy().serialize())
    assert isinstance(again, VoiceOSRetryPolicy)
