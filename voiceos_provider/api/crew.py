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


class StoppedError(Exception):
    """Nobody wants the rest any more."""


class Desk(Generic[T]):
    """Where the threads of a crew lay down what they bring; it holds a few things, and then they wait."""

    def __init__(self, size: int, sleep: Callable[[float], None] | None) -> None:
        self._things: queue.Queue[T | BaseException | None] = queue.Queue(size)
        self._sleep = sleep
        self._stop = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether nobody wants the rest any more."""
        return self._stop.is_set()

    def lay(self, thing: T) -> None:
        """Hand over one thing.

        :raises StoppedError: if nobody wants it
        """
        self._lay(thing)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than anybody wants to know.

        :raises StoppedError: if nobody does
        """
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            self._stop.wait(seconds)
        if self.stopped:
            raise StoppedError

    def _lay(self, thing: T | BaseException | None) -> None:
        while not self.stopped:
            try:
                return self._things.put(thing, timeout=_A_MOMENT)
            except queue.Full:
                continue
        raise StoppedError

    def _attend(self, work: Callable[[Desk[T]], None]) -> None:
        last: BaseException | None = None
        try:
            work(self)
        except StoppedError:
            return
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits for it
            last = error
        with suppress(StoppedError):
            self._lay(last)


def bring(
    work: Callable[[Desk[T]], None],
    *,
    readers: int,
    room: int | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Generator[T]:
    """Let several threads work, and yield what they bring, as it comes.

    The first error of any of them ends it, and is raised here. Whoever leaves early leaves nothing running, but for
    requests that are under way; nothing waits for those.

    :param work: what each thread does: brings things to the desk until there are no more
    :param readers: how many threads there are
    :param room: things that may wait on the desk; as many as there are readers by default
    :param sleep: replaces waiting, for tests
    """
    desk: Desk[T] = Desk(readers if room is None else room, sleep)
    # Not an executor: its threads would keep a task alive that was told to stop.
    threads = [
        threading.Thread(target=desk._attend, args=(work,), name=f"voiceos-reader-{number}", daemon=True)
        for number in range(readers)
    ]
    try:
        for thread in threads:
            thread.start()
        at_work = readers
        while at_work:
            thing = desk._things.get()
            if thing is None:
                at_work -= 1
            elif isinstance(thing, BaseException):
                raise thing
            else:
                yield thing
    finally:
        desk._stop.set()
        for thread in threads:
            if thread.ident:
                thread.join(_FAREWELL / readers)
