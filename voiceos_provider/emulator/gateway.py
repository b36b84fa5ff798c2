"""Gateway in front of the API: rate limit and response cache.

The cache repeats the response to a URL for a while. A client prevents that with `Cache-Control: no-cache` (a new
response, which is then cached) or `no-store` (a new response, which is not cached).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from voiceos_provider.emulator.http_messages import Delivery, Request, Response, json_response

_MAX_ENTRIES = 256


class RateLimit:
    """Token bucket that holds the requests of one second.

    :param requests_per_second: sustained rate
    :param monotonic: clock, in seconds
    """

    def __init__(self, requests_per_second: float, *, monotonic: Callable[[], float]) -> None:
        if not requests_per_second > 0:
            raise ValueError(f"requests_per_second is {requests_per_second}; it must be positive.")
        self._rate = requests_per_second
        self._capacity = max(1.0, requests_per_second)
        self._monotonic = monotonic
        self._tokens = self._capacity
        self._refilled_at = monotonic()
        self._lock = threading.Lock()

    def refusal(self) -> Response | None:
        """Return a 429 with `Retry-After`, or None if the request is accepted. A refused request does not count."""
        with self._lock:
            now = self._monotonic()
            self._tokens = min(self._capacity, self._tokens + (now - self._refilled_at) * self._rate)
            self._refilled_at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return None
            # The header holds whole seconds.
            wait = math.ceil((1 - self._tokens) / self._rate)
        return json_response(429, {"detail": "Too Many Requests"}, ("Retry-After", str(wait)))


class ResponseCache:
    """Successful responses by URL; a hit carries the `Age` header and does not reach the API.

    :param ttl: how long a response is repeated; zero disables the cache
    :param clock: current time
    """

    def __init__(self, ttl: timedelta, *, clock: Callable[[], datetime]) -> None:
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[tuple[str, ...], tuple[datetime, Response]] = OrderedDict()
        self._lock = threading.Lock()

    def respond(self, request: Request, handle: Callable[[Request], Response]) -> Response:
        """Return the cached response, or the one of `handle`."""
        if not self._ttl or request.method != "GET":
            return handle(request)
        directives = {
            part.strip().lower() for part in request.headers.get("cache-control", "").split(",") if part
        }
        key = _key(request)
        if not directives & {"no-cache", "no-store"}:
            hit = self._find(key)
            if hit is not None:
                return hit
        response = handle(request)
        if "no-store" not in directives:
            self._store(key, response)
        return response

    def _find(self, key: tuple[str, ...]) -> Response | None:
        with self._lock:
            entry = self._entries.get(key)
        if entry is None:
            return None
        stored_at, response = entry
        age = self._clock() - stored_at
        if not timedelta(0) <= age < self._ttl:
            return None
        return response.with_headers(("Age", str(int(age.total_seconds()))))

    def _store(self, key: tuple[str, ...], response: Response) -> None:
        # A response that is cut off or slow by a fault is not a response that a cache would keep.
        if response.status != 200 or response.delivery != Delivery():
            return
        with self._lock:
            self._entries[key] = (self._clock(), response)
            self._entries.move_to_end(key)
            while len(self._entries) > _MAX_ENTRIES:
                self._entries.popitem(last=False)


def _key(request: Request) -> tuple[str, ...]:
    """Return the URL, and the headers that the content of a response depends on."""
    vary = (request.headers.get(name, "") for name in ("authorization", "accept-encoding"))
    return (request.path, request.query_string, *vary)
