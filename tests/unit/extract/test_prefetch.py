"""Several threads read ahead of one."""

import threading
import time
from collections.abc import Iterator

import pytest

from voiceos_provider.extract.prefetch import Channel, ClosedError, read_ahead


def numbers(count: int) -> tuple[Iterator[int], threading.Lock]:
    """Something to share out."""
    return iter(range(count)), threading.Lock()


def readers_alive() -> list[str]:
    """The readers that are still there."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("voiceos-reader")]


@pytest.mark.parametrize("readers", [1, 3, 16])
def test_everything_is_brought_once(readers: int) -> None:
    """By whomever; and nobody stays."""
    left, taking = numbers(1_000)

    def work(channel: Channel[int]) -> None:
        while True:
            with taking:
                number = next(left, None)
            if number is None:
                return
            channel.send(number)

    assert sorted(read_ahead(work, readers=readers)) == list(range(1_000))
    assert readers_alive() == []


def test_nothing_begins_before_somebody_asks() -> None:
    """An export that fails before it reads has sent nothing."""
    begun = threading.Event()
    brought = read_ahead(lambda channel: begun.set(), readers=2)
    assert not begun.is_set()
    assert list(brought) == []
    assert begun.is_set()


def test_nobody_reads_far_ahead() -> None:
    """What waits is what waits in the channel, and what each reader has in hand."""
    laid = 0
    counting = threading.Lock()

    def work(channel: Channel[int]) -> None:
        nonlocal laid
        for number in range(100):
            with counting:
                laid += 1
            channel.send(number)

    brought = read_ahead(work, readers=4, room=3)
    for taken in range(1, 50):
        next(brought)
        time.sleep(0.001)
        assert laid <= taken + 3 + 4
    brought.close()


def test_the_first_error_ends_it_and_is_raised_where_somebody_waits() -> None:
    """As it was raised; the other readers stop."""
    failed = threading.Event()

    def work(channel: Channel[int]) -> None:
        if threading.current_thread().name.endswith("-2"):
            failed.set()
            raise KeyError("mine")
        failed.wait(5)
        while True:
            channel.send(1)

    with pytest.raises(KeyError, match="mine"):
        for _ in read_ahead(work, readers=4):
            pass
    assert readers_alive() == []


def test_whatever_ends_a_reader_ends_the_reading() -> None:
    """Also what is no `Exception`: nobody waits for somebody who is gone."""

    def work(channel: Channel[int]) -> None:
        raise SystemExit("out of here")

    with pytest.raises(SystemExit, match="out of here"):
        list(read_ahead(work, readers=2))
    assert readers_alive() == []


def test_a_thread_that_cannot_be_started_leaves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have no room for another; the error is the one that says so."""
    start = threading.Thread.start

    def start_two(thread: threading.Thread) -> None:
        if thread.name == "voiceos-reader-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(read_ahead(lambda channel: channel.sleep(3_600), readers=4))
    assert readers_alive() == []


def test_leaving_early_leaves_no_thread() -> None:
    """Whether they have something to hand over, or wait."""

    def work(channel: Channel[int]) -> None:
        if threading.current_thread().name.endswith("-0"):
            while True:
                channel.send(1)
        channel.sleep(3_600)

    brought = read_ahead(work, readers=4)
    assert next(brought) == 1
    brought.close()
    assert readers_alive() == []


def test_whoever_sleeps_is_woken_when_nobody_wants_to_know_any_more() -> None:
    """It does not go on with its work."""
    woken: list[str] = []

    def work(channel: Channel[int]) -> None:
        channel.send(1)
        try:
            channel.sleep(3_600)
        except ClosedError:
            woken.append("told")
            raise
        woken.append("worked on")

    brought = read_ahead(work, readers=1)
    next(brought)
    brought.close()
    assert woken == ["told"]


def test_a_request_that_is_under_way_keeps_nobody() -> None:
    """A task that was told to stop does not wait for an answer; the thread ends when it comes."""
    answer = threading.Event()

    def work(channel: Channel[int]) -> None:
        channel.send(1)
        answer.wait(60)
        channel.send(2)

    brought = read_ahead(work, readers=1)
    next(brought)
    brought.close()
    assert readers_alive() == ["voiceos-reader-0"]
    (reader,) = [thread for thread in threading.enumerate() if thread.name == "voiceos-reader-0"]
    assert reader.daemon
    answer.set()
    reader.join(5)
    assert readers_alive() == []
