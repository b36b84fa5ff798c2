"""Retries of one request: which errors, how often, after which delay. No clock and no I/O of its own.

`Retry-After` of one request is honoured here: `Response.retry_after` reads the header, the error carries the
seconds, and `Retry.delay` waits for them. Meanwhile `RateLimiter` pauses the other workers.
`retry_policy` honours it between the tries of a task, and `triggers.voiceos` and `sensors.voiceos` between polls.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSRateLimitError

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


class Attempts:
    """Attempts of one request, counted and timed from the first one."""

    def __init__(self, retry: Retry, *, monotonic: Callable[[], float], rng: random.Random) -> None:
        self._retry = retry
        self._monotonic = monotonic
        self._rng = rng
        self._began = monotonic()
        self._count = self._failures = 0

    def delay_after(self, error: VoiceOSAPIError) -> float:
        """Return the seconds to wait before the next attempt.

        :raises VoiceOSAPIError: the error, if there is no further attempt
        """
        retry = self._retry
        limited = isinstance(error, VoiceOSRateLimitError)
        self._count += 1
        self._failures += not limited
        elapsed = self._monotonic() - self._began
        delay = retry.delay(
            error, failures=self._failures, attempts=self._count, elapsed=elapsed, rng=self._rng
        )
        if delay is not None:
            which = "was rate limited" if limited else f"{self._failures} of {retry.max_attempts} failed"
            log.warning("Attempt %s: %s; retrying in %.1f s.", which, str(error).rstrip("."), delay)
            return delay
        if not error.retryable:
            raise error
        attempts = "1 attempt" if self._count == 1 else f"{self._count} attempts"
        reason = f"Gave up after {attempts} in {elapsed:.0f} s"
        if error.retry_after and elapsed + error.retry_after > retry.deadline:
            reason += (
                f": the server asks to wait {error.retry_after:,.0f} s more, and retry_deadline is "
                f"{retry.deadline:,.0f} s"
            )
        raise error.adding(f"{reason}.") from error
