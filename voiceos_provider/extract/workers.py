"""Workers: several threads fetch ahead of one that processes, and never too far."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from voiceos_provider.client import VoiceOSClient
from voiceos_provider.client.rate_limiter import RateLimiter

T = TypeVar("T")
Sleep = Callable[[float], None]

_POLL_INTERVAL = 0.1
_JOIN_TIMEOUT = 1.0
OUTAGE = 10
"""Ids in a row for which the server fails, after which no more are taken."""


class ClosedError(Exception):
    """The consumer has stopped."""


class Channel(Generic[T]):
    """Bounded queue from several workers to one consumer.

    :param workers: number of threads, and of items that may wait
    :param sleep: replaces waiting, for tests
    """

    def __init__(self, workers: int, sleep: Sleep | None = None) -> None:
        self._workers = workers
        self._items: queue.Queue[T | BaseException | None] = queue.Queue(workers)
        self._sleep = sleep
        self._close = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether the consumer has stopped."""
        return self._close.is_set()

    def send(self, item: T | BaseException | None) -> None:
        """Put an item, or the error or None that ends a worker; wait while the queue is full.

        :raises ClosedError: if the consumer has stopped
        """
        while not self.closed:
            with suppress(queue.Full):
                return self._items.put(item, timeout=_POLL_INTERVAL)
        raise ClosedError

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than the consumer exists.

        :raises ClosedError: if the consumer has stopped
        """
        (self._sleep or self._close.wait)(seconds)
        if self.closed:
            raise ClosedError

    def run(self, work: Callable[[], None]) -> Generator[T]:
        """Run work in several threads, and yield the items they send, in the order of their arrival.

        The first error of any thread ends all of them, and is raised here. Closing the generator early ends the
        threads, except for requests in flight, which are not waited for.

        :param work: the work of each thread, which sends items until there are no more
        """
        # Not an executor: its threads would keep a task alive that was told to stop.
        threads = [
            threading.Thread(target=self._run, args=(work,), name=f"voiceos-worker-{number}", daemon=True)
            for number in range(self._workers)
        ]
        try:
            for thread in threads:
                thread.start()
            at_work = self._workers
            while at_work:
                item = self._items.get()
                if item is None:
                    at_work -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self._close.set()
            for thread in threads:
                # An abandoned generator is closed by whichever thread collects garbage, which may be a worker.
                if thread.ident and thread is not threading.current_thread():
                    thread.join(_JOIN_TIMEOUT / self._workers)

    def _run(self, work: Callable[[], None]) -> None:
        with suppress(ClosedError):
            try:
                work()
                self.send(None)
            except ClosedError:
                raise
            except BaseException as error:  # noqa: BLE001  raised again in the consumer
                self.send(error)


class IdOutcome(Protocol):
    """Result of the work for one id."""

    @property
    def server_failed(self) -> bool | None:
        """Whether the server failed to do what it should; None if this shows neither."""
        ...


OutcomeT = TypeVar("OutcomeT", bound=IdOutcome)


def for_each_id(
    client: VoiceOSClient,
    ids: Iterable[str],
    work: Callable[[str, RateLimiter, Sleep], OutcomeT],
    *,
    max_concurrency: int,
) -> Generator[OutcomeT]:
    """Yield the outcome of the work for each id, which several threads do, in the order in which it is done.

    During an outage of the server most ids are left out, because each would take a minute.

    :param work: takes an id, the rate limiter of its requests, and what replaces `time.sleep` in them; an error that it
        raises ends all work
    """
    remaining = list(ids)[::-1]
    failures = 0
    taking = threading.Lock()
    limiter = client.rate_limiter(max_concurrency)
    channel: Channel[OutcomeT] = Channel(max_concurrency, client.sleep)

    def run() -> None:
        nonlocal failures
        while True:
            with taking:
                if not remaining or failures >= OUTAGE:
                    return
                id_ = remaining.pop()
            with limiter.slot(lambda: channel.closed):
                outcome = work(id_, limiter, channel.sleep)
            if outcome.server_failed is not None:
                with taking:
                    failures = failures + 1 if outcome.server_failed else 0
            channel.send(outcome)

    return channel.run(run)
