"""The test matrix of Airflow and Python versions: which combinations exist, and what its page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import matrix
from scripts.matrix import PYTHONS, RELEASED, SUITES, Cell


def test_every_python_that_is_claimed_has_a_column(checkout: Path) -> None:
    """The classifiers of pyproject.toml and the CI workflow name the same versions."""
    claimed = re.findall(r"Python :: (3\.\d+)", (checkout / "pyproject.toml").read_text())
    workflow = (checkout / ".github/workflows/ci.yml").read_text()
    assert tuple(claimed) == PYTHONS
    lists = re.findall(r"python: \[(.*)\]", workflow)
    assert len(lists) == 2
    assert all(tuple(re.findall(r"[\d.]+", each)) == PYTHONS for each in lists)


def test_the_ends_are_the_oldest_and_the_newest_combination() -> None:
    """Airflow releases that do not install on a Python have no cell for it."""
    ends = matrix.select(list(RELEASED), PYTHONS, ends=True)
    assert [(cell.airflow, cell.python) for cell in ends] == [("2.11.2", "3.11"), ("3.3.2", "3.13")]
    assert ("3.0.6", "3.13") not in {
        (cell.airflow, cell.python) for cell in matrix.select([*RELEASED], PYTHONS)
    }


def test_page_says_what_was_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps earlier results of other combinations."""
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "matrix.md")
    passed = dict.fromkeys(SUITES, 5)
    earlier = Cell("3.3.2", "3.11", "3.11.7", passed, seconds=60)
    matrix.PAGE.write_text(matrix.page(Path("x.whl"), [earlier]))
    failed = Cell("3.3.2", "3.13", "3.13.0", passed, ["tests.unit.a"], seconds=70)
    page = matrix.page(Path("x.whl"), matrix.merge([failed]))
    assert "| 3.3.2 | passed | not run | 1 failed |" in page
    assert "| 2.11.2 | not run | not run | not supported by Airflow |" in page
