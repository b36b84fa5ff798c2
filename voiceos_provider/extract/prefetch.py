"""Prefetch: several threads fetch ahead of one that processes, and never too far."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_INTERVAL = 0.1
_JOIN_TIMEOUT = 1.0


class ClosedError(Exception):
    """The consumer has stopped."""


class Channel(Generic[T]):
    """Bounded queue from the workers to the consumer."""

    def __init__(self, size: int, sleep: Callable[[float], None] | None) -> None:
        self._items: queue.Queue[T | BaseException | None] = queue.Queue(size)
        self._sleep = sleep
        self._close = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether the consumer has stopped."""
        return self._close.is_set()

    def send(self, item: T) -> None:
        """Put an item; wait while the queue is full.

        :raises ClosedError: if the consumer has stopped
        """
        self._put(item)

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than the consumer exists.

        :raises ClosedError: if the consumer has stopped
        """
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            self._close.wait(seconds)
        if self.closed:
            raise ClosedError

    def _put(self, item: T | BaseException | None) -> None:
        while not self.closed:
            try:
                return self._items.put(item, timeout=_POLL_INTERVAL)
            except queue.Full:
                continue
        raise ClosedError

    def _run(self, work: Callable[[Channel[T]], None]) -> None:
        last: BaseException | None = None
        try:
            work(self)
        except ClosedError:
            return
        except BaseException as error:  # noqa: BLE001  raised again in the consumer
            last = error
        with suppress(ClosedError):
            self._put(last)


def prefetch(
    work: Callable[[Channel[T]], None],
    *,
    workers: int,
    room: int | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Generator[T]:
    """Run work in several threads, and yield the items they send, in the order of their arrival.

    The first error of any thread ends all of them, and is raised here. Closing the generator early ends the threads,
    except for requests in flight, which are not waited for.

    :param work: the work of each thread, which sends items until there are no more
    :param workers: number of threads
    :param room: items that may wait; as many as there are workers by default
    :param sleep: replaces waiting, for tests
    """
    channel: Channel[T] = Channel(workers if room is None else room, sleep)
    # Not an executor: its threads would keep a task alive that was told to stop.
    threads = [
        threading.Thread(target=channel._run, args=(work,), name=f"voiceos-worker-{number}", daemon=True)
        for number in range(workers)
    ]
    try:
        for thread in threads:
            thread.start()
        at_work = workers
        while at_work:
            item = channel._items.get()
            if item is None:
                at_work -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        channel._close.set()
        for thread in threads:
            # An abandoned generator is closed by whichever thread collects garbage, which may be a worker.
            if thread.ident and thread is not threading.current_thread():
                thread.join(_JOIN_TIMEOUT / workers)
