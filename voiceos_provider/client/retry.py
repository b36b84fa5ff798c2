"""Retries of one request: which errors, how often, after which delay. No clock and no I/O of its own."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from voiceos_provider.client.requests import Request
from voiceos_provider.client.responses import Response, raise_for_status
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSRateLimitError

T = TypeVar("T")
Outcome = Response | VoiceOSAPIError | None
Attempts = Generator[Request | float, Outcome, T]
"""Yields a request to send, or seconds to sleep; is sent the outcome; returns the parsed response."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with full jitter; `Retry-After` takes precedence where the server sends it.

    :param max_attempts: attempts of one request, including the first; rate-limited attempts do not count
    :param deadline: seconds after the start of the first attempt; no attempt begins later
    :param base_delay: seconds; upper limit of the first delay, doubled by each further attempt
    :param max_delay: seconds; upper limit of every delay except `Retry-After`
    """

    max_attempts: int = 10
    deadline: float = 900.0
    base_delay: float = 1.0
    max_delay: float = 30.0

    def delay(
        self, error: VoiceOSAPIError, *, failures: int, attempts: int, elapsed: float, rng: random.Random
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        :param failures: attempts that failed so far, rate-limited ones left out
        :param attempts: all attempts so far
        :param elapsed: seconds since the first attempt began
        """
        if not error.retryable or failures >= self.max_attempts:
            return None
        ceiling = min(self.max_delay, self.base_delay * 2 ** min(attempts - 1, 16))
        if not error.retry_after:  # "at once" slows no caller down
            delay = rng.uniform(0, ceiling)
        else:  # spread the callers out, without waiting much longer than requested
            delay = error.retry_after + rng.uniform(0, min(ceiling, 1 + error.retry_after / 10))
        return None if elapsed + delay > self.deadline else delay


def attempts(
    request: Request,
    parse: Callable[[Request, Response], T],
    *,
    retry: Retry,
    monotonic: Callable[[], float],
    rng: random.Random,
) -> Attempts[T]:
    """Attempt a request until its response can be parsed. A body that cannot be parsed fails the attempt, too."""
    began = monotonic()
    count = failures = 0
    while True:
        outcome = yield request
        count += 1
        try:
            if isinstance(outcome, VoiceOSAPIError):
                raise outcome
            assert outcome is not None
            raise_for_status(request, outcome)
            return parse(request, outcome)
        except VoiceOSAPIError as error:
            limited = isinstance(error, VoiceOSRateLimitError)
            failures += not limited
            elapsed = monotonic() - began
            delay = retry.delay(error, failures=failures, attempts=count, elapsed=elapsed, rng=rng)
            if delay is None:
                if not error.retryable:
                    raise
                # The error says so, and the caller logs it.
                raise error.adding(_reason_to_stop(retry, error, count, elapsed)) from error
            which = "was rate limited" if limited else f"{failures} of {retry.max_attempts} failed"
            log.warning("Attempt %s: %s; retrying in %.1f s.", which, str(error).rstrip("."), delay)
        yield delay


def _reason_to_stop(retry: Retry, error: VoiceOSAPIError, attempts: int, elapsed: float) -> str:
    """Return why there is no further attempt."""
    after = f"Gave up after {attempts} {'attempt' if attempts == 1 else 'attempts'} in {elapsed:.0f} s"
    if error.retry_after and elapsed + error.retry_after > retry.deadline:
        return (
            f"{after}: the server asks to wait {error.retry_after:,.0f} s more, and retry_deadline is "
            f"{retry.deadline:,.0f} s."
        )
    return f"{after}."
