"""The dbt package on exports to DuckDB, PostgreSQL and Parquet files, and the data contract. `make dbt` runs them.

The package is installed from a git repository into a project, as users install it. The environment variable
`DBT_ENVIRONMENT` names the environment with dbt and datacontract-cli.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from docs.tools import dbt_package
from tests.support.cookbook import CHECKS, EXPORTS, Row, nine_days, read, truth_of
from tests.support.databases import duckdb_engine, postgres_engine, postgres_server
from tests.support.exporting import export_pages
from voiceos_provider.client import RawPage
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.interval import Interval
from voiceos_provider.load.destination import Destination
from voiceos_provider.load.receipt import ExportReceipt

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("DBT_ENVIRONMENT", "/nowhere")) / "bin"
pytestmark = pytest.mark.skipif(not (TOOLS / "dbt").exists(), reason="dbt is not installed: make dbt")

COOKBOOK = (ROOT / "docs" / "cookbook.md").read_text()
MARTS = re.findall(r"^<!-- model: (\w+),", COOKBOOK, re.MULTILINE)
TARGETS = [
    pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("duckdb", "postgres", "files")
]
DATABASES, DUCKDB = TARGETS[:2], TARGETS[:1]
Export = tuple[list[RawPage], Interval, datetime]
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")


@dataclass
class Target:
    """A database with exports, as a target of the project's profile.

    :param query: returns the rows of a query
    :param receipt: receipt of the newest export
    """

    name: str
    output: dict[str, Any]
    query: Callable[[str], list[Row]]
    receipt: ExportReceipt

    def mart(self, number: int) -> list[Row]:
        """Return the rows of the mart for a question of the cookbook."""
        order = " ORDER BY conversation_id, ordinal" if number == 9 else ""
        rows = self.query(f"SELECT * FROM {MARTS[number - 1]}{order}")
        return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


@dataclass
class Project:
    """A dbt project that has installed the package."""

    folder: Path

    def run(
        self, *arguments: str, target: Target, receipt: dict[str, Any] | None = None, **variables: Any
    ) -> bool:
        """Run a command of dbt on a target, and return whether it succeeded."""
        self.select(target.output)
        given = {f"voiceos_{name}": value for name, value in variables.items()} | {"voiceos_receipt": receipt}
        return self.dbt(*arguments, "--vars", json.dumps(given)).returncode == 0

    def select(self, output: dict[str, Any]) -> None:
        """Make a database the target of the project."""
        profile = {"warehouse": {"target": "test", "outputs": {"test": {"threads": 2, **output}}}}
        (self.folder / "profiles.yml").write_text(yaml.safe_dump(profile))

    def dbt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run dbt."""
        return subprocess.run(
            [TOOLS / "dbt", "--quiet", *arguments],
            cwd=self.folder,
            env={**os.environ, "DO_NOT_TRACK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def results(self) -> dict[str, set[str]]:
        """Return the nodes of the last run by status."""
        found: dict[str, set[str]] = {}
        for result in json.loads((self.folder / "target" / "run_results.json").read_text())["results"]:
            found.setdefault(result["status"], set()).add(result["unique_id"].split(".")[2])
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project that has installed the package from a directory of a git repository."""
    folder = tmp_path_factory.mktemp("project")
    repository = folder / "repository"
    shutil.copytree(ROOT / "dbt", repository / "dbt")
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "."],
        ["commit", "--quiet", "-m", "dbt"],
    ):
        subprocess.run([*GIT, *command], cwd=repository, check=True)
    packages = [{"git": f"file://{repository}", "subdirectory": "dbt", "revision": "main"}]
    (folder / "packages.yml").write_text(yaml.safe_dump({"packages": packages}))
    (folder / "dbt_project.yml").write_text("{name: warehouse, profile: warehouse}\n")
    (folder / "profiles.yml").write_text("{}\n")
    project = Project(folder)
    installed = project.dbt("deps")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return project


@pytest.fixture(scope="module")
def world() -> World:
    """Nine days of conversations."""
    return nine_days()


@pytest.fixture(scope="module")
def truth(world: World) -> list[Row]:
    """Return the conversations as the API sends them at the end."""
    return truth_of(world)


@pytest.fixture(scope="module")
def exports(world: World) -> list[Export]:
    """Return the pages, interval and time of each export; the last one is exported now."""
    read_at = [*(at for _, at in EXPORTS[:-1]), datetime.now(UTC)]
    return [
        (read(world, interval, at), interval, exported_at)
        for (interval, at), exported_at in zip(EXPORTS, read_at, strict=True)
    ]


def export(
    exports: list[Export], folder: Path, destination: Callable[[], Destination | None]
) -> ExportReceipt:
    """Export everything, and return the last receipt."""
    for pages, interval, at in exports:
        receipt = export_pages(pages, folder, interval=interval, exported_at=at, target=destination())
    return receipt


def duckdb_target(name: str, folder: Path, receipt: ExportReceipt) -> Target:
    """Return the DuckDB file of a folder as a target."""
    path = str(folder / "voiceos.duckdb")

    def query(sql: str) -> list[Row]:
        with duckdb.connect(path) as connection:
            rows: list[Row] = connection.execute(sql).to_arrow_table().to_pylist()
            return rows

    return Target(name, {"type": "duckdb", "path": path}, query, receipt)


@contextmanager
def exported(exports: list[Export], name: str, folder: Path) -> Iterator[Target]:
    """Yield a target with the exports; `files` has the views of the cookbook on Parquet files."""
    if name == "duckdb":
        yield duckdb_target(name, folder, export(exports, folder, duckdb_engine(folder).destination))
    elif name == "files":
        receipt = export(exports, folder / "voiceos", lambda: None)
        target = duckdb_target(name, folder, receipt)
        (views,) = re.findall(
            r"^```sql\n(.*?)^```$", COOKBOOK.partition("\n## ")[0], re.DOTALL | re.MULTILINE
        )
        with duckdb.connect(target.output["path"]) as connection:
            connection.execute(views.replace("'voiceos/", f"'{folder}/voiceos/"))
        yield target
    else:
        with (
            postgres_server() as uri,
            psycopg.connect(uri, row_factory=dict_row, autocommit=True) as connection,
        ):
            receipt = export(exports, folder, postgres_engine(uri).destination)
            info = connection.info
            output = {"type": "postgres", "host": info.host, "port": info.port, "user": info.user}
            output |= {"password": "", "dbname": info.dbname, "schema": "public"}
            yield Target(name, output, lambda sql: connection.execute(sql).fetchall(), receipt)


@pytest.fixture(scope="module")
def build(
    exports: list[Export], project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Target]]:
    """Return a function that exports to a target and builds the models there, once for each target."""
    with ExitStack() as stack:

        @cache
        def built(name: str) -> Target:
            target = stack.enter_context(exported(exports, name, tmp_path_factory.mktemp(name)))
            assert project.run("build", target=target, receipt=target.receipt.summary()), project.results()
            return target

        yield built


@pytest.fixture
def target(request: pytest.FixtureRequest, build: Callable[[str], Target]) -> Target:
    """Return a target with the exports and the models built from them."""
    return build(request.param)


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_build_passes_every_test_and_each_mart_is_correct(
    target: Target, project: Project, truth: list[Row]
) -> None:
    """Compare every mart with the conversations."""
    results = project.results()
    assert set(results) == {"success", "pass"}
    assert "receipt_totals" in results["pass"]
    assert len(MARTS) == len(CHECKS) == 10
    for number, check in CHECKS.items():
        check(target.mart(number), truth)


@pytest.mark.parametrize("target", DUCKDB, indirect=True)
def test_picture_shows_the_lineage_of_the_manifest(target: Target, project: Project) -> None:
    """Compare the input of the picture with dbt's manifest."""
    manifest = json.loads((project.folder / "target" / "manifest.json").read_text())
    parents = {
        name.split(".")[2]: {parent.split(".")[2] for parent in found if parent.startswith("model.")}
        for name, found in manifest["parent_map"].items()
        if name.startswith("model.voiceos.voiceos_")
    }
    assert parents == dbt_package.lineage()


@pytest.mark.parametrize("target", DATABASES, indirect=True)
def test_freshness_is_the_age_of_the_newest_export(target: Target, project: Project) -> None:
    """The check passes after an export, and fails once the age exceeds the limit."""
    assert project.run("source", "freshness", target=target)
    (source,) = json.loads((project.folder / "target" / "sources.json").read_text())["results"]
    assert datetime.fromisoformat(source["max_loaded_at"]) == datetime.fromisoformat(
        target.receipt.exported_at
    )
    if target.name == "duckdb":
        assert not project.run("source", "freshness", target=target, warn_after_hours=0, error_after_hours=0)


@pytest.mark.parametrize("target", DATABASES, indirect=True)
def test_export_fulfils_the_data_contract(target: Target, tmp_path: Path) -> None:
    """Check keys, types, references, values and freshness."""
    checks = contract_checks(target, tmp_path)
    assert len(checks) > 200
    assert {check["name"] for check in checks if check["result"] != "passed"} == set()


def contract_checks(target: Target, folder: Path) -> list[dict[str, Any]]:
    """Return the checks of the committed contract on a target."""
    contract = yaml.safe_load((ROOT / "docs" / "reference" / "voiceos.odcs.yaml").read_text())
    output = target.output
    server = {"server": "warehouse", "type": output["type"], "schema": output.get("schema", "main")}
    server["database"] = output.get("path") or output["dbname"]
    server |= {name: output[name] for name in ("host", "port") if name in output}
    (folder / "contract.yaml").write_text(yaml.safe_dump({**contract, "servers": [server]}))
    login = {
        "DATACONTRACT_POSTGRES_USERNAME": output.get("user", ""),
        "DATACONTRACT_POSTGRES_PASSWORD": "any",
    }
    for command in (["lint"], ["test", "--output", "checks.json", "--output-format", "json"]):
        done = subprocess.run(
            [TOOLS / "datacontract", *command[:1], "contract.yaml", *command[1:]],
            cwd=folder,
            env={**os.environ, **login},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or command[0] == "test", done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads((folder / "checks.json").read_text())["checks"]
    return found


@pytest.mark.parametrize("target", DUCKDB, indirect=True)
def test_wrong_rows_are_found(target: Target, project: Project, tmp_path: Path) -> None:
    """A lost message, repeated cost, lost configuration or wrong receipt fails; an unknown value warns."""
    for statement in (
        "DELETE FROM conversation_messages WHERE ordinal = 1",
        "INSERT INTO conversation_costs FROM conversation_costs LIMIT 1",
        "UPDATE conversation_costs SET cost = cost + 1 WHERE component = 'voice'",
        "DELETE FROM agent_configs WHERE prompt_hash = (SELECT min(prompt_hash) FROM agent_configs)",
        "UPDATE conversations SET ended_reason = 'voicemail' WHERE ended_reason = 'user_ended'",
        "UPDATE conversation_messages SET conversation_id = 'unknown' WHERE ordinal = 2",
    ):
        target.query(f"{statement} RETURNING *")
    receipt = target.receipt.summary() | {"exported": target.receipt.exported + 1}
    assert not project.run("test", "--select", "staging", target=target, receipt=receipt)
    results = project.results()
    assert {name.partition("_stg_voiceos__")[0] for name in results["fail"]} == {
        "component_costs",
        "message_counts",
        "receipt_totals",
        "relationships",
        "unique_together",
    }
    assert {name.partition("_stg_voiceos__")[0] for name in results["warn"]} == {"accepted_values"}
    failed = [check for check in contract_checks(target, tmp_path) if check["result"] == "failed"]
    assert {check["type"] for check in failed} == {"field_relationships", "primary_key_unique"}


@pytest.mark.xdist_group("files")
def test_example_dag_loads_and_builds(
    project: Project,
    examples: dict[str, Any],
    run_in_airflow: Callable[..., Any],
    api: Emulator,
    connect: Callable[..., str],
    tmp_path: Path,
) -> None:
    """The models are built and tested after the load, with its receipt."""
    database = str(tmp_path / "voiceos.duckdb")
    connect("warehouse", "duckdb", host=database)
    project.select({"type": "duckdb", "path": database})
    dag = examples["voiceos_nightly_dbt"]
    dag.get_task("load_conversations").visibility_delay = timedelta(0)
    conf = {"dbt": str(TOOLS / "dbt"), "dbt_project_dir": str(project.folder)}
    assert run_in_airflow(dag, run_conf=conf).state == "success"
    results = project.results()
    assert set(results) == {"success", "pass"}
    assert "receipt_totals" in results["pass"]
