"""Fewer garbage collections during exports: rows hold no reference cycles, and a full one visits all of Airflow."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = 10_000

_lock = threading.Lock()
_before: list[tuple[int, int, int]] = []
"""The thresholds before each of the exports that are in progress in this process."""


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Raise the first threshold until the last export has ended.

    Nothing is frozen: unfreezing would also release what others have frozen.
    """
    with _lock:
        before = _before[0] if _before else gc.get_threshold()
        _before.append(before)
        if len(_before) == 1 and 0 < before[0] < _THRESHOLD:  # 0 means that nothing is collected
            gc.set_threshold(_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        with _lock:
            _before.pop()
            # A threshold that others have set meanwhile stays.
            if not _before and gc.get_threshold() == (_THRESHOLD, *before[1:]):
                gc.set_threshold(*before)
