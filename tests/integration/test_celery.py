"""A backfill over two Celery workers on a real Redis and PostgreSQL; one worker is killed.

`make fleet` installs the packages and runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.databases import postgres_server
from tests.support.exporting import NOW
from tests.support.real_airflow import RealAirflow
from voiceos_provider.emulator import Emulator, World

pytest.importorskip("airflow.providers.celery")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed")

ROOT = Path(__file__).parents[2]
DAYS = 8
END = datetime(2026, 11, 9, tzinfo=NOW.tzinfo)
WORLD = World(seed=7, conversations=4_000, start=END - timedelta(days=DAYS), end=END)
WORKERS = ("one", "two")


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis without persistence, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 30
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def celery(broker: str, database: str) -> dict[str, str]:
    """Return Celery settings that detect a dead worker quickly."""
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": database.replace("postgresql://", "db+postgresql://"),
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    }


def start_worker(airflow: RealAirflow, name: str) -> Path:
    """Start a worker as if on another machine, and return its folder for temporary files.

    Machines are told apart by their host name, which a module in the worker's Python path replaces.
    """
    folder = airflow.home / name
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"import socket\nsocket.gethostname = lambda: 'worker-{name}'\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        log_port = probe.getsockname()[1]
    airflow.start(
        name,
        *("celery", "worker", "--celery-hostname", f"worker-{name}@%h"),
        settings={
            "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_port),
        },
    )
    return folder / "tmp"


def test_backfill_is_exact_after_a_worker_is_killed(tmp_path: Path) -> None:
    """The other worker exports all remaining windows. The next task on the first worker removes abandoned files."""
    emulator = Emulator(WORLD, clock=lambda: NOW, latency=0.5)
    home, exports = tmp_path / "home", tmp_path / "exports"
    home.mkdir()
    dag = (ROOT / "example_dags/voiceos_backfill.py").read_text()
    with (
        redis(tmp_path) as broker,
        postgres_server() as database,
        emulator.serve() as url,
        RealAirflow(
            home,
            {"host": url, "password": emulator.token, "extra": {"page_size": 20}},
            settings=celery(broker, database),
            database=database,
        ) as airflow,
    ):
        (airflow.dags / "backfill.py").write_text(
            dag.replace("minutes=1)", "seconds=1)").replace(
                "schedule=None", "schedule=None, is_paused_upon_creation=False"
            )
        )
        airflow.run("pools", "set", "voiceos", "4", "Tasks that call the API")
        folders = {name: start_worker(airflow, name) for name in WORKERS}
        airflow.until(lambda: airflow.query("SELECT 1 FROM serialized_dag WHERE dag_id = 'voiceos_backfill'"))
        conf = {
            "path": f"file://{exports}",
            "from": f"{WORLD.start:%Y-%m-%d}",
            "to": f"{END:%Y-%m-%d}",
        }
        airflow.run("dags", "trigger", "voiceos_backfill", "--conf", json.dumps(conf))

        def runs_in(*states: str) -> int:
            return sum(state in states for (state,) in airflow.query("SELECT state FROM dag_run"))

        left = airflow.until(lambda: [*folders["one"].glob("voiceos-export-*/owner.json")])
        airflow.kill("one")
        assert left
        print(f"Killed with {len(left)} work directories.")
        airflow.until(lambda: runs_in("success", "failed"), timeout=300)
        assert runs_in("success") == 1
        columns = "task_id, map_index, try_number, rendered_map_index, hostname"
        instances = airflow.query(f"SELECT {columns} FROM task_instance ORDER BY map_index")
        (total,) = airflow.query("SELECT value FROM xcom WHERE task_id = 'combine' AND key = 'return_value'")

        assert all(path.exists() for path in left)
        airflow.kill("two")
        start_worker(airflow, "one")
        conf |= {"path": f"file://{tmp_path}/again", "from": f"{END - timedelta(days=1):%Y-%m-%d}"}
        airflow.run("dags", "trigger", "voiceos_backfill", "--conf", json.dumps(conf))
        airflow.until(lambda: runs_in("success", "failed") == 2, timeout=300)
        assert runs_in("success") == 2
        assert not any(path.parent.exists() for path in left)

    exported = [each for each in instances if each[0] == "export_conversations"]
    assert len(exported) == DAYS
    retried = [each for each in exported if each[2] > 1]
    assert retried
    assert {each[4] for each in retried} == {"worker-two"}
    assert exported[0][3] == "2026-11-01T00:00:00Z to 2026-11-02T00:00:00Z"
    rows = [id_ for (id_,) in duckdb.sql(f"SELECT id FROM '{exports}/conversations/*.parquet'").fetchall()]
    assert len(rows) == len(set(rows)) == 4_000
    assert set(rows) == set(WORLD.ids())
    assert _json(total[0])["exported"] == 4_000


def _json(value: Any) -> Any:
    while isinstance(value, str | bytes):
        value = json.loads(value)
    return value
