"""Fewer garbage collections during exports: rows hold no reference cycles, and a full one visits all of Airflow."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = 10_000


class _Collector:
    """The garbage collector of this process, which several exports may use at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exports = 0
        self._before = gc.get_threshold()

    @contextmanager
    def runs_less_often(self) -> Iterator[None]:
        """Raise the first threshold until the last export has ended.

        Nothing is frozen: unfreezing would also release what others have frozen.
        """
        with self._lock:
            self._exports += 1
            if self._exports == 1:
                self._before = gc.get_threshold()
                if 0 < self._before[0] < _THRESHOLD:  # 0 means that nothing is collected
                    gc.set_threshold(_THRESHOLD, *self._before[1:])
        try:
            yield
        finally:
            with self._lock:
                self._exports -= 1
                # A threshold that others have set meanwhile stays.
                if not self._exports and gc.get_threshold() == (_THRESHOLD, *self._before[1:]):
                    gc.set_threshold(*self._before)


fewer_collections = _Collector().runs_less_often
