"""Rate limiter in virtual time: several workers, several tasks, servers that limit in different ways."""

import heapq
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.client.retry import Attempts, Retry
from voiceos_provider.client.transport import result
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSConnectionError, VoiceOSError

OK, BUSY, DOWN = 200, 429, 503
Server = Callable[[float], Response | VoiceOSAPIError]


def token_bucket(rate: float, *, burst: float = 1.0, retry_after: str | None = None) -> Server:
    """Return a server that takes `rate` requests per second, and a burst after a pause."""
    tokens, since = burst, 0.0

    def respond(now: float) -> Response:
        nonlocal tokens, since
        tokens, since = min(burst, tokens + (now - since) * rate), now
        if tokens >= 1:
            tokens -= 1
            return Response(OK, {})
        return Response(BUSY, {"retry-after": retry_after} if retry_after else {})

    return respond


def fixed_windows(rate: float, *, every: float = 1.0, retry_after: bool = False) -> Server:
    """Return a server that counts requests per second, or per another period, of its own clock."""
    window, used = -1, 0

    def respond(now: float) -> Response:
        nonlocal window, used
        if int(now // every) != window:
            window, used = int(now // every), 0
        used += 1
        if used <= rate * every:
            return Response(OK, {})
        remaining = str(int(every - now % every) + 1)
        return Response(BUSY, {"retry-after": remaining} if retry_after else {})

    return respond


@dataclass
class Simulation:
    """Tasks with a rate limiter each, and workers that send one request after the other, in virtual time.

    :param server: responds at a time
    :param workers: of each task
    :param tasks: which know nothing of each other, and start within three seconds
    :param latency: seconds until a response
    :param requests: of all tasks together
    """

    server: Server
    workers: int
    tasks: int = 1
    latency: float = 0.1
    requests: float = 1_000
    retry: Retry = Retry()
    requests_per_second: float | None = None
    seed: int = 1
    now: float = 0.0
    sent: list[float] = field(default_factory=list)
    succeeded: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    errors: list[VoiceOSError] = field(default_factory=list)

    def run(self, until: float = 1e6) -> "Simulation":
        """Send all requests, or those until a time."""
        rng = random.Random(self.seed)
        due: list[tuple[float, int, Iterator[float]]] = []
        for task in range(self.tasks):
            began = rng.random() * 3 if self.tasks > 1 else 0.0
            for worker in range(self.workers):
                steps = self._work(task, rng)
                heapq.heappush(due, (began + rng.random() * 0.01, task * self.workers + worker, steps))
        limiters: dict[int, RateLimiter] = {}
        self._limiters = limiters
        self._active = [0] * self.tasks
        while due and due[0][0] < until:
            self.now, number, steps = heapq.heappop(due)
            task = number // self.workers
            if task not in limiters:
                rate = self.requests_per_second
                limiters[task] = RateLimiter(
                    self.workers, requests_per_second=rate, monotonic=lambda: self.now
                )
            wait = next(steps, None)
            if wait is not None:
                heapq.heappush(due, (self.now + max(wait, 1e-6), number, steps))
        return self

    def _work(self, task: int, rng: random.Random) -> Iterator[float]:
        """Do what a thread of the client does, yielding every wait."""
        while self.requests > 0:
            if self._active[task] >= self._limiters[task].concurrency:
                yield 0.05
                continue
            self.requests -= 1
            self._active[task] += 1
            try:
                yield from self._send(self._limiters[task], rng)
            finally:
                self._active[task] -= 1

    def _send(self, limiter: RateLimiter, rng: random.Random) -> Iterator[float]:
        attempts = Attempts(self.retry, monotonic=lambda: self.now, rng=rng)
        while True:
            while wait := limiter.delay():
                yield wait
            self.sent.append(self.now)
            outcome = self.server(self.now)
            yield self.latency * (0.5 + rng.random())
            limiter.record(outcome)
            try:
                result(Listing().page(1), outcome, lambda request, response: None)
                self.succeeded.append(self.now)
                return
            except VoiceOSAPIError as error:
                self.refused.append(self.now)
                try:
                    wait = attempts.delay_after(error)
                except VoiceOSAPIError as last:
                    self.errors.append(last)
                    return
            yield wait


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 4, 8])
@pytest.mark.parametrize("retry_after", ["1", None])
def test_four_independent_tasks_use_a_shared_limit(retry_after: str | None, workers: int, seed: int) -> None:
    """They reach at least 90 % of 10 requests per second, with at most 3 % rejected."""
    server = token_bucket(10, burst=10, retry_after=retry_after)
    simulation = Simulation(
        server, workers, tasks=4, requests=float("inf"), seed=seed, retry=Retry(deadline=1e9)
    ).run(until=300)
    assert len(simulation.succeeded) >= 0.9 * 10 * 300
    assert len(simulation.refused) <= 0.03 * len(simulation.sent)
    assert simulation.errors == []


@pytest.mark.parametrize("workers", [1, 4, 16])
@pytest.mark.parametrize(
    ("limit", "server", "share"),
    [
        (5, lambda: token_bucket(5), 0.86),
        (5, lambda: token_bucket(5, burst=10), 0.97),
        (5, lambda: token_bucket(5, retry_after="1"), 0.82),
        # It could take a request after 0.2 seconds, and requests a pause of two.
        (5, lambda: token_bucket(5, retry_after="2"), 0.79),
        (5, lambda: fixed_windows(5), 0.83),
        (5, lambda: fixed_windows(5, retry_after=True), 0.85),
        (20, lambda: token_bucket(20), 0.75),
        (20, lambda: fixed_windows(20), 0.83),
        (5, lambda: fixed_windows(5, every=10.0), 0.76),
    ],
    ids=["bucket", "deep bucket", "bucket, 1 s", "bucket, 2 s", "windows", "windows, told", "fast bucket",
         "fast windows", "long windows"],
)  # fmt: skip
def test_limited_server_is_used_nearly_to_its_limit(
    limit: float, server: Callable[[], Server], share: float, workers: int
) -> None:
    """No request fails, whatever the number of workers and the way of counting."""
    simulation = Simulation(server(), workers, requests=2_000).run()
    assert simulation.errors == []
    assert len(simulation.succeeded) == 2_000
    assert 2_000 / simulation.now >= share * min(limit, workers / simulation.latency)
    assert len(simulation.refused) <= 100


def test_increased_rate_is_detected() -> None:
    """The server takes ten times as many requests after a while."""
    slow, fast = token_bucket(5), token_bucket(50)
    simulation = Simulation(lambda now: (slow if now < 60 else fast)(now), 16, requests=3_000).run()
    assert simulation.errors == []
    assert simulation.now <= 60 + 2.5 * (3_000 - 60 * 5) / 50


def outage(start: float, end: float, respond: Callable[[], Response | VoiceOSAPIError]) -> Server:
    """Return a server that fails for a while."""
    return lambda now: respond() if start <= now < end else Response(OK, {})


@pytest.mark.parametrize(
    "respond",
    [lambda: VoiceOSConnectionError("refused"), lambda: Response(DOWN, {}), lambda: Response(BUSY, {})],
    ids=["no response", "503", "429"],
)
def test_outage_gets_no_more_requests_with_more_workers(
    respond: Callable[[], Response | VoiceOSAPIError],
) -> None:
    """All of them continue after some minutes, and no request fails."""
    sent = {}
    for workers in (1, 16):
        simulation = Simulation(
            outage(10, 250, respond), workers, requests=10_000, retry=Retry(max_attempts=100)
        ).run()
        assert simulation.errors == []
        assert len(simulation.succeeded) == 10_000
        sent[workers] = sum(20 <= at < 250 for at in simulation.sent)
        resumed = [at for at in simulation.succeeded if at >= 250]
        assert resumed[0] <= 250 + 31
    assert sent[16] <= 2 * sent[1] + 3


@pytest.mark.parametrize("status", [BUSY, DOWN])
def test_retry_after_pauses_all_workers(status: int) -> None:
    """No request is sent before the requested time."""
    limited = Response(status, {"retry-after": "30"})
    simulation = Simulation(outage(5, 5.05, lambda: limited), 16, requests=2_000).run()
    assert simulation.errors == []
    # Requests in flight arrive; then there are none.
    assert not [at for at in simulation.sent if 5.3 <= at < 35]
    assert [at for at in simulation.sent if 35 <= at < 37]


@pytest.mark.parametrize("workers", [1, 16])
@pytest.mark.parametrize("rate", [0.5, 5, 40])
def test_requests_per_second_is_respected(workers: int, rate: float) -> None:
    """The rate stays near it if there are enough workers."""
    simulation = Simulation(
        lambda now: Response(OK, {}), workers, requests=400, requests_per_second=rate
    ).run()
    gaps = [after - before for before, after in zip(simulation.sent, simulation.sent[1:], strict=False)]
    assert len(gaps) == 399
    assert min(gaps) >= 1 / rate - 1e-5
    assert simulation.now <= 1.05 * 400 / min(rate, workers / simulation.latency) + 1


def test_failures_halve_the_concurrency_and_successes_restore_it() -> None:
    """Responses to concurrent requests count once."""
    now = 0.0
    limiter = RateLimiter(16, monotonic=lambda: now)
    limits = []
    for _ in range(4):
        now += 1
        for _ in range(16):
            limiter.record(VoiceOSConnectionError("refused"))
        limits.append(limiter.concurrency)
    assert limits == [8, 4, 2, 1]
    for _ in range(200):
        limiter.record(Response(OK, {}))
    assert limiter.concurrency == 16


def test_rejected_request_does_not_slow_the_client() -> None:
    """404 and 422 are ordinary responses."""
    limiter = RateLimiter(4, monotonic=lambda: 1.0)
    for status in (404, 422, 401):
        limiter.record(Response(status, {"retry-after": "30"}))
    assert (limiter.concurrency, limiter.delay()) == (4, 0.0)


def test_active_workers_are_limited() -> None:
    """The others wait until they are cancelled."""
    limiter = RateLimiter(2)
    with limiter.slot(), limiter.slot():
        entered = threading.Event()

        def enter() -> None:
            with limiter.slot():
                entered.set()

        waiting = threading.Thread(target=enter, daemon=True)
        waiting.start()
        assert not entered.wait(0.05)
        with limiter.slot(lambda: True):
            assert not entered.is_set()
    waiting.join(5)
    assert entered.is_set()
