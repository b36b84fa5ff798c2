"""A whole Airflow on this machine: scheduler, DAG processor and API server, each a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
_PATIENCE = 180


class Airflow:
    """A running Airflow.

    :param home: its home, with the logs and the database
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def states(self, dag_id: str) -> list[tuple[str, str, int]]:
        """Of each task of the DAG its id, its state and the number of its tries."""
        with closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True)) as database:
            question = "select task_id, state, try_number from task_instance where dag_id = ?"
            return database.execute(question, [dag_id]).fetchall()

    def logs(self) -> str:
        """Whatever its tasks have logged."""
        return "\n".join(path.read_text() for path in sorted((self.home / "logs").rglob("attempt=*.log")))


@contextmanager
def standing_airflow(home: Path, dags: Path, **settings: str) -> Iterator[Airflow]:
    """An Airflow that runs the DAGs of a folder; gone when it is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-of-the-tests-alone-for-this-run",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
        **settings,
    }
    home.mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True
    )
    with ExitStack() as stack:
        for part in ("api-server", "dag-processor", "scheduler"):
            log = stack.enter_context((home / f"{part}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", part],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_stop, process)
        yield Airflow(home)


def until(true: Callable[[], Any], what: str, patience: float = _PATIENCE) -> Any:
    """Wait for something; fails if it does not come."""
    ends = time.monotonic() + patience
    while not (found := true()):
        assert time.monotonic() < ends, f"not within {patience:.0f} s: {what}"
        time.sleep(0.2)
    return found


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
