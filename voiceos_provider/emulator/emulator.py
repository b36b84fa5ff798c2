"""Emulator of the API: one handler, served in process or on a port, and a record of the requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count
from typing import TYPE_CHECKING, Unpack
from urllib.parse import unquote

from voiceos_provider.emulator.faults import Schedule
from voiceos_provider.emulator.gateway import RateLimit, ResponseCache
from voiceos_provider.emulator.handler import Handler
from voiceos_provider.emulator.http_messages import Delivery, RecordedRequest, Request, Response
from voiceos_provider.emulator.listing import Listing
from voiceos_provider.emulator.recordings import recording
from voiceos_provider.emulator.replicas import Replicas
from voiceos_provider.emulator.rng import random_number
from voiceos_provider.emulator.server_model import ServerModel, ServerOptions
from voiceos_provider.emulator.timestamps import quantize, to_datetime, to_microseconds
from voiceos_provider.emulator.world import World

if TYPE_CHECKING:
    from voiceos_provider.emulator.transport import EmulatorTransport


class Emulator:
    """VoiceOS conversations API over a world: in process by `transport()`, on a port by `serve()`.

    `requests` holds the requests in the order of their responses. `faults` is the schedule of what goes wrong.
    `before_list(n)` is called before the nth list request is handled, so that the world can change between two pages.

    :param world: conversations to list
    :param token: token that is accepted
    :param clock: current time of the server
    :param latency: delay before every response, in seconds
    :param seed: seed of faults, shuffled listings, replicas and request ids
    :param gzip: whether responses are compressed for clients that accept it
    :param keep_requests: whether `requests` is filled
    :param requests_per_second: rate beyond which the response is 429 with `Retry-After`; health checks and the audio of
        recordings do not count
    :param sleep: replacement for waiting
    :param monotonic: clock of the rate limit, in seconds
    :param model: what the API contract leaves open; the keywords are the fields of `ServerModel`
    """

    def __init__(
        self,
        world: World,
        *,
        token: str = "emulator-token",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        latency: float = 0.0,
        seed: int = 0,
        gzip: bool = False,
        keep_requests: bool = True,
        requests_per_second: float | None = None,
        sleep: Callable[[float], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        **model: Unpack[ServerOptions],
    ) -> None:
        self.world = world
        self.model = ServerModel(**model)
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
        self._conversation_statuses: dict[str, int] = {}
        self._cache = ResponseCache(self.model.cache_ttl, clock=clock)
        self._handle = Handler(
            world=world,
            token=token,
            clock=clock,
            model=self.model,
            listing=Listing(self.model, seed=seed),
            replicas=Replicas(
                world,
                clock=clock,
                lag=self.model.replica_lag,
                choice=self.model.replica_choice,
                seed=seed,
            ),
            gzip=gzip,
            schedule=self.faults,
            before_list=lambda nth: self.before_list(nth) if self.before_list is not None else None,
            conversation_statuses=self._conversation_statuses,
        )

    def transport(self) -> EmulatorTransport:
        """Return a transport for `httpx.Client` and `httpx.AsyncClient`."""
        # Nothing else in the emulator needs httpx.
        from voiceos_provider.emulator.transport import EmulatorTransport

        return EmulatorTransport(self.respond, sleep=self._sleep)

    def serve(self, *, port: int = 0, host: str = "127.0.0.1") -> AbstractContextManager[str]:
        """Serve on a port while the returned context is open; its value is the base URL.

        :param port: 0 for any free port
        """
        from voiceos_provider.emulator.server import serve

        return serve(self.respond, host=host, port=port, sleep=self._sleep)

    def set_conversation_status(self, id: str, status: int | None) -> None:
        """Respond to requests for this id with an error, for example 403, 410 or 500; None restores the true response.

        Listings are not affected.
        """
        if status is None:
            self._conversation_statuses.pop(id, None)
        else:
            self._conversation_statuses[id] = status

    def recording(self, id: str) -> bytes:
        """Return the audio that the link to the recording of a conversation leads to."""
        return recording(id, seed=self.world.seed, size=self.model.recording_bytes)

    def stored_at(self, id: str) -> datetime:
        """Return the creation time of a conversation as this server stores it."""
        model, created = self.model, to_microseconds(self.world.created_at(id))
        return to_datetime(
            quantize(created, precision=model.stored_precision, rounding=model.stored_rounding)
        )

    def respond(self, request: Request) -> Response:
        """Return the response to one request, and record the request."""
        is_limited = request.path.startswith("/conversations")
        refusal = self._limit.refusal() if self._limit and is_limited else None
        response = (
            self._dated(refusal)
            if refusal is not None
            else self._cache.respond(request, self._dated_response)
        )
        response = response.with_headers(
            ("X-Request-ID", f"req_{random_number(self._seed, f'request {next(self._numbers)}'):016x}"),
        )
        if self._keep_requests:
            self.requests.append(
                RecordedRequest(
                    method=request.method,
                    path=unquote(request.path),
                    query=request.query,
                    headers=dict(request.headers),
                    status=response.status,
                )
            )
        return replace(response, delivery=self._latency | response.delivery)

    def _dated_response(self, request: Request) -> Response:
        return self._dated(self._handle(request))

    def _dated(self, response: Response) -> Response:
        date = self._clock().astimezone(UTC) + self.model.clock_skew
        return response.with_headers(("Date", format_datetime(date, usegmt=True)))
