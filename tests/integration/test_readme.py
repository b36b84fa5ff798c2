"""The README runs: its DAGs, its Python, its SQL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.emulator import Emulator, World

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
Day = tuple[datetime, datetime]


def blocks(language: str) -> list[str]:
    """The README's code blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


DAGS = [block for block in blocks("python") if "DAG(" in block]
SCRIPTS = [block for block in blocks("python") if "DAG(" not in block]


def test_there_are_four_dags_and_a_script() -> None:
    """What the tests below would silently not see if the README were written differently."""
    assert (len(DAGS), len(SCRIPTS), len(blocks("sql"))) == (4, 1, 1)


@pytest.mark.parametrize("block", DAGS, ids=lambda block: re.search(r'dag_id="(\w+)"', block)[1])
def test_each_dag_of_the_readme_runs(
    block: str,
    api: Emulator,
    run_in_airflow: Callable[..., Any],
    dags_in: Callable[..., Any],
    s3_connection: str,
    connect: Callable[..., str],
    tmp_path: Path,
) -> None:
    """Copied into the DAGs folder as it stands, it loads and its run succeeds."""
    connect("warehouse", "duckdb", host=str(tmp_path / "warehouse.duckdb"))
    file = tmp_path / "readme_dag.py"
    file.write_text(block.replace("file:///data", f"file://{tmp_path}"))
    (dag,) = dags_in(tmp_path).values()
    assert run_in_airflow(dag).state == "success"


def test_the_readmes_python_runs(
    api: Emulator, yesterday: Day, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hook example prints what has started and not ended."""
    script = re.sub(r'interval_start="[^"]*"', f'interval_start="{yesterday[0].isoformat()}"', SCRIPTS[0])
    script = re.sub(r'interval_end="[^"]*"', f'interval_end="{yesterday[1].isoformat()}"', script)
    names: dict[str, Any] = {}
    exec(script, names)
    assert len(names["frame"]) == len(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    started = world.ids(
        created_after=datetime(2000, 1, 1, tzinfo=UTC),
        created_before=datetime.now(UTC),
        status="started",
        now=datetime.now(UTC),
    )
    ids = set(world.ids())
    # Some versions of Airflow log to where the example prints.
    printed = [line for line in capsys.readouterr().out.splitlines() if line.split(" ")[0] in ids]
    assert len(printed) == pytest.approx(len(started), abs=2)


def test_the_tables_in_the_readme_are_those_of_the_code() -> None:
    """The table of tables is the declaration's."""
    result = subprocess.run(
        [sys.executable, "-m", "docs.tools.tables"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stderr == ""


def test_the_connection_in_the_readme_is_one() -> None:
    """The line to export is JSON that Airflow reads."""
    (line,) = re.findall(r"AIRFLOW_CONN_VOICEOS_DEFAULT='(.*)'", README)
    assert json.loads(line)["conn_type"] == "voiceos"
