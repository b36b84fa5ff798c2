"""The code on every page below docs/ runs, from top to bottom, as a reader who follows the page would run it.

A new page is found by itself. Python, SQL and shell that cannot run here says why, in a comment above it:
`<!-- not run: needs an account of Google's -->`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from tests.support.pages import PAGES, ROOT, Block, blocks, name
from voiceos_provider.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.emulator import Emulator
from voiceos_provider.interval import Interval
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.options import ExportOptions
from voiceos_provider.pipeline.run import run_export
from voiceos_provider.transfers.voiceos_to_delta_lake import VoiceOSToDeltaLakeOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

Day = tuple[datetime, datetime]

RUNS = ("python", "sql", "bash", "json", "yaml")
DOES_NOT_RUN = ("text", "toml", "dockerfile")
"""What shows output, a tree, or a file of another program."""

ELSEWHERE = {
    "README.md": ("test_readme.py", "python"),
    "docs/cookbook.md": ("test_cookbook.py", "sql"),
    "docs/waiting.md": ("test_waiting.py", "python"),
}
"""Pages with a test of their own, which runs what is in one language and looks at what comes of it."""

PORT = "8321"
TIMEOUT = 60.0
_SERVER = re.compile(r"(voiceos |python -m voiceos_provider\.)emulator")
DAYS = ("2026-11-20", "2026-11-21")
"""The day that the pages speak of, and the next one."""


def test_a_page_with_a_test_of_its_own_has_one() -> None:
    """Else it would run nowhere, unnoticed."""
    for page, (test, language) in ELSEWHERE.items():
        assert any(block.language == language for block in blocks(ROOT / page))
        text = (Path(__file__).parent / test).read_text()
        assert (ROOT / page).name in text
        assert f"```{language}" in text or f'blocks("{language}")' in text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_in_what_language_it_is(page: Path) -> None:
    """A block without a language, or in one that nothing here knows, would not be run."""
    fences = re.findall(r"^```(.*)$", page.read_text(), re.MULTILINE)[::2]
    assert [fence for fence in fences if not fence.startswith("{")] == [
        block.language for block in blocks(page)
    ]
    assert {block.language for block in blocks(page)} <= {*RUNS, *DOES_NOT_RUN}


def run_here(page: Path) -> list[Block]:
    """Return the blocks of a page that this module runs."""
    _, elsewhere = ELSEWHERE.get(name(page), ("", ""))
    return [
        block
        for block in blocks(page)
        if block.language in RUNS and block.language != elsewhere and not block.reason
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if run_here(page)], ids=name)
def test_the_page_runs(page: Path, reader: Reader, yesterday: Day, tmp_path: Path) -> None:
    """Block by block: DAGs in Airflow, scripts in one Python, SQL in one DuckDB, commands in one shell."""
    if "VoiceOSEraseConversationsOperator(" in page.read_text():
        fill_database_and_lake(yesterday, tmp_path)
    for block in run_here(page):
        reader.run(block)


def fill_database_and_lake(day: Day, folder: Path) -> None:
    """Export a day to the pages' database and lake, which have to hold an export before one can be erased."""
    interval = {"interval_start": day[0].isoformat(), "interval_end": day[1].isoformat()}
    VoiceOSToSqlOperator(task_id="database", sql_conn_id="warehouse", **interval).execute({})
    VoiceOSToDeltaLakeOperator(task_id="lake", path=f"file://{folder}/lake", **interval).execute({})


FAILING_DAG = """
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

with DAG(dag_id="voiceos_wrong_page", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=UTC)):

    @task
    def fail() -> None:
        raise ValueError("as a page that is wrong would")

    fail()
"""


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("sql", "SELECT no_such_column FROM 'voiceos/conversations/*.parquet'"),
        ("sql", "SELECT id FROM 'voiceos/conversations/*.parquet' WHERE status = 'finished'"),
        ("bash", "pip install 'airflow-provider-voiceos[no_such_store]'"),
        ("bash", "voiceos no-such-command"),
        ("python", "from voiceos_provider.hooks.voiceos import NoSuchHook"),
        ("python", FAILING_DAG),
        ("json", '{"conn_type": "voiceos",}'),
        ("yaml", "secret: ["),
    ],
)
def test_a_page_that_is_wrong_is_noticed(language: str, code: str, reader: Reader) -> None:
    """A column, an extra, a command, a name or a task that is not as the page says."""
    with pytest.raises(Exception):  # noqa: B017, PT011  each language has its own
        reader.run(Block(language, code, ""))


@pytest.fixture
def reader(
    api: Emulator,
    connect: Callable[..., str],
    yesterday: Day,
    s3_connection: str,
    s3_url: str,
    run_in_airflow: Callable[..., Any],
    dags_in: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reader]:
    """Yield a reader in an empty folder, with the pages' connections and yesterday's export in `voiceos/`."""
    url = json.loads(os.environ["AIRFLOW_CONN_VOICEOS_DEFAULT"])["host"]
    connect("warehouse", "duckdb", host=str(tmp_path / "warehouse.duckdb"))
    connect("voiceos_http", "http", host=url, extra={"Authorization": f"Bearer {api.token}"})
    settings = ClientConfig(token=api.token, base_url=url)
    interval = Interval(*yesterday)
    with VoiceOSClient(settings) as client:
        destination = FilesDestination(tmp_path / "voiceos", encoding=Encoding.choose("parquet", None))
        run_export(client, destination, ExportOptions.parse(interval, visibility_delay=0))
    monkeypatch.chdir(tmp_path)

    def run_each(folder: Path) -> list[Any]:
        dags = dags_in(folder).values()
        for task in [task for dag in dags for task in dag.tasks]:
            task.retries = 0  # else a page that is wrong would be waited for
            if hasattr(task, "visibility_delay"):
                task.visibility_delay = timedelta(0)  # else the first minutes of an hour would be
        return [run_in_airflow(dag) for dag in dags]

    reader = Reader(
        tmp_path,
        replacements={
            DAYS[0]: f"{yesterday[0]:%Y-%m-%d}",
            DAYS[1]: f"{yesterday[1]:%Y-%m-%d}",
            "YOUR-API-TOKEN": api.token,
            "https://api.voiceos.io": url,
            "http://minio:9000": s3_url,
            "file:///data/": f"file://{tmp_path}/",
            "file:///tmp/": f"file://{tmp_path}/tmp/",
            PORT: str(free_port()),
        },
        run_dag=run_each,
        setenv=monkeypatch.setenv,
    )
    # Not a block's `export VOICEOS_...`: that would be there for the next page, too.
    reader.environ |= {"VOICEOS_TOKEN": api.token, "VOICEOS_BASE_URL": url}
    yield reader
    reader.close()


class Reader:
    """Does what a page says.

    :param folder: where the commands are typed
    :param replacements: what is another thing here than on the page
    :param run_dag: loads a DAGs folder, and runs what is in it
    :param setenv: sets an environment variable of this process, for as long as the page is read
    """

    def __init__(
        self,
        folder: Path,
        *,
        replacements: dict[str, str],
        run_dag: Callable[[Path], list[Any]],
        setenv: Callable[[str, str], None],
    ) -> None:
        self.environ: dict[str, str] = {}
        self._folder = folder
        self._replacements = replacements
        self._run_dag = run_dag
        self._setenv = setenv
        self._names: dict[str, Any] = {"__name__": "page"}
        self._exports = ""
        self._servers: list[subprocess.Popen[bytes]] = []
        self._dag_files = 0
        self._database = duckdb.connect()
        self._database.execute("SET TimeZone = 'UTC'")

    def run(self, block: Block) -> None:
        """Run a block in its language."""
        there = re.compile("|".join(map(re.escape, self._replacements)))
        getattr(self, block.language)(there.sub(lambda match: self._replacements[match[0]], block.code))

    def python(self, code: str) -> None:
        """Run a DAG from a DAGs folder, and any other code in one interpreter."""
        if "DAG(" not in code and "@dag" not in code:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, "page", "exec"), self._names)
            return
        self._dag_files += 1
        folder = self._folder / f"dags{self._dag_files}"
        folder.mkdir()
        (folder / "page_dag.py").write_text(code)
        runs = self._run_dag(folder)
        assert [str(run.state) for run in runs] == ["success"] * len(runs)
        assert runs

    def sql(self, code: str) -> None:
        """Run each statement in DuckDB, with the bucket in this folder; a query must return rows."""
        code = code.replace("s3://my-bucket/", "")
        for statement in self._database.extract_statements(code):
            rows = self._database.execute(statement).fetchall()
            asks = statement.query.lstrip().upper().startswith(("SELECT", "FROM", "WITH"))
            assert rows or not asks, statement.query

    def bash(self, code: str) -> None:
        """Run a script; keep its variables and servers, and let pip only check that the requirements exist."""
        script = self._exports + code
        self._exports += "".join(f"{line}\n" for line in code.splitlines() if line.startswith("export "))
        (self._folder / "bin").mkdir(exist_ok=True)
        for command, does in {
            "voiceos": f"exec {sys.executable} -m voiceos_provider.cli",
            "pip": f"exec {sys.executable} {Path(__file__).parents[1] / 'support' / 'fake_pip.py'}",
        }.items():
            file = self._folder / "bin" / command
            file.write_text(f'#!/bin/sh\n{does} "$@"\n')
            file.chmod(0o755)
        paths = [str(self._folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        environ = {**os.environ, **self.environ, "PATH": ":".join(paths), "PYTHONPATH": str(ROOT)}
        if _SERVER.match(code):
            port = "" if "--port" in code else f" --port {self._replacements[PORT]}"
            self._serve(code.rstrip() + port, environ)
            return
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # Where Airflow would see them. That of the API stays the one of this test, which has a host.
        for variable, value in re.findall(r"^export (AIRFLOW_CONN_\w+)='(.*)'$", code, re.MULTILINE):
            if json.loads(value)["conn_type"] != "voiceos":
                self._setenv(variable, value)

    def _serve(self, script: str, environ: dict[str, str]) -> None:
        """Start a server, and return when it is up."""
        server = subprocess.Popen(["bash", "-c", f"exec {script.strip()}"], cwd=self._folder, env=environ)
        self._servers.append(server)
        port = int(re.findall(r"--port (\d+)", script)[-1])
        until = time.monotonic() + TIMEOUT
        while time.monotonic() < until and server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.05)
        raise AssertionError(f"No server came up: {script}")

    def json(self, code: str) -> None:
        """Check that the code is JSON, and that Airflow accepts it if it is a connection."""
        from airflow.providers.common.compat.sdk import Connection

        read = json.loads(code)
        if "conn_type" in read:
            assert Connection.from_json(code).conn_type == read["conn_type"]

    def yaml(self, code: str) -> None:
        """Check that the code is YAML."""
        assert list(yaml.safe_load_all(code))

    def close(self) -> None:
        """Leave nothing running."""
        self._database.close()
        for server in self._servers:
            server.send_signal(signal.SIGINT)
            server.wait()


def free_port() -> int:
    """One without a listener."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
