"""Loads in separate processes, which can be killed at any step."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.support.databases import Engine
from tests.support.exporting import start_forkserver


class LoadProcess:
    """A load that has reported the existing rows, and waits.

    :param engine: makes the engine anew, in the other process
    :param arguments: further arguments: `at`, when it reads; `began`, for the names of its staging tables; ...
    """

    _context = multiprocessing.get_context("forkserver")

    def __init__(self, engine: Callable[[], Engine], *, at: datetime, **arguments: Any) -> None:
        from tests.support.run_load import run

        start_forkserver(self._context)
        arguments |= {"engine": engine, "at": at, "began": arguments.get("began", at)}
        self._load, there = self._context.Pipe()
        self._process = self._context.Process(target=run, args=(arguments, there), daemon=True)
        self._process.start()
        there.close()
        self.existing: dict[str, Any] = self._receive()
        self.steps: list[float] = []

    def start(self, reading: str = "first") -> LoadProcess:
        """Start the load."""
        self._load.send(reading)
        assert self._receive() == "begins"
        return self

    def finish(self) -> int:
        """Wait for the load, and return the number of loaded conversations; sets `steps`, the seconds of each step."""
        began = []
        while isinstance(message := self._receive(), float):
            began.append(message)
        self._end()
        assert isinstance(message, int)
        ended = [*began[1:], time.monotonic()]
        self.steps = [after - before for before, after in zip(began, ended, strict=True)]
        return message

    def kill_at(self, step: int, delay: float) -> bool:
        """Kill the load this delay after it has begun a step, counted from 0; return whether it had such a step."""
        for _ in range(step + 1):
            if isinstance(self._receive(), int):
                self._end()
                return False
        time.sleep(delay)
        self.kill()
        return True

    def kill(self) -> None:
        """Kill the process at once, as the kernel does when memory runs out."""
        self._process.kill()
        self._end()

    def leave(self) -> dict[str, Any]:
        """End the process without a load, and return the rows that it found."""
        self._load.send(None)
        self._end()
        return self.existing

    def _receive(self) -> Any:
        message = self._load.recv()
        assert not isinstance(message, str) or message == "begins", message
        return message

    def _end(self) -> None:
        self._process.join()
        self._load.close()
