"""Which errors of a task end it, and which are tried again, on Airflow 3.3."""

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
def test_what_no_try_can_mend_fails_now(error: VoiceOSError) -> None:
    """The reason names the error."""
    decision = decide(error)
    assert decision.action == RetryAction.FAIL
    assert str(error) in decision.reason
    assert type(error).__name__ in decision.reason


def test_a_rate_limit_waits_as_long_as_the_api_asked() -> None:
    """Rounded up: a moment too early would be refused again."""
    decision = decide(VoiceOSRateLimitError("429", 429, None, 89.2))
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=90))


@pytest.mark.parametrize("asked", [30 * 86_400.0, 1e300, float("inf")])
def test_no_task_waits_for_longer_than_a_day(asked: float) -> None:
    """A header of many digits is a mistake, and no reason to let a task sleep for a month or to fail here."""
    decision = decide(VoiceOSRateLimitError("429", 429, None, asked))
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(days=1))


@pytest.mark.parametrize(
    "error",
    [VoiceOSRateLimitError("429", 429), VoiceOSServerError("500", 500), RuntimeError("not ours")],
    ids=str,
)
def test_the_rest_is_airflows_own(error: Exception) -> None:
    """With the delay of the task."""
    assert decide(error) == RetryDecision.default()


def test_an_error_behind_another_one_decides() -> None:
    """Raised from it; not one that was only being handled."""
    behind = AirflowException("the export failed")
    behind.__cause__ = VoiceOSAuthError("401", 401)
    assert decide(behind).action == RetryAction.FAIL
    beside = AirflowException("the export failed")
    beside.__context__ = VoiceOSAuthError("401", 401)
    assert decide(beside) == RetryDecision.default()


def test_a_circle_of_causes_ends() -> None:
    """A user may build one."""
    error = RuntimeError("a")
    error.__cause__ = RuntimeError("b")
    error.__cause__.__cause__ = error
    assert decide(error) == RetryDecision.default()


def test_it_survives_serialization() -> None:
    """Airflow asks each policy for that."""
    again = VoiceOSRetryPolicy.deserialize(VoiceOSRetryPolicy().serialize())
    assert isinstance(again, VoiceOSRetryPolicy)
