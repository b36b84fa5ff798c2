"""Measure whole exports, their stages, and dlt for comparison; write docs/bench.md and docs/bench.png."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.export import report

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".bench"
DOCS = ROOT / "docs"
SMALLEST = 1_000
ONCE_ABOVE = 200_000  # such runs take minutes and vary little

Run = dict[str, Any]
_FIGURES = ("seconds", "cpu", "peak_bytes", "imported_bytes")


def main() -> int:
    """Measure exports and write the report."""
    options = _options()
    load = os.getloadavg()[0]  # of other processes, before the benchmark starts
    shutil.rmtree(WORK / "home", ignore_errors=True)
    WORK.mkdir(exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    exports = {size: exported(size, options.runs if size <= ONCE_ABOVE else 1) for size in options.sizes}
    stages = cpu_by_stage("stages", min(options.sizes))
    floors = cpu_by_stage("floors", min(options.sizes))
    loads: Run | str = "Not measured this time; `--with-dlt` does."
    if options.with_dlt:
        loads = loaded_by_dlt(min(options.sizes), options.runs)
    DOCS.mkdir(exist_ok=True)
    (DOCS / "bench.md").write_text(report.markdown(exports, stages, floors, loads, report.machine(), load))
    report.chart(DOCS / "bench.png", exports, stages, loads)
    say("Written: docs/bench.md, docs/bench.png")
    return 0


def exported(size: int, runs: int) -> Run:
    """Return the median figures of several exports of this size."""
    with served(size) as api, tempfile.TemporaryDirectory(dir=WORK) as folder:
        connection = {"conn_type": "voiceos", "host": api["url"], "password": api["token"]}
        environment = {
            **_plain_environment(),
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_HOME": str(WORK / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_VOICEOS_DEFAULT": json.dumps(connection),
        }

        def export(how: str) -> Any:
            return result(module("single_export", f"{folder}/{how}", how), environment)

        return {
            **median(partial(export, "windows"), size, runs),
            "bytes_each": api["bytes_each"],
            "by_pages": median(partial(export, "pages"), size, runs, name="by page numbers, "),
            "alone": median(partial(export, "without-airflow"), size, runs, name="without Airflow, "),
        }


def cpu_by_stage(script: str, size: int) -> dict[str, float]:
    """Return CPU microseconds per conversation by stage."""
    with served(size) as api:
        command = module(script, api["url"], api["token"], size)
        pieces: dict[str, float] = result(command, {**_plain_environment(), "PYTHONPATH": str(ROOT)})
    for name, spent in pieces.items():
        say(f"  {name:50} {spent:6.1f} µs")
    return pieces


def loaded_by_dlt(size: int, runs: int) -> Run | str:
    """Return the median figures of several dlt loads, or the reason why there are none."""
    python = WORK / "dlt" / "bin" / "python"
    try:
        if not python.exists():
            say("Installing dlt ...")
            subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", WORK / "dlt"], check=True)
            install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
            subprocess.run([*install, "dlt[filesystem,parquet]"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(WORK / "dlt", ignore_errors=True)
        say(f"dlt cannot be installed: {error}")
        return "dlt could not be installed on this machine."
    command = [str(python), "-c", "import dlt; print(dlt.__version__)"]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    with served(size) as api:

        def load() -> Any:
            with tempfile.TemporaryDirectory(dir=WORK) as folder:
                environment = {
                    **_plain_environment(),
                    "PYTHONPATH": str(ROOT),
                    "BENCH_TOKEN": api["token"],
                    "RUNTIME__DLTHUB_TELEMETRY": "false",
                    "RUNTIME__LOG_LEVEL": "CRITICAL",
                }
                return result(module("dlt_load", api["url"], folder, python=python), environment)

        return {**median(load, size, runs, name="dlt, "), "version": version}


def median(once: Callable[[], Run], size: int, runs: int, *, name: str = "") -> Run:
    """Repeat a run, and return the median of each figure."""
    results = []
    for _ in range(runs):
        run = once()
        if run["conversations"] != size:
            raise SystemExit(f"{run['conversations']:,} conversations arrived instead of {size:,}.")
        say(
            f"{name}{size:,}: {run['seconds']:.2f} s, {size / run['seconds']:,.0f}/s, "
            f"{run['cpu'] / size * 1e6:.0f} µs CPU each, {run['peak_bytes'] / 1e6:,.0f} MB"
        )
        results.append(run)
    middle = {key: statistics.median(run[key] for run in results) for key in _FIGURES}
    return {**results[0], **middle, "times": runs}


@contextmanager
def served(size: int) -> Iterator[dict[str, Any]]:
    """Serve conversations from a separate process."""
    say(f"Writing pages for {size:,} conversations ...")
    server = subprocess.Popen(
        module("server", size),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**_plain_environment(), "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert server.stdout is not None
    try:
        yield json.loads(server.stdout.readline())
    finally:
        server.communicate()


def module(name: str, *arguments: object, python: object = sys.executable) -> list[str]:
    """Return the command that runs a module of this benchmark in its own process."""
    return [str(python), "-m", f"benchmarks.export.{name}", *map(str, arguments)]


def result(command: Sequence[Any], environment: dict[str, str]) -> Any:
    """Run a process and return the last line it prints, parsed as JSON."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4_000:])
    return json.loads(done.stdout.splitlines()[-1])


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure exports; see docs/bench.md.")
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default=[20_000, 100_000],
        metavar="N,N",
        help="how many conversations, multiples of 1000 (default: 20000,100000)",
    )
    parser.add_argument("--runs", type=int, default=3, help="of each size (default: %(default)s)")
    parser.add_argument("--with-dlt", action="store_true", help="also install and measure dlt")
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    sizes = [int(size) for size in text.split(",")]
    if any(size < SMALLEST or size % SMALLEST for size in sizes):
        raise argparse.ArgumentTypeError(f"sizes are multiples of {SMALLEST:,}")
    return sizes


def say(*words: str) -> None:
    """Print and flush, so that a pipe shows each line immediately."""
    print(*words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
