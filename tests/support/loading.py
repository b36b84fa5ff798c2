"""Loads in processes of their own, which can be killed at any of their steps."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.support.databases import Engine
from tests.support.exporting import start_the_server_that_forks


class Loading:
    """A load that has said what stands, and waits.

    :param engine: makes the engine anew, in the other process
    :param orders: further words for it: `at`, when it reads; `began`, for the names of its staging tables; ...
    """

    _context = multiprocessing.get_context("forkserver")

    def __init__(self, engine: Callable[[], Engine], *, at: datetime, **orders: Any) -> None:
        from tests.support.run_load import run

        start_the_server_that_forks(self._context)
        orders |= {"engine": engine, "at": at, "began": orders.get("began", at)}
        self._load, there = self._context.Pipe()
        self._process = self._context.Process(target=run, args=(orders, there), daemon=True)
        self._process.start()
        there.close()
        self.stands: dict[str, Any] = self._hear()
        self.steps: list[float] = []

    def start(self, reading: str = "first") -> Loading:
        """Let it begin."""
        self._load.send(reading)
        assert self._hear() == "begins"
        return self

    def finish(self) -> int:
        """Let it end; returns how many conversations it has loaded. `steps` is how long each step took, in seconds."""
        began = []
        while isinstance(told := self._hear(), float):
            began.append(told)
        self._end()
        assert isinstance(told, int)
        ended = [*began[1:], time.monotonic()]
        self.steps = [after - before for before, after in zip(began, ended, strict=True)]
        return told

    def kill_at(self, step: int, delay: float) -> bool:
        """Kill it so many seconds after it has begun a step, counted from 0; returns whether there was such a step."""
        for _ in range(step + 1):
            if isinstance(self._hear(), int):
                self._end()
                return False
        time.sleep(delay)
        self.kill()
        return True

    def kill(self) -> None:
        """End it as the kernel does when memory runs out: at once, with no last word."""
        self._process.kill()
        self._end()

    def leave(self) -> dict[str, Any]:
        """Let it load nothing; returns what it saw."""
        self._load.send(None)
        self._end()
        return self.stands

    def _hear(self) -> Any:
        told = self._load.recv()
        assert not isinstance(told, str) or told == "begins", told
        return told

    def _end(self) -> None:
        self._process.join()
        self._load.close()
