"""A task that is cleared, marked or terminated stops at once, publishes nothing and removes its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from voiceos_provider.emulator import Emulator, World

CHECKOUT = Path(__file__).parents[3]
TIMEOUT = 120.0

# As Airflow's own runner: SIGTERM calls `on_kill` in a signal handler, and nothing else ends the work.
TASK = """
import json, signal, sys
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

name, arguments = json.loads(sys.argv[1])
operator = globals()[name](task_id="task", **arguments)
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
operator.execute({})
"""

Day = tuple[datetime, datetime]


@pytest.fixture
def emulator(world: World) -> Emulator:
    """Return an API that takes half a minute for a day."""
    return Emulator(world, latency=1.0)


@pytest.fixture
def api(emulator: Emulator, connect: Callable[..., str]) -> Iterator[Emulator]:
    """Serve the API on a port, in small pages."""
    with emulator.serve() as url:
        connect(host=url, password=emulator.token, extra={"page_size": 10})
        yield emulator


@pytest.mark.parametrize("operator", ["VoiceOSToObjectStorageOperator", "VoiceOSListConversationsOperator"])
def test_a_stopped_task_leaves_nothing(api: Emulator, yesterday: Day, tmp_path: Path, operator: str) -> None:
    """It is stopped while it reads. Its rows are removed from the work directory, too."""
    exports, workdir = tmp_path / "exports", tmp_path / "workdir"
    workdir.mkdir()
    arguments = {"interval_start": str(yesterday[0]), "interval_end": str(yesterday[1])}
    exporting = operator == "VoiceOSToObjectStorageOperator"
    if exporting:
        arguments["path"] = str(exports)
    task = subprocess.Popen(
        [sys.executable, "-c", TASK, json.dumps([operator, arguments])],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(workdir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _until(lambda: len(api.requests) >= 6, task)
        assert any(path.name.startswith("voiceos-export-") for path in workdir.iterdir()) == exporting
        task.send_signal(signal.SIGTERM)
        output, _ = task.communicate(timeout=TIMEOUT)
    finally:
        task.kill()
        task.wait()
    assert task.returncode == 1, output
    assert "TaskStopped: The task was stopped. Unpublished rows are discarded." in output
    assert len(api.requests) < 14
    assert not exports.exists()
    assert [path for path in workdir.iterdir() if path.name.startswith("voiceos-export-")] == []


def _until(condition: Callable[[], bool], task: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert task.poll() is None, task.stdout and task.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
