"""Time, CPU and memory of this process. Uses only the standard library, because dlt runs without this package."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Measure the wall time, the CPU time (with child processes) and the peak memory of a block."""
    found: dict[str, Any] = {"imported_bytes": _peak()}
    cpu, began = _cpu(), time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - began
    found["cpu"] = _cpu() - cpu
    found["peak_bytes"] = _peak()


def written(folder: Path) -> int:
    """Return the total size of all files below a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _cpu() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _peak() -> int:
    """Return the peak memory of this process, including Python and Airflow."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a new process inherits its parent's.
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
