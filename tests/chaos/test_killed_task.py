"""A killed export task whose next attempt continues, in an Airflow of real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from pyarrow import parquet

from tests.support.exporting import DAY, MANIFEST, data_of, emulate, truth
from tests.support.real_airflow import RealAirflow
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.extract.reader import read_windows

pytest.importorskip("airflow.sdk.execution_time.context")

# Conversations of the middle one of three days; a larger number makes the test slower.
CONVERSATIONS = int(os.environ.get("VOICEOS_TEST_KILLED_CONVERSATIONS", "20000"))

DAGS = f"""
from datetime import datetime, timedelta
from airflow.sdk import DAG
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

with DAG("killed", schedule="@once", start_date=datetime(2026, 1, 1), is_paused_upon_creation=False):
    VoiceOSToObjectStorageOperator(
        task_id="export",
        path="{{path}}",
        interval_start="{DAY.start.isoformat()}",
        interval_end="{DAY.end.isoformat()}",
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
"""


def test_next_attempt_reads_only_what_is_missing(tmp_path: Path) -> None:
    """Each conversation is exported once."""
    needed = _requests_of_whole_export()
    emulator = emulate(3 * CONVERSATIONS, latency=4 * 20 / needed)
    home, exports = tmp_path / "home", tmp_path / "exports"
    home.mkdir()
    with (
        emulator.serve() as url,
        RealAirflow(home, {"host": url, "password": emulator.token}) as airflow,
    ):
        (airflow.dags / "killed.py").write_text(DAGS.format(path=f"file://{exports}"))
        airflow.until(lambda: len(emulator.requests) > 0.75 * needed)
        os.kill(_reader_of(int(url.rpartition(":")[2])), signal.SIGKILL)
        before = len(emulator.requests)
        airflow.until((exports / MANIFEST).exists)
        attempts = "SELECT state, try_number FROM task_instance WHERE dag_id = 'killed'"
        airflow.until(lambda: airflow.query(attempts)[0][0] == "success")
        assert airflow.query(attempts) == [("success", 2)]
        again = len(emulator.requests) - before
        logs = "\n".join(path.read_text() for path in sorted((home / "logs").rglob("attempt=*.log")))
    assert "Resuming the last attempt." in logs
    rows = parquet.read_table(exports / data_of()[-1]).column("id").to_pylist()
    assert len(rows) == len(truth(emulator))
    assert {*rows} == truth(emulator)
    print(f"{len(rows)} conversations: {before} requests before the kill, {again} after it")
    # A checkpoint is saved every 5 seconds, a quarter of the time that the requests take.
    assert again < 0.75 * needed


def _requests_of_whole_export() -> int:
    """Return the number of requests of an undisturbed export."""
    emulator = emulate(3 * CONVERSATIONS)
    with emulator.serve() as url, VoiceOSClient(ClientConfig(token=emulator.token, base_url=url)) as client:
        assert list(read_windows(client, DAY, max_concurrency=4))
    return len(emulator.requests)


def _reader_of(port: int) -> int:
    """Return the id of the process with a connection to this port."""
    here = os.getpid()
    found = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.raddr and connection.raddr.port == port and connection.pid not in (None, here)
    }
    (pid,) = found
    assert pid is not None
    return pid
