"""What does a caller of the emulator hold? One handler, two doors, and a record of what was asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import unquote

from voiceos_provider.emulator.delivery import Delivery
from voiceos_provider.emulator.dice import lot
from voiceos_provider.emulator.exchange import Answer, RecordedRequest, Request
from voiceos_provider.emulator.handler import Handler
from voiceos_provider.emulator.limit import RateLimit
from voiceos_provider.emulator.listing import Listing, Order, Reading
from voiceos_provider.emulator.schedule import Schedule
from voiceos_provider.emulator.world import World

if TYPE_CHECKING:
    from voiceos_provider.emulator.transport import EmulatorTransport


class Emulator:
    """The VoiceOS conversations API over a world: in process by `transport()`, on a port by `serve()`.

    What the API leaves open is chosen here: the `order`, whether each bound belongs to the window, how late after its
    creation a conversation becomes visible, the largest page. `latency` is in seconds. Requests beyond
    `requests_per_second`, by the `monotonic` clock, are answered 429 with `Retry-After`; a health check never is.

    `requests` is what was asked, in the order of the answers. `faults` is what goes wrong. `before_list(n)` is called
    before the nth list request is answered, so that the collection can move while somebody pages through it. A
    `sleep` takes the place of waiting, at both doors.
    """

    def __init__(
        self,
        world: World,
        *,
        token: str = "emulator-token",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_limit: int | None = None,
        latency: float = 0.0,
        seed: int = 0,
        order: Order = "created_desc",
        after_inclusive: bool = False,
        before_inclusive: bool = False,
        visible_after: timedelta = timedelta(0),
        gzip: bool = False,
        keep_requests: bool = True,
        requests_per_second: float | None = None,
        sleep: Callable[[float], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world = world
        self.token = token
        self.requests: list[RecordedRequest] = []
        self.faults = Schedule(seed=seed)
        self.before_list: Callable[[int], None] | None = None
        self._clock = clock
        self._latency = Delivery(delay=latency)
        self._seed = seed
        self._keep_requests = keep_requests
        self._sleep = sleep
        self._limit = (
            None if requests_per_second is None else RateLimit(requests_per_second, monotonic=monotonic)
        )
        self._numbers = count(1)
        reading = Reading(
            order=order,
            after_inclusive=after_inclusive,
            before_inclusive=before_inclusive,
            visible_after=visible_after,
        )
        self._handle = Handler(
            world=world,
            token=token,
            clock=clock,
            listing=Listing(reading, seed=seed),
            max_limit=max_limit,
            gzip=gzip,
            schedule=self.faults,
            before_list=lambda nth: self.before_list(nth) if self.before_list is not None else None,
        )

    def transport(self) -> EmulatorTransport:
        """The door in process, for `httpx.Client` and `httpx.AsyncClient` alike."""
        # Only this door needs httpx.
        from voiceos_provider.emulator.transport import EmulatorTransport

        return EmulatorTransport(self.answer, sleep=self._sleep)

    def serve(self, *, port: int = 0, host: str = "127.0.0.1") -> AbstractContextManager[str]:
        """The door on a port, 0 meaning any free one: a context whose value is the base URL, closed on leaving."""
        from voiceos_provider.emulator.server import serving

        return serving(self.answer, host=host, port=port, sleep=self._sleep)

    def answer(self, request: Request) -> Answer:
        """Answer one request, and remember that it was asked."""
        refusal = self._limit.refusal() if self._limit and request.path.strip("/") else None
        answer = refusal or self._handle(request)
        answer = answer.with_headers(
            ("Date", format_datetime(self._clock().astimezone(UTC), usegmt=True)),
            ("X-Request-ID", f"req_{lot(self._seed, f'request {next(self._numbers)}'):016x}"),
        )
        if self._keep_requests:
            self.requests.append(
                RecordedRequest(
                    method=request.method,
                    path=unquote(request.path),
                    query=request.query,
                    headers=dict(request.headers),
                    status=answer.status,
                )
            )
        return replace(answer, delivery=self._latency | answer.delivery)
