"""When may the next request be sent, by any of several readers? In virtual time."""

import heapq
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from voiceos_provider.client.rate_limiter import RateLimiter
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.client.retry import Retry, attempts
from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSConnectionError, VoiceOSError

OK, BUSY, DOWN = 200, 429, 503
Server = Callable[[float], Response | VoiceOSAPIError]


def token_bucket(rate: float, *, burst: float = 1.0, retry_after: str | None = None) -> Server:
    """So many requests a second, and a few more after a pause."""
    tokens, since = burst, 0.0

    def answer(now: float) -> Response:
        nonlocal tokens, since
        tokens, since = min(burst, tokens + (now - since) * rate), now
        if tokens >= 1:
            tokens -= 1
            return Response(OK, {})
        return Response(BUSY, {"retry-after": retry_after} if retry_after else {})

    return answer


def fixed_windows(rate: float, *, every: float = 1.0, retry_after: bool = False) -> Server:
    """So many requests in each second, or other stretch, by the server's clock."""
    window, used = -1, 0

    def answer(now: float) -> Response:
        nonlocal window, used
        if int(now // every) != window:
            window, used = int(now // every), 0
        used += 1
        if used <= rate * every:
            return Response(OK, {})
        left = str(int(every - now % every) + 1)
        return Response(BUSY, {"retry-after": left} if retry_after else {})

    return answer


@dataclass
class Office:
    """Readers who share a gate, each sending one request after the other, in a time that costs none.

    :param server: answers at a time
    :param readers: how many
    :param latency: seconds an answer takes
    :param to_do: requests until all is done
    """

    server: Server
    readers: int
    latency: float = 0.1
    to_do: int = 1_000
    retry: Retry = Retry()
    requests_per_second: float | None = None
    now: float = 0.0
    sent: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    refused: int = 0
    errors: list[VoiceOSError] = field(default_factory=list)

    def work(self, until: float = 1e6) -> "Office":
        """Do it all."""
        rng = random.Random(1)
        self.gate = RateLimiter(
            self.readers, requests_per_second=self.requests_per_second, monotonic=lambda: self.now
        )
        due = [(rng.random() * 0.01, number, self._reader(rng)) for number in range(self.readers)]
        heapq.heapify(due)
        while due and due[0][0] < until:
            self.now, number, reader = heapq.heappop(due)
            wait = next(reader, None)
            if wait is not None:
                heapq.heappush(due, (self.now + max(wait, 1e-6), number, reader))
        return self

    def _reader(self, rng: random.Random) -> Any:
        """What a thread of the client does, with every wait yielded."""
        while self.to_do > 0:
            if self._at_work >= self.gate.limit:
                yield 0.05
                continue
            self.to_do -= 1
            self._at_work += 1
            try:
                yield from self._call(rng)
            finally:
                self._at_work -= 1

    def _call(self, rng: random.Random) -> Any:
        asked = attempts(
            Listing().page(1),
            lambda request, answer: None,
            retry=self.retry,
            monotonic=lambda: self.now,
            rng=rng,
        )
        outcome: Any = None
        try:
            while True:
                step = asked.send(outcome)
                if isinstance(step, float):
                    self.gate.hold(step)
                    yield step
                    outcome = None
                    continue
                while wait := self.gate.wait():
                    yield wait
                self.sent.append(self.now)
                outcome = self.server(self.now)
                yield self.latency
                self.gate.hear(outcome)
                if isinstance(outcome, Response) and outcome.status == OK:
                    self.answered.append(self.now)
                else:
                    self.refused += 1
        except StopIteration:
            return
        except VoiceOSError as error:
            self.errors.append(error)

    _at_work: int = 0


@pytest.mark.parametrize("readers", [1, 4, 16])
@pytest.mark.parametrize(
    ("limit", "server", "share"),
    [
        (5, lambda: token_bucket(5), 0.85),
        (5, lambda: token_bucket(5, burst=10), 0.95),
        (5, lambda: token_bucket(5, retry_after="1"), 0.75),
        # It could be asked again after 0.2 seconds, and says two: each time costs nine answers.
        (5, lambda: token_bucket(5, retry_after="2"), 0.62),
        (5, lambda: fixed_windows(5), 0.88),
        (5, lambda: fixed_windows(5, retry_after=True), 0.78),
        (20, lambda: token_bucket(20), 0.86),
        (20, lambda: fixed_windows(20), 0.88),
        (5, lambda: fixed_windows(5, every=10.0), 0.92),
    ],
    ids=["bucket", "deep bucket", "bucket, 1 s", "bucket, 2 s", "windows", "windows, told", "fast bucket",
         "fast windows", "long windows"],
)  # fmt: skip
def test_a_limited_server_is_used_nearly_to_its_limit_and_nothing_is_given_up(
    limit: float, server: Callable[[], Server], share: float, readers: int
) -> None:
    """However it counts, and however many readers there are."""
    office = Office(server(), readers, to_do=2_000).work()
    assert office.errors == []
    assert len(office.answered) == 2_000
    assert 2_000 / office.now >= share * min(limit, readers / office.latency)
    assert office.refused <= 250


def test_a_rate_that_grows_is_found_out() -> None:
    """A server that takes ten times as much after a while gets it."""
    slow, fast = token_bucket(5), token_bucket(50)
    office = Office(lambda now: (slow if now < 60 else fast)(now), 16, to_do=3_000).work()
    assert office.errors == []
    assert office.now <= 60 + 2 * (3_000 - 60 * 5) / 50


def outage(start: float, end: float, answer: Callable[[], Response | VoiceOSAPIError]) -> Server:
    """Nothing but failures for a while."""
    return lambda now: answer() if start <= now < end else Response(OK, {})


@pytest.mark.parametrize(
    "answer",
    [lambda: VoiceOSConnectionError("refused"), lambda: Response(DOWN, {}), lambda: Response(BUSY, {})],
    ids=["no answer", "503", "429"],
)
def test_an_outage_is_not_asked_more_often_because_many_wait_for_its_end(
    answer: Callable[[], Response | VoiceOSAPIError],
) -> None:
    """For some minutes; then all of them go on, and nothing is given up."""
    asked = {}
    for readers in (1, 16):
        office = Office(outage(10, 250, answer), readers, to_do=10_000, retry=Retry(max_attempts=100)).work()
        assert office.errors == []
        assert len(office.answered) == 10_000
        asked[readers] = sum(20 <= at < 250 for at in office.sent)
    assert asked[16] <= 2 * asked[1] + 3


@pytest.mark.parametrize("status", [BUSY, DOWN])
def test_all_heed_what_one_of_them_is_told(status: int) -> None:
    """Nobody sends anything before the time that was named."""
    told = Response(status, {"retry-after": "30"})
    office = Office(outage(5, 5.05, lambda: told), 16, to_do=2_000).work()
    assert office.errors == []
    # Those that were under way arrive; then it is quiet.
    assert not [at for at in office.sent if 5.3 <= at < 35]
    assert [at for at in office.sent if 35 <= at < 37]


@pytest.mark.parametrize("readers", [1, 16])
@pytest.mark.parametrize("rate", [0.5, 5, 40])
def test_a_chosen_rate_is_kept(readers: int, rate: float) -> None:
    """Never more, and not much less while there are readers enough."""
    office = Office(lambda now: Response(OK, {}), readers, to_do=400, requests_per_second=rate).work()
    gaps = [after - before for before, after in zip(office.sent, office.sent[1:], strict=False)]
    assert min(gaps) >= 1 / rate - 1e-5
    assert office.now <= 1.02 * 400 / min(rate, readers / office.latency) + 1


def test_failures_halve_how_many_are_at_work_and_successes_bring_them_back() -> None:
    """Answers to what was sent together count once."""
    now = 0.0
    gate = RateLimiter(16, monotonic=lambda: now)
    limits = []
    for _ in range(4):
        now += 1
        for _ in range(16):
            gate.hear(VoiceOSConnectionError("refused"))
        limits.append(gate.limit)
    assert limits == [8, 4, 2, 1]
    for _ in range(200):
        gate.hear(Response(OK, {}))
    assert gate.limit == 16


def test_what_is_wrong_with_the_question_says_nothing_about_the_server() -> None:
    """404 and 422 are answers like any other."""
    gate = RateLimiter(4, monotonic=lambda: 1.0)
    for status in (404, 422, 401):
        gate.hear(Response(status, {"retry-after": "30"}))
    assert (gate.limit, gate.wait()) == (4, 0.0)


def test_no_more_are_at_work_than_the_gate_allows() -> None:
    """The others wait, unless nobody wants them to."""
    gate = RateLimiter(2)
    with gate.place(), gate.place():
        entered = threading.Event()

        def enter() -> None:
            with gate.place():
                entered.set()

        waiting = threading.Thread(target=enter, daemon=True)
        waiting.start()
        assert not entered.wait(0.05)
        with gate.place(lambda: True):
            assert not entered.is_set()
    waiting.join(5)
    assert entered.is_set()
