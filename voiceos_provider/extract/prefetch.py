"""How do several threads read ahead of one that works on what they bring, and never too far?"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_A_MOMENT = 0.1
_FAREWELL = 1.0


class ClosedError(Exception):
    """Nobody wants the rest any more."""


class Channel(Generic[T]):
    """What readers send their items into; it holds a few, and then they wait."""

    def __init__(self, size: int, sleep: Callable[[float], None] | None) -> None:
        self._items: queue.Queue[T | BaseException | None] = queue.Queue(size)
        self._sleep = sleep
        self._close = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether nobody wants the rest any more."""
        return self._close.is_set()

    def send(self, item: T) -> None:
        """Hand over one item.

        :raises ClosedError: if nobody wants it
        """
        self._put(item)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than anybody wants to know.

        :raises ClosedError: if nobody does
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
                return self._items.put(item, timeout=_A_MOMENT)
            except queue.Full:
                continue
        raise ClosedError

    def _run(self, work: Callable[[Channel[T]], None]) -> None:
        last: BaseException | None = None
        try:
            work(self)
        except ClosedError:
            return
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits for it
            last = error
        with suppress(ClosedError):
            self._put(last)


def read_ahead(
    work: Callable[[Channel[T]], None],
    *,
    readers: int,
    room: int | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Generator[T]:
    """Let several threads work, and yield what they send, as it comes.

    The first error of any of them ends it, and is raised here. Whoever leaves early leaves nothing running, but for
    requests that are under way; nothing waits for those.

    :param work: what each thread does: sends items until there are no more
    :param readers: how many threads there are
    :param room: items that may wait; as many as there are readers by default
    :param sleep: replaces waiting, for tests
    """
    channel: Channel[T] = Channel(readers if room is None else room, sleep)
    # Not an executor: its threads would keep a task alive that was told to stop.
    threads = [
        threading.Thread(target=channel._run, args=(work,), name=f"voiceos-reader-{number}", daemon=True)
        for number in range(readers)
    ]
    try:
        for thread in threads:
            thread.start()
        at_work = readers
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
            if thread.ident:
                thread.join(_FAREWELL / readers)
