"""When to try again, and after how long. No clock, no I/O."""

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
Call = Generator[Request | float, Outcome, T]
"""Yields a request to send, or seconds to sleep; is sent the outcome; returns the parsed content."""

log = logging.getLogger(__name__)


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


def call(
    request: Request,
    parse: Callable[[Request, Response], T],
    *,
    retry: Retry,
    secret: str,
    monotonic: Callable[[], float],
    rng: random.Random,
) -> Call[T]:
    """Get one answer and parse it. Parsing is part of the try: a body that makes no sense is asked for again."""
    began = monotonic()
    tries = failures = 0
    while True:
        outcome = yield request
        tries += 1
        try:
            if isinstance(outcome, VoiceOSAPIError):
                raise outcome
            assert outcome is not None
            raise_for_status(request, outcome, secret=secret)
            return parse(request, outcome)
        except VoiceOSAPIError as error:
            failures += retry.counts_as_failure(error)
            elapsed = monotonic() - began
            delay = retry.delay(error, failures=failures, tries=tries, elapsed=elapsed, rng=rng)
            if delay is None:
                if not error.retryable:
                    raise
                raise type(error)(
                    f"{error} {_farewell(retry, error, tries, elapsed)}", *error.args[1:]
                ) from error
            limit = f" of {retry.max_attempts}" if retry.counts_as_failure(error) else ""
            log.warning("%s Try %d%s failed; the next one begins in %.1f s.", error, tries, limit, delay)
        yield delay


def _farewell(retry: Retry, error: VoiceOSAPIError, tries: int, elapsed: float) -> str:
    """Why there is no further try."""
    after = f"after {tries} {'try' if tries == 1 else 'tries'} in {elapsed:.0f} s"
    if error.retry_after and elapsed + error.retry_after > retry.deadline:
        return (
            f"Gave up {after}: it asks to wait {error.retry_after:,.0f} s more, and retry_deadline is "
            f"{retry.deadline:,.0f} s."
        )
    return f"Gave up {after}."
