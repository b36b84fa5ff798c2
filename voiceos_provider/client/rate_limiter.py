"""When may the next request be sent, by any of several readers? What one of them is told, all of them heed.

A 429, or a 503 that says how long, stops everyone until then. Requests then go on evenly, below the rate at which it
came, and the more of that rate is tried again the longer nothing happens. Any failure halves how many may be at work at
a time; each success adds a little. Once nothing but failures come, one reader's wait is everyone's, and one asks for
all: an outage is not asked more often because many are waiting for its end.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from voiceos_provider.client.responses import Response, retry_after
from voiceos_provider.exceptions import VoiceOSAPIError

_HALVE_EVERY = 0.5
"""Seconds between two halvings: answers to what was sent together count once."""

_SLOWER, _MUCH_SLOWER = 0.15, 0.4
"""By which share to go on below a rate that was too high; the larger one if the last such share was no help."""

_NO_HELP = 4.0
"""Seconds after which the next 429 came too soon."""

_CURVE = 0.0002
"""How the rate returns, with the third power of time: soon near to what was too high, there slowly, then ever faster.

It is reached after nine seconds, doubled after 26 and eightfold after 42.
"""

_MEASURED_OVER = 5.0
_AT_LEAST_OVER = 0.25
"""Seconds over which the first rate is measured."""

_ENOUGH = 20
"""Answers from which it is known; fewer are a guess."""

_LONGEST_DOUBLING = 60.0

_OUTAGE = 3
"""Failures without a success between them that are taken for an outage."""

_LONGEST_PAUSE = 15.0
"""Seconds between two probes of an outage, if the reader who sent one does not want to wait longer."""

_PROBE_LASTS = 120.0
_LOOK_AGAIN = 0.5
"""Seconds after which a probe is given up for lost, and after which those who wait ask what has become of it."""

_RATE_LIMITED, _UNAVAILABLE = 429, 503
_SERVER_ERROR = 500


class RateLimiter:
    """The one place that all requests of several readers pass.

    :param most: how many readers may be at work at a time
    :param requests_per_second: never send more; None for as many as the server takes
    :param monotonic: the clock, in seconds
    """

    def __init__(
        self,
        most: int = 1,
        *,
        requests_per_second: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._ceiling = requests_per_second
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._at_work = 0
        self._limit = float(most)
        self._halved_at = self._closed_until = self._next_at = float("-inf")
        self._failures = self._probes = 0
        self._probe_until = float("-inf")
        self._began = monotonic()
        self._answered: deque[float] = deque(maxlen=1_024)
        self._learnt: _TooHigh | None = None

    @property
    def limit(self) -> int:
        """How many may be at work at a time, as of now."""
        return max(1, int(self._limit))

    @contextmanager
    def place(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """One of the places at work; waits for a free one.

        :param stopped: asked now and then, so that nobody waits for what is no longer wanted
        """
        with self._changed:
            while self._at_work >= self.limit and not stopped():
                self._changed.wait(0.1)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify()

    def wait(self) -> float:
        """Seconds after which to ask again; 0 if a request may be sent now, and that counts as sent."""
        with self._changed:
            now = self._monotonic()
            if now < self._closed_until:
                return self._closed_until - now
            if now < self._probe_until:
                return _LOOK_AGAIN
            rate = self._rate(now)
            if rate is not None:
                if now < self._next_at:
                    return self._next_at - now
                self._next_at = now + 1 / rate
            if self._failures >= _OUTAGE:
                self._probe_until = now + _PROBE_LASTS
            return 0.0

    def hear(self, outcome: Response | VoiceOSAPIError | None) -> None:
        """Take notice of what came of a request."""
        with self._changed:
            now = self._monotonic()
            status = outcome.status if isinstance(outcome, Response) else _SERVER_ERROR
            if status != _RATE_LIMITED and status < _SERVER_ERROR:
                self._failures = self._probes = 0
                self._probe_until = float("-inf")
                self._answered.append(now)
                self._limit = min(self._most, self._limit + 1 / self._limit)
                self._changed.notify()
                return
            asked = retry_after(outcome.headers) if isinstance(outcome, Response) else None
            if now - self._halved_at >= _HALVE_EVERY:
                self._halved_at = now
                self._limit = max(1.0, self._limit / 2)
                if status == _RATE_LIMITED:
                    self._slow_down(now)
            if asked and status in (_RATE_LIMITED, _UNAVAILABLE):
                self._closed_until = max(self._closed_until, now + asked)
            else:
                self._failures += 1

    def hold(self, seconds: float) -> None:
        """A reader is going to wait; in an outage, everyone does, and then one of them asks."""
        with self._changed:
            if self._failures < _OUTAGE:
                return
            now = self._monotonic()
            if now < self._probe_until:
                self._probe_until = float("-inf")
                self._probes += 1
                # Whoever asked may have waited less often than the last one, and now wants to wait less long.
                seconds = max(seconds, min(_LONGEST_PAUSE, 2.0 ** min(self._probes, 10) / 2))
            self._closed_until = max(self._closed_until, now + seconds)

    def _slow_down(self, now: float) -> None:
        if self._learnt is None:
            over = min(max(now - self._began, _AT_LEAST_OVER), _MEASURED_OVER)
            taken = sum(now - at <= _MEASURED_OVER for at in self._answered)
            self._learnt = _TooHigh(max(1, taken) / over, now, _SLOWER if taken >= _ENOUGH else None)
        else:
            no_help = self._learnt.share is not None and now - self._learnt.since < _NO_HELP
            self._learnt = _TooHigh(self._learnt.rate_at(now), now, _MUCH_SLOWER if no_help else _SLOWER)

    def _rate(self, now: float) -> float | None:
        """Requests a second that may be sent; None for any number."""
        if self._learnt is None:
            return self._ceiling
        return min(self._learnt.rate_at(now), self._ceiling or float("inf"))


@dataclass(frozen=True, slots=True)
class _TooHigh:
    """A rate at which a 429 came, when that was, and by which share it was left.

    The share is None for a rate that was guessed from a few answers: it is then doubled every second, to find out.
    """

    rate: float
    since: float
    share: float | None

    def rate_at(self, now: float) -> float:
        """Requests a second to send now."""
        if self.share is None:
            return self.rate * math.pow(2, min(now - self.since, _LONGEST_DOUBLING))
        there: float = math.cbrt(self.share / _CURVE)
        return self.rate * (1 + _CURVE * (now - self.since - there) ** 3)
