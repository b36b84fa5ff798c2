"""Independence of memory from the number of conversations.

The suite compares 10,000 with 100,000 conversations. The pair that is promised, 10,000 and 500,000, takes minutes:

    VOICEOS_TEST_FULL_MEMORY=1 make test ARGS=tests/integration/test_memory.py
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exporting import CHECKOUT, DAY, ExportProcess

FEW = 10_000
MANY = 500_000 if os.environ.get("VOICEOS_TEST_FULL_MEMORY") else 100_000
TOLERANCE = 1.20

SERVE = f"""
import sys
from datetime import datetime
from voiceos_provider.emulator import Emulator, World

start, end, now = map(datetime.fromisoformat, {[DAY.start.isoformat(), DAY.end.isoformat(), "2026-11-22T00:00:00Z"]})
world = World(seed=7, conversations=int(sys.argv[1]), start=start, end=end)
with Emulator(world, clock=lambda: now, keep_requests=False).serve() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def served(conversations: int) -> Iterator[str]:
    """Serve this number of conversations from another process, whose memory is not counted."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(conversations)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.communicate()


def peak(conversations: int, folder: Path, file_format: str) -> int:
    """Return the peak memory of an export process, in KiB."""
    with served(conversations) as url:
        arguments = {"file_format": file_format, "compression": "gzip" if file_format == "csv" else None}
        result = (
            ExportProcess(url, "emulator-token", str(folder / f"{conversations}"), **arguments)
            .start()
            .finish()
        )
    assert result["receipt"]["exported"] == conversations
    return int(result["peak_kib"])


@pytest.mark.parametrize("file_format", ["parquet"] + ["jsonl", "csv"] * (MANY == 500_000))
def test_large_export_uses_no_more_memory_than_a_small_one(tmp_path: Path, file_format: str):
    """The peaks of the whole processes differ by less than a fifth."""
    few, many = peak(FEW, tmp_path, file_format), peak(MANY, tmp_path, file_format)
    print(f"{file_format}: {FEW:,} took {few / 1024:.0f} MiB, {MANY:,} took {many / 1024:.0f} MiB")
    assert many < few * TOLERANCE, f"{FEW:,} took {few:,} KiB, {MANY:,} took {many:,} KiB"
