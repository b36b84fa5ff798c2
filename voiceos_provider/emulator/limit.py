"""Does the server take one more request now, or has it had too many?"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from voiceos_provider.emulator.exchange import Answer, json_answer


class RateLimit:
    """So many requests a second; after a pause, those of one second at once.

    :param requests_per_second: how many
    :param monotonic: the clock, in seconds
    """

    def __init__(self, requests_per_second: float, *, monotonic: Callable[[], float]) -> None:
        if not requests_per_second > 0:
            raise ValueError(f"requests_per_second is {requests_per_second}; it must be positive.")
        self._rate = requests_per_second
        self._most = max(1.0, requests_per_second)
        self._monotonic = monotonic
        self._left = self._most
        self._since = monotonic()
        self._counting = threading.Lock()

    def refusal(self) -> Answer | None:
        """A 429 that says how long to wait; None if the request is taken. One that is refused does not count."""
        with self._counting:
            now = self._monotonic()
            self._left = min(self._most, self._left + (now - self._since) * self._rate)
            self._since = now
            if self._left >= 1:
                self._left -= 1
                return None
            # Whole seconds are all that the header can tell.
            wait = math.ceil((1 - self._left) / self._rate)
        return json_answer(429, {"detail": "Too Many Requests"}, ("Retry-After", str(wait)))
