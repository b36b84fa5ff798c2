"""The README: its length, and its DAG, commands and SQL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.pages import ROOT, blocks
from voiceos_provider.emulator import Emulator

PAGE = ROOT / "README.md"
README = PAGE.read_text()
LONGEST = 140


def test_readme_is_short() -> None:
    """Details belong in docs/."""
    assert len(README.splitlines()) <= LONGEST


def test_quickstart_is_one_short_dag() -> None:
    """Its other blocks run in `test_doc_blocks`."""
    languages = [block.language for block in blocks(PAGE)]
    assert languages == ["bash", "bash", "bash", "python", "sql", "bash"]
    assert len(re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)) == 1
    assert len([line for line in quickstart().splitlines() if line]) <= 12


def test_quickstart_dag_runs(
    api: Emulator,
    run_in_airflow: Callable[..., Any],
    dags_in: Callable[..., Any],
    s3_connection: str,
    tmp_path: Path,
) -> None:
    """The DAG loads from the DAGs folder, and its run succeeds."""
    (tmp_path / "readme_dag.py").write_text(quickstart())
    (dag,) = dags_in(tmp_path).values()
    dag.tasks[0].path += "/readme"  # the bucket holds other exports
    assert run_in_airflow(dag).state == "success"


def test_every_extra_is_named() -> None:
    """The section about the installation lists the optional dependencies."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    install = README.partition("## Install")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", install)) == project["optional-dependencies"].keys()


def test_connection_is_valid() -> None:
    """The environment variable holds JSON that Airflow reads."""
    (line,) = re.findall(r"AIRFLOW_CONN_VOICEOS_DEFAULT='(.*)'", README)
    assert json.loads(line)["conn_type"] == "voiceos"


def quickstart() -> str:
    """Return the DAG of the README."""
    (dag,) = (block.code for block in blocks(PAGE) if block.language == "python")
    return dag
