"""What happens in one call: ask, look at the answer, wait, ask again. No I/O, so sync and async share it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator
from typing import TypeVar

from voiceos_provider.client.requests import Request
from voiceos_provider.client.responses import Response, raise_for_status
from voiceos_provider.client.retry import Retry
from voiceos_provider.exceptions import VoiceOSAPIError

T = TypeVar("T")
Outcome = Response | VoiceOSAPIError | None
Call = Generator[Request | float, Outcome, T]
"""Yields a request to send, or seconds to sleep; is sent what came of it; returns the parsed content."""

log = logging.getLogger(__name__)


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
