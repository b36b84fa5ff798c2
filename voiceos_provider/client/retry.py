"""When to try again, and after how long. No clock, no I/O."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSRateLimitError


@dataclass(frozen=True, slots=True)
class Retry:
    """Full jitter over an exponential backoff; `Retry-After` comes first where the server sends it.

    :param max_attempts: tries of one request, the first included. Being rate limited is not a failure and
        does not count
    :param deadline: seconds from the first try after which no further one begins
    :param base_delay: seconds; the backoff's ceiling after the first failure, doubled by each further one
    :param max_delay: seconds; the most that backoff alone will wait
    """

    max_attempts: int = 10
    deadline: float = 900.0
    base_delay: float = 1.0
    max_delay: float = 30.0

    def delay(
        self, error: VoiceOSAPIError, *, failures: int, tries: int, elapsed: float, rng: random.Random
    ) -> float | None:
        """Seconds to wait before trying again, or None to give up.

        :param failures: tries that failed so far, rate limits left out
        :param tries: all tries so far
        :param elapsed: seconds since the first try began
        """
        if not error.retryable or failures >= self.max_attempts:
            return None
        ceiling = min(self.max_delay, self.base_delay * 2 ** min(tries - 1, 16))
        if not error.retry_after:  # to come back at once is no way to slow down
            delay = rng.uniform(0, ceiling)
        else:  # spread the callers out, without waiting much longer than asked
            delay = error.retry_after + rng.uniform(0, min(ceiling, 1 + error.retry_after / 10))
        return None if elapsed + delay > self.deadline else delay

    @staticmethod
    def counts_as_failure(error: VoiceOSAPIError) -> bool:
        """Being asked to slow down is no failure; only the deadline ends that."""
        return not isinstance(error, VoiceOSRateLimitError)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait: `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).

    A date is held against the answer's own `Date`, so that our clock does not matter. Nonsense counts as absent.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal() and value.isascii():
        return float(value)
    moment, now = http_date(value), http_date(headers.get("date", "")) or datetime.now(UTC)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def http_date(value: str) -> datetime | None:
    """The instant that a header names, if it names one (RFC 9110, 5.6.7)."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
