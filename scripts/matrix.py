"""Which Airflow does the built wheel work with? Run its tests on each, and show a table.

Each row is an Airflow with the dependencies of the day it was released: what its users have who install with its
constraints. Of what is newer, only what the provider itself demands is taken.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
"""The newest patch of each minor version that is supported, and the day it was uploaded."""

FLOOR_AND_NEWEST = ("2.11.2", "3.3.2")

DEMANDED = ("apache-airflow-providers-common-compat",)
"""What pyproject.toml demands in a version that is younger than some of these Airflows."""

YOUNG = date(2026, 11, 1)
"""The day of those, and of the tools of the tests."""

SUITES = {
    "unit": ("tests/unit",),
    "contract": ("tests/contract",),
    "example DAGs": ("tests/integration/test_airflow_runs.py", "tests/integration/test_readme.py"),
}

# What a test may read; above all not the package, so that only the wheel can be imported.
NEEDED = ("tests", "example_dags", "docs", "README.md", "pyproject.toml")


@dataclass
class Row:
    """One Airflow, and what came of it.

    :param passed: tests that passed, by the name of their suite
    :param failed: the names of those that did not
    """

    airflow: str
    passed: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    python: str = ""
    seconds: float = 0
    log: Path = HOME

    @property
    def is_well(self) -> bool:
        """Whether every suite has run, and nothing has failed."""
        return not self.failed and all(self.passed[suite] for suite in SUITES)


def main() -> int:
    """Run the rows that were asked for; 0 if all are well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "airflows", nargs="*", metavar="VERSION", help=f"of {', '.join(RELEASED)}; all by default"
    )
    parser.add_argument("--ends", action="store_true", help="only the oldest and the newest")
    parser.add_argument(
        "--at-once", type=int, default=2, metavar="N", help="rows at a time (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    airflows = FLOOR_AND_NEWEST if options.ends else options.airflows or tuple(RELEASED)
    if unknown := [airflow for airflow in airflows if airflow not in RELEASED]:
        parser.error(f"no row {unknown[0]}; there are {', '.join(RELEASED)}")
    HOME.mkdir(exist_ok=True)
    wheel = build()
    for airflow in airflows:  # all of them now, so that they hold the same tests, and those of the wheel
        shutil.rmtree(HOME / airflow / "checkout", ignore_errors=True)
        for name in NEEDED:
            copy(ROOT / name, HOME / airflow / "checkout" / name)
    with ThreadPoolExecutor(options.at_once) as pool:
        rows = list(pool.map(lambda airflow: run(airflow, wheel), airflows))
    for row in rows:
        for name in row.failed:
            print(f"{row.airflow}: {name} failed; see {row.log.relative_to(ROOT)}")
    print(f"\n{wheel.name}\n\n{table(rows)}")
    if options.write:
        PAGE.write_text(page(wheel, rows))
    return 0 if all(row.is_well for row in rows) else 1


def build() -> Path:
    """The wheel that a release would upload."""
    shutil.rmtree(HOME / "dist", ignore_errors=True)
    hatch = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(HOME / "dist"),
    ]
    subprocess.run(hatch, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = (HOME / "dist").iterdir()
    return wheel


def run(airflow: str, wheel: Path) -> Row:
    """Install a row, and run its tests where nothing but the wheel can be imported."""
    began = time.monotonic()
    home = HOME / airflow
    row = Row(airflow, log=home / "log.txt")
    with row.log.open("w") as log:
        try:
            install(airflow, wheel, home / "venv", log)
            test(home, log)
        except subprocess.CalledProcessError as error:
            row.failed.append(f"`{' '.join(map(str, error.cmd[:4]))} ...`")
    if (home / "report.xml").exists():
        read(home / "report.xml", row)
    if (home / "venv/bin/python").exists():
        version = [home / "venv/bin/python", "-c", "import platform; print(platform.python_version())"]
        row.python = subprocess.check_output(version, text=True).strip()
    row.seconds = time.monotonic() - began
    print(f"Airflow {airflow}: {sum(row.passed.values()):,} passed, {len(row.failed)} failed", flush=True)
    return row


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def install(airflow: str, wheel: Path, venv: Path, log: IO[str]) -> None:
    """Install Airflow of its day with the wheel, then the tools of the tests beside it."""
    uv = [sys.executable, "-m", "uv"]
    python = ["--python", str(venv / "bin/python")]
    pip = [*uv, "pip", "install", "--quiet", "--compile-bytecode", *python]
    pins = venv / "pins.txt"
    day = RELEASED[airflow]
    newer = [f"--exclude-newer-package={package}={_after(max(day, YOUNG))}" for package in DEMANDED]

    def call(*words: str) -> None:
        subprocess.run(words, cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)

    call(*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
    provider = f"airflow-provider-voiceos[s3,openlineage] @ {wheel.as_uri()}"
    call(*pip, f"--exclude-newer={_after(day)}", *newer, f"apache-airflow=={airflow}", provider)
    frozen = subprocess.check_output([*uv, "pip", "freeze", *python], text=True, stderr=log).splitlines()
    pins.write_text("\n".join(line for line in frozen if "@" not in line))
    # The tools may be younger, for nobody runs them with her Airflow.
    call(*pip, f"--exclude-newer={_after(YOUNG)}", "--constraints", str(pins), "--group", "test")


def _after(day: date) -> date:
    """The bound that lets a day's uploads in."""
    return day + timedelta(days=1)


def test(home: Path, log: IO[str]) -> None:
    """Run the suites; the outcome is in the report."""
    report = home / "report.xml"
    report.unlink(missing_ok=True)
    paths = [path for suite in SUITES.values() for path in suite]
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CI")}
    # A database does not care for the version of Airflow; `make test` and `make warehouses` have the others.
    environ["ENGINES"] = "sqlite"
    # The program, not `python -m pytest`, which would put the checkout on the path.
    command = [home / "venv/bin/pytest", *paths, "-q", f"--junitxml={report}", "-p", "no:cacheprovider"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=home / "checkout",
        env=environ,
        stdout=log,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if not report.exists():
        raise subprocess.CalledProcessError(done.returncode, command)


def read(report: Path, row: Row) -> None:
    """Count what pytest reports; a test that was skipped has not passed."""
    modules = {
        suite: tuple(path.removesuffix(".py").replace("/", ".") for path in paths)
        for suite, paths in SUITES.items()
    }
    for case in ET.parse(report).iter("testcase"):
        where = case.get("classname", "")
        name = f"{where}.{case.get('name')}"
        if any(case.find(end) is not None for end in ("failure", "error", "skipped")):
            row.failed.append(name)
            continue
        (suite,) = (suite for suite, starts in modules.items() if where.startswith(starts))
        row.passed[suite] += 1


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        f"| Airflow | dependencies as of | Python | {' | '.join(SUITES)} | failed | seconds |",
        f"|---|---|---|{'---:|' * (len(SUITES) + 2)}",
    ]
    for row in rows:
        passed = " | ".join(f"{row.passed[suite]:,}" for suite in SUITES)
        where = f"{row.airflow} | {RELEASED[row.airflow]} | {row.python}"
        lines.append(f"| {where} | {passed} | {len(row.failed)} | {row.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def page(wheel: Path, rows: Sequence[Row]) -> str:
    """The table, and what it means."""
    demanded = ", ".join(f"`{package}`" for package in DEMANDED)
    return f"""\
# Airflow versions
<!-- written by `make matrix ARGS=--write` -->

The tests of the built wheel (`{wheel.name}`), run on the newest patch of each minor version of
Airflow that is supported, with the dependencies of the day on which it was released; only {demanded}
is newer, for the provider demands that.
The numbers are tests that passed; seconds include the installation, two rows at a time on two cores.

{table(rows)}
Each change is tested on the first and the last row. `make matrix` runs them all.
"""


if __name__ == "__main__":
    sys.exit(main())
