"""Worker threads that prefetch for one consumer."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial

import pytest

from voiceos_provider.extract.workers import Channel, ClosedError


def prefetch(work: Callable[[Channel[int]], None], *, workers: int) -> Generator[int]:
    """Yield what workers send through a channel."""
    channel: Channel[int] = Channel(workers)
    return channel.run(partial(work, channel))


def numbers(count: int) -> tuple[Iterator[int], threading.Lock]:
    """Return items to share among workers, and a lock to take them with."""
    return iter(range(count)), threading.Lock()


@pytest.fixture(autouse=True)
def _note_other_workers() -> None:
    """Note the workers of earlier tests that still wait for a response."""
    _others.clear()
    _others.update(thread for thread in threading.enumerate() if thread.name.startswith("voiceos-worker"))


_others: set[threading.Thread] = set()


def own_workers() -> list[threading.Thread]:
    """Return the running worker threads of this test."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("voiceos-worker") and thread not in _others
    ]


def living_workers() -> list[str]:
    """Return the names of the running worker threads of this test."""
    return [thread.name for thread in own_workers()]


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_every_item_is_yielded_once_and_no_thread_remains(workers: int) -> None:
    """The number of workers does not matter."""
    remaining, taking = numbers(1_000)

    def work(channel: Channel[int]) -> None:
        while True:
            with taking:
                number = next(remaining, None)
            if number is None:
                return
            channel.send(number)

    assert sorted(prefetch(work, workers=workers)) == list(range(1_000))
    assert living_workers() == []


def test_no_work_begins_before_the_first_item_is_requested() -> None:
    """An export that fails before it reads sends nothing."""
    begun = threading.Event()
    items = prefetch(lambda channel: begun.set(), workers=2)
    assert not begun.is_set()
    assert list(items) == []
    assert begun.is_set()


def test_workers_stay_at_most_the_queue_and_one_item_each_ahead() -> None:
    """Memory does not grow with the interval."""
    produced = 0
    counting = threading.Lock()

    def work(channel: Channel[int]) -> None:
        nonlocal produced
        for number in range(100):
            with counting:
                produced += 1
            channel.send(number)

    items = prefetch(work, workers=4)
    for consumed in range(1, 50):
        next(items)
        time.sleep(0.001)
        assert produced <= consumed + 4 + 4
    items.close()


def test_first_error_ends_all_workers_and_is_raised_in_the_consumer() -> None:
    """It is the same exception."""
    failed = threading.Event()

    def work(channel: Channel[int]) -> None:
        if threading.current_thread().name.endswith("-2"):
            failed.set()
            raise KeyError("mine")
        failed.wait(5)
        while True:
            channel.send(1)

    with pytest.raises(KeyError, match="mine"):
        for _ in prefetch(work, workers=4):
            pass
    assert living_workers() == []


def test_exit_in_a_worker_is_raised_in_the_consumer() -> None:
    """It is not an `Exception`."""

    def work(channel: Channel[int]) -> None:
        raise SystemExit("stopped")

    with pytest.raises(SystemExit, match="stopped"):
        list(prefetch(work, workers=2))
    assert living_workers() == []


def test_thread_that_cannot_be_started_leaves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may limit the number of threads."""
    start = threading.Thread.start

    def start_two(thread: threading.Thread) -> None:
        if thread.name == "voiceos-worker-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(prefetch(lambda channel: channel.sleep(3_600), workers=4))
    assert living_workers() == []


def test_closing_early_ends_sending_and_sleeping_workers() -> None:
    """They wait neither for the consumer nor for their sleep to end."""

    def work(channel: Channel[int]) -> None:
        if threading.current_thread().name.endswith("-0"):
            while True:
                channel.send(1)
        channel.sleep(3_600)

    items = prefetch(work, workers=4)
    assert next(items) == 1
    items.close()
    assert living_workers() == []


def test_sleeping_worker_does_not_continue_after_the_consumer_stops() -> None:
    """It sends no further request."""
    woken: list[str] = []

    def work(channel: Channel[int]) -> None:
        channel.send(1)
        try:
            channel.sleep(3_600)
        except ClosedError:
            woken.append("closed")
            raise
        woken.append("continued")

    items = prefetch(work, workers=1)
    next(items)
    items.close()
    assert woken == ["closed"]


def test_generator_closed_by_a_worker_ends() -> None:
    """A worker may collect the generator as garbage."""
    consumed = threading.Event()
    errors: list[BaseException | None] = []

    def work(channel: Channel[int]) -> None:
        channel.send(1)
        consumed.wait(5)
        try:
            items.close()
        except RuntimeError as error:
            errors.append(error)

    items = prefetch(work, workers=1)
    assert next(items) == 1
    (worker,) = [thread for thread in own_workers() if thread.name == "voiceos-worker-0"]
    consumed.set()
    worker.join(5)
    assert errors == []
    assert living_workers() == []


def test_request_in_flight_is_not_waited_for() -> None:
    """The thread ends when its response arrives."""
    response = threading.Event()

    def work(channel: Channel[int]) -> None:
        channel.send(1)
        response.wait(60)
        channel.send(2)

    items = prefetch(work, workers=1)
    next(items)
    items.close()
    assert living_workers() == ["voiceos-worker-0"]
    (worker,) = [thread for thread in own_workers() if thread.name == "voiceos-worker-0"]
    assert worker.daemon
    response.set()
    worker.join(5)
    assert living_workers() == []


def test_generator_collected_in_a_worker_ends_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Garbage is collected in any thread, and a thread cannot wait for itself."""
    unraisable: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    dropped, held = threading.Event(), threading.Event()
    kept: list[Iterator[int]] = []

    def work(channel: Channel[int]) -> None:
        channel.send(1)
        held.wait(5)
        kept.clear()  # the last reference
        dropped.set()

    items = prefetch(work, workers=1)
    next(items)
    kept.append(items)
    del items
    held.set()
    assert dropped.wait(5)
    assert unraisable == []
