"""Test matrix: run the built wheel's tests on each supported Airflow and Python, and write docs/matrix.md.

Each Airflow is installed with the dependencies of the day it was released, as its own constraints files would. Only
what the provider requires in a newer version is newer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".matrix"
PAGE = ROOT / "docs" / "matrix.md"

RELEASED = {
    "2.11.2": date(2026, 3, 14),
    "3.0.6": date(2025, 8, 29),
    "3.1.8": date(2026, 3, 11),
    "3.2.2": date(2026, 5, 29),
    "3.3.2": date(2026, 9, 17),
}
"""The newest patch release of each supported minor version of Airflow, with its release date."""

FLOOR_AND_NEWEST = ("2.11.2", "3.3.2")

PYTHONS = ("3.11", "3.12", "3.13")
"""The supported versions of Python, as in pyproject.toml's classifiers."""

WITHOUT_PYTHON_3_13 = ("2.11.2", "3.0.6")
"""The versions of Airflow that do not install on Python 3.13."""

REQUIRED_NEWER = ("apache-airflow-providers-common-compat",)
"""Packages that pyproject.toml requires in a version newer than some of these Airflow releases."""

TOOLS_DATE = date(2026, 11, 1)
"""The date of those packages and of the test tools."""

SUITES = {
    "unit": ("tests/unit",),
    "contract": ("tests/contract",),
    "example DAGs": ("tests/integration/test_airflow_runs.py", "tests/integration/test_readme.py"),
}

# Files that tests may read. The package is not among them, so only the wheel can be imported.
CHECKOUT = ("tests", "example_dags", "docs", "README.md", "pyproject.toml")


@dataclass
class Cell:
    """Result of the tests on one Airflow and one Python.

    :param python: minor version, such as `3.12`
    :param full_python: version of the interpreter that ran the tests
    :param passed: number of passed tests by suite
    :param failed: names of the tests that failed or were skipped
    """

    airflow: str
    python: str
    full_python: str = ""
    passed: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def home(self) -> Path:
        """The directory of this cell's environment, checkout and log."""
        return HOME / f"{self.airflow}-py{self.python}"

    @property
    def succeeded(self) -> bool:
        """Whether each suite ran and no test failed."""
        return not self.failed and all(self.passed.get(suite) for suite in SUITES)


def main() -> int:
    """Run the selected cells; return 0 if all of them succeeded."""
    parser = argparse.ArgumentParser(prog="make matrix", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "airflows", nargs="*", metavar="VERSION", help=f"of Airflow: {', '.join(RELEASED)} (default: all)"
    )
    parser.add_argument(
        "--python",
        dest="pythons",
        action="append",
        metavar="VERSION",
        help=f"of Python: {', '.join(PYTHONS)}; repeatable (default: those installed on this machine)",
    )
    parser.add_argument(
        "--ends", action="store_true", help="only the oldest Airflow and Python, and the newest of both"
    )
    parser.add_argument(
        "--at-once", type=int, default=2, metavar="N", help="cells to run in parallel (default: %(default)s)"
    )
    parser.add_argument(
        "--write", action="store_true", help=f"write the results into {PAGE.relative_to(ROOT)}"
    )
    options = parser.parse_args()
    for version, known in [(v, RELEASED) for v in options.airflows] + [
        (v, PYTHONS) for v in options.pythons or ()
    ]:
        if version not in known:
            parser.error(f"unknown version {version}; choose from {', '.join(known)}")
    interpreters = {python: path for python in options.pythons or PYTHONS if (path := find_python(python))}
    if missing := [python for python in options.pythons or () if python not in interpreters]:
        parser.error(f"no Python {missing[0]} found; install it, or put it on the PATH")
    cells = select(options.airflows or list(RELEASED), list(interpreters), ends=options.ends)
    if not cells:
        parser.error("none of these versions of Airflow installs on that Python")
    HOME.mkdir(exist_ok=True)
    wheel = build()
    for cell in cells:  # copied before the first test starts, so that every cell tests the same state
        shutil.rmtree(cell.home / "checkout", ignore_errors=True)
        for name in CHECKOUT:
            copy(ROOT / name, cell.home / "checkout" / name)
    with ThreadPoolExecutor(options.at_once) as pool:
        list(pool.map(lambda cell: run(cell, interpreters[cell.python], wheel), cells))
    for cell in cells:
        for name in cell.failed:
            print(f"Airflow {cell.airflow}, Python {cell.python}: {name} failed; see {cell.home}/log.txt")
    print(f"\n{wheel.name}\n\n{details(cells)}")
    if options.write:
        PAGE.write_text(page(wheel, merge(cells)))
    return 0 if all(cell.succeeded for cell in cells) else 1


def select(airflows: Sequence[str], pythons: Sequence[str], *, ends: bool = False) -> list[Cell]:
    """Return the cells to run: with `ends`, only the oldest and the newest combination."""
    cells = [
        Cell(airflow, python)
        for airflow in airflows
        for python in pythons
        if not (python == "3.13" and airflow in WITHOUT_PYTHON_3_13)
    ]
    return [cells[0], cells[-1]] if ends and len(cells) > 1 else cells


def find_python(version: str) -> str | None:
    """Return the path of an installed Python of this minor version, or None."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = subprocess.run(
        [sys.executable, "-m", "uv", "python", "find", "--no-project", "--no-python-downloads", version],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0:
        return found.stdout.strip()
    # Interpreters that pyenv has installed and not activated.
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(installed[-1]) if installed else None


def build() -> Path:
    """Build the wheel as a release would, and return its path."""
    dist = HOME / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    hatch = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(dist)]
    subprocess.run(hatch, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = dist.iterdir()
    return wheel


def run(cell: Cell, interpreter: str, wheel: Path) -> None:
    """Install a cell's environment, run the tests where only the wheel can be imported, and fill in the result."""
    began = time.monotonic()
    report = cell.home / "report.xml"
    report.unlink(missing_ok=True)
    print(f"Airflow {cell.airflow}, Python {cell.python}: installing and testing ...", flush=True)
    with (cell.home / "log.txt").open("w") as log:
        try:
            install(cell, interpreter, wheel, log)
            test(cell.home, report, log)
        except subprocess.CalledProcessError as error:
            cell.failed.append(f"`{' '.join(map(str, error.cmd[:4]))} ...`")
    if report.exists():
        read(report, cell)
    python = cell.home / "venv/bin/python"
    if python.exists():
        version = [str(python), "-c", "import platform; print(platform.python_version())"]
        cell.full_python = subprocess.check_output(version, text=True).strip()
    cell.seconds = round(time.monotonic() - began)
    print(
        f"Airflow {cell.airflow}, Python {cell.python}: {sum(cell.passed.values()):,} passed, "
        f"{len(cell.failed)} failed, {cell.seconds:.0f} s",
        flush=True,
    )


def copy(source: Path, target: Path) -> None:
    """Copy a file or a directory."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    else:
        shutil.copy(source, target)


def install(cell: Cell, interpreter: str, wheel: Path, log: IO[str]) -> None:
    """Install Airflow as of its release date with the wheel, then the test tools without changing either."""
    venv = cell.home / "venv"
    uv = [sys.executable, "-m", "uv"]
    python = ["--python", str(venv / "bin/python")]
    pip = [*uv, "pip", "install", "--quiet", "--compile-bytecode", *python]
    pins = venv / "pins.txt"
    released = RELEASED[cell.airflow]
    newer = [
        f"--exclude-newer-package={package}={_day_after(max(released, TOOLS_DATE))}"
        for package in REQUIRED_NEWER
    ]

    def call(*words: str) -> None:
        subprocess.run(words, cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)

    call(*uv, "venv", "--quiet", "--clear", "--python", interpreter, str(venv))
    provider = f"airflow-provider-voiceos[s3,openlineage] @ {wheel.as_uri()}"
    call(*pip, f"--exclude-newer={_day_after(released)}", *newer, f"apache-airflow=={cell.airflow}", provider)
    frozen = subprocess.check_output([*uv, "pip", "freeze", *python], text=True, stderr=log).splitlines()
    pins.write_text("\n".join(line for line in frozen if "@" not in line))
    call(*pip, f"--exclude-newer={_day_after(TOOLS_DATE)}", "--constraints", str(pins), "--group", "test")


def _day_after(day: date) -> date:
    return day + timedelta(days=1)


def test(home: Path, report: Path, log: IO[str]) -> None:
    """Run the suites; pytest writes the report."""
    paths = [path for suite in SUITES.values() for path in suite]
    environ = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "REQUIRED_ENGINES")
    }
    # Databases do not depend on the version of Airflow; `make test` and `make warehouses` run the other engines.
    environ["ENGINES"] = "sqlite"
    # The program instead of `python -m pytest`, which would put the checkout on the path.
    command = [str(home / "venv/bin/pytest"), *paths, "-q", f"--junitxml={report}", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=home / "checkout", env=environ, stdout=log, stderr=subprocess.STDOUT, check=False
    )
    if not report.exists():
        raise subprocess.CalledProcessError(done.returncode, command)


def read(report: Path, cell: Cell) -> None:
    """Count the results in pytest's report; a skipped test counts as failed."""
    modules = {
        suite: tuple(path.removesuffix(".py").replace("/", ".") for path in paths)
        for suite, paths in SUITES.items()
    }
    passed: Counter[str] = Counter()
    for case in ET.parse(report).iter("testcase"):
        where = case.get("classname", "")
        if any(case.find(end) is not None for end in ("failure", "error", "skipped")):
            cell.failed.append(f"{where}.{case.get('name')}")
            continue
        (suite,) = (suite for suite, starts in modules.items() if where.startswith(starts))
        passed[suite] += 1
    cell.passed = dict(passed)


def merge(cells: Sequence[Cell]) -> list[Cell]:
    """Return these results together with those that the page shows for other versions."""
    results = {(cell.airflow, cell.python): cell for cell in cells}
    earlier = re.search(r"^<!-- results: (.*) -->$", PAGE.read_text() if PAGE.exists() else "", re.MULTILINE)
    for fields in json.loads(earlier[1]) if earlier else []:
        results.setdefault((fields["airflow"], fields["python"]), Cell(**fields))
    return [
        results[airflow, python] for airflow in RELEASED for python in PYTHONS if (airflow, python) in results
    ]


def overview(cells: Sequence[Cell]) -> str:
    """Return the Python x Airflow table in Markdown."""
    results = {(cell.airflow, cell.python): cell for cell in cells}
    lines = [f"| Airflow | {' | '.join(f'Python {p}' for p in PYTHONS)} |", f"|---|{'---|' * len(PYTHONS)}"]
    for airflow in RELEASED:
        row = []
        for python in PYTHONS:
            cell = results.get((airflow, python))
            if python == "3.13" and airflow in WITHOUT_PYTHON_3_13:
                row.append("not supported by Airflow")
            elif cell is None:
                row.append("not run")
            else:
                row.append("passed" if cell.succeeded else f"{len(cell.failed)} failed")
        lines.append(f"| {airflow} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def details(cells: Sequence[Cell]) -> str:
    """Return the numbers of each cell in Markdown."""
    lines = [
        f"| Airflow | dependencies as of | Python | {' | '.join(SUITES)} | failed | seconds |",
        f"|---|---|---|{'---:|' * (len(SUITES) + 2)}",
    ]
    for cell in cells:
        passed = " | ".join(f"{cell.passed.get(suite, 0):,}" for suite in SUITES)
        versions = f"{cell.airflow} | {RELEASED[cell.airflow]} | {cell.full_python or cell.python}"
        lines.append(f"| {versions} | {passed} | {len(cell.failed)} | {cell.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def page(wheel: Path, cells: Sequence[Cell]) -> str:
    """Return docs/matrix.md."""
    newer = ", ".join(f"`{package}`" for package in REQUIRED_NEWER)
    results = json.dumps([asdict(cell) for cell in cells])
    return f"""\
# Airflow and Python versions
<!-- written by `make matrix ARGS=--write` -->

The tests of the built wheel (`{wheel.name}`) on the newest patch release of each supported minor version of Airflow.

{overview(cells)}
Each environment has the dependencies of the day on which that Airflow was released. Only {newer}
is newer, because the provider requires it. The numbers are passed tests; the seconds include the installation.

{details(cells)}
Every change is tested on the oldest and the newest combination. `make matrix` runs all combinations for which this
machine has a Python; `make matrix ARGS="3.3.2 --python 3.13 --write"` runs one and keeps the other results.

<!-- results: {results} -->
"""


if __name__ == "__main__":
    sys.exit(main())
