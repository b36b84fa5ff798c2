"""Rate limiter shared by all workers of one client.

`Retry-After` pauses every worker. Each 429 lowers the request rate; afterwards it follows a cubic curve, as in TCP
CUBIC (RFC 9438): it soon returns to where it was, stays there for a while, and then grows faster and faster.
Independent tasks that share one limit converge near it; tests/unit/client/test_rate_limiter.py measures this. Failures
halve the number of concurrent workers. During an outage all workers together send one request at a time, at growing
intervals.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from voiceos_provider.client.responses import Response
from voiceos_provider.exceptions import VoiceOSAPIError

_DECREASE = 0.3
"""Share by which a 429 lowers the rate."""

_RECOVERY = 25.0
"""Seconds after which the rate is again what it was at the 429. Shorter ones cause more 429s."""

_FIRST_RECOVERY = 5.0
"""The same after the first 429, because the first rate is measured over a few responses."""

_TOGETHER = 0.5
"""Seconds within which several failures count as one, because their requests were sent together."""

_MEASURED = 5.0
_LEAST_MEASURED = 1.0
"""Longest and shortest time, in seconds, over which the first rate is measured."""

_OUTAGE = 3
"""Failures in a row that count as an outage."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two requests in an outage, doubled by each further failure."""

_CHECK_AGAIN = 0.5
"""Longest wait in seconds at a time, because another worker may find that the outage is over."""

_RATE_LIMITED, _UNAVAILABLE, _SERVER_ERROR = 429, 503, 500


class RateLimiter:
    """Thread-safe rate limiter. Only `slot` sleeps; callers themselves wait for the seconds that `delay` returns.

    :param max_concurrency: maximum number of concurrent workers
    :param requests_per_second: upper limit for the rate; None for as many as the server allows
    :param monotonic: clock, in seconds
    """

    def __init__(
        self,
        max_concurrency: int = 1,
        *,
        requests_per_second: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_concurrency = max_concurrency
        self._max_rate = requests_per_second or float("inf")
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._active = 0
        self._concurrency = float(max_concurrency)
        self._failures = 0
        self._paused_until = self._next_at = self._reduced_at = self._limited_at = float("-inf")
        self._limited_rate = float("inf")
        self._recovery = _FIRST_RECOVERY
        self._began = monotonic()
        self._successes: deque[float] = deque(maxlen=1_024)

    @property
    def concurrency(self) -> int:
        """Current maximum number of concurrent workers."""
        return max(1, int(self._concurrency))

    @contextmanager
    def slot(self, cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Occupy a worker slot within the context; wait until one is free.

        :param cancelled: checked while waiting; ends the wait
        """
        with self._changed:
            while self._active >= self.concurrency and not cancelled():
                self._changed.wait(0.1)
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify()

    def delay(self) -> float:
        """Return the seconds to wait before the next call; 0 permits one request now, and counts it as sent."""
        with self._changed:
            now = self._monotonic()
            if now < self._paused_until:
                return self._paused_until - now
            if now < self._next_at:
                return min(self._next_at - now, _CHECK_AGAIN)
            self._next_at = now + self._spacing(now)
            return 0.0

    def record(self, outcome: Response | VoiceOSAPIError) -> None:
        """Adapt to the outcome of a request."""
        with self._changed:
            now = self._monotonic()
            status = outcome.status if isinstance(outcome, Response) else _SERVER_ERROR
            if status == _RATE_LIMITED or status >= _SERVER_ERROR:
                retry_after = outcome.retry_after if isinstance(outcome, Response) else None
                self._record_failure(now, status, retry_after or 0.0)
            else:
                self._successes.append(now)
                self._failures = 0
                self._next_at = min(self._next_at, now + self._spacing(now))
                self._concurrency = min(self._max_concurrency, self._concurrency + 1 / self._concurrency)
                self._changed.notify()

    def _record_failure(self, now: float, status: int, retry_after: float) -> None:
        pause = retry_after if status in (_RATE_LIMITED, _UNAVAILABLE) else 0.0
        if pause:
            self._paused_until = max(self._paused_until, now + pause)
        if now - self._reduced_at < _TOGETHER:
            return
        self._reduced_at = now
        self._concurrency = max(1.0, self._concurrency / 2)
        if status == _RATE_LIMITED:
            self._lower_rate(now)
        if not pause:
            self._failures += 1
            self._next_at = max(self._next_at, now + self._spacing(now))

    def _lower_rate(self, now: float) -> None:
        if self._limited_rate == float("inf"):
            seconds = min(max(now - self._began, _LEAST_MEASURED), _MEASURED)
            count = sum(now - at <= seconds for at in self._successes)
            self._limited_rate = max(1, count) / seconds
        else:
            self._limited_rate = self._rate(now)
            self._recovery = _RECOVERY
        self._limited_at = now

    def _rate(self, now: float) -> float:
        """Return the requests per second that may be sent."""
        if self._limited_rate == float("inf"):
            return self._max_rate
        since = (now - self._limited_at) / self._recovery - 1
        return min(self._limited_rate * (1 + _DECREASE * since**3), self._max_rate)

    def _spacing(self, now: float) -> float:
        """Return the seconds between two requests."""
        spacing = 1 / self._rate(now)
        if self._failures < _OUTAGE:
            return spacing
        return max(spacing, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - _OUTAGE, 10)))
