"""Airflow as it runs in production: scheduler, DAG processor, API server and triggerer, each a process of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import Request, urlopen

import psutil
import psycopg2

from tests.support.databases import postgres_server

CHECKOUT = Path(__file__).parents[2]
TIMEOUT = 240.0


class RealAirflow:
    """An Airflow home with its processes, which are gone when the context is left.

    The metadata are in a PostgreSQL: the processes write at the same time, and SQLite locks all but one of them out.

    :param home: an empty folder; DAGs are read from `dags` in it
    :param connection: what the Connection `voiceos_default` is
    :param settings: further environment variables of every process
    :param database: address of a PostgreSQL for the metadata; by default, one is started
    """

    def __init__(
        self,
        home: Path,
        connection: dict[str, Any],
        *,
        settings: Mapping[str, str] | None = None,
        database: str | None = None,
    ) -> None:
        self.home = home
        self.dags = home / "dags"
        self.dags.mkdir()
        port = self._port = _free_port()
        secret = base64.urlsafe_b64encode(os.urandom(32)).decode()
        own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self._environment = own | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__PARALLELISM": "3",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__FERNET_KEY": secret,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__API_AUTH__JWT_SECRET": secret,
            "AIRFLOW__API__SECRET_KEY": secret,
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(_free_port()),
            # How soon another triggerer takes over from one that was killed.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "100",
            "AIRFLOW_CONN_WAREHOUSE": json.dumps(
                {"conn_type": "sqlite", "host": str(home / "warehouse.sqlite")}
            ),
            "AIRFLOW_CONN_VOICEOS_DEFAULT": json.dumps({"conn_type": "voiceos", **connection}),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONWARNINGS": "ignore",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}",
            **(settings or {}),
        }
        self._database = database
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._database is None:
                self._database = stack.enter_context(postgres_server())
            address = self._database.replace("postgresql://", "postgresql+psycopg2://")
            self._environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = address
            self.run("db", "migrate")
            stack.callback(self._stop)
            self.start("api-server")
            # A task fails if it starts before the API server responds.
            self.until(lambda: _responds(self._port))
            for name in ("scheduler", "dag-processor", "triggerer"):
                self.start(name)
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._running:
            if kind is not None:
                for name in sorted(path.name for path in self.home.glob("*.log")):
                    print(f"----- {name}\n" + (self.home / name).read_text()[-4000:])
                tasks = "SELECT dag_id, task_id, map_index, state, try_number FROM task_instance"
                print(*self.query(tasks), sep="\n")
                print(*self.query("SELECT extra FROM asset_event"), sep="\n")

    def _stop(self) -> None:
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        for name in list(self._processes):
            with suppress(subprocess.TimeoutExpired):
                self._processes[name].wait(20)
            self.kill(name)

    def run(self, *command: str) -> str:
        """Run an `airflow` command, and return its output."""
        result = subprocess.run(
            ["airflow", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    @property
    def url(self) -> str:
        """The address of the web page and the REST API."""
        return f"http://127.0.0.1:{self._port}"

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Call Airflow's REST API, as its web page does."""
        with urlopen(f"{self.url}/auth/token", timeout=TIMEOUT) as response:
            token = json.load(response)["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        with urlopen(
            Request(f"{self.url}{path}", json.dumps(body).encode(), headers), timeout=TIMEOUT
        ) as response:
            return json.load(response)

    def start(self, name: str, *command: str, settings: Mapping[str, str] | None = None) -> None:
        """Start one of the processes.

        :param command: an `airflow` command; that of the name by default
        :param settings: further environment variables of this process
        """
        with (self.home / f"{name}.log").open("ab") as log:
            arguments = ["--workers", "1"] if name == "api-server" else []
            self._processes[name] = subprocess.Popen(
                ["airflow", *(command or (name, *arguments))],
                env=self._environment | dict(settings or {}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill it and all that it started, without a shutdown."""
        process = self._processes.pop(name)
        # Tasks have process groups of their own, and end properly if they notice that their worker is gone.
        tasks = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        _signal(process, signal.SIGKILL)
        for task in tasks:
            with suppress(psutil.NoSuchProcess):
                task.kill()
        process.wait()

    def query(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Return rows of the metadata database; JSON is decoded."""
        with closing(psycopg2.connect(self._database)) as connection, connection.cursor() as cursor:
            cursor.execute(query.replace("%", "%%").replace("?", "%s"), arguments)
            return [tuple(row) for row in cursor.fetchall()]

    def until(self, true: Callable[[], Any], *, timeout: float = TIMEOUT) -> Any:
        """Wait until a condition is true; fail if a process ends."""
        deadline = time.monotonic() + timeout
        while not (found := true()):
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} has ended"
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.25)
        return found


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _responds(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
