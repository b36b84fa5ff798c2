"""Measure whole exports, their stages, and dlt for comparison; write docs/bench.md and its figures."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.export import report

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".bench"
DOCS = ROOT / "docs"
SMALLEST = 1_000
ONCE_ABOVE = 200_000  # such runs take minutes and vary little
SMALL = (1_000, 10_000)  # measured besides, to show how costs grow
KINDS: dict[str, dict[str, Any]] = {
    "windows": {},
    "pages": {"read_strategy": "pages"},
    "without Airflow": {"airflow": False},
}
MAPPED = (1, 2, 4)
WORKERS = (1, 4, 16)
LATENCY = 0.1

Run = dict[str, Any]
_FIGURES = ("seconds", "cpu", "peak_bytes", "imported_bytes")


def main() -> int:
    """Measure exports and write the report."""
    options = _options()
    load = os.getloadavg()[0]  # of other processes, before the benchmark starts
    shutil.rmtree(WORK / "home", ignore_errors=True)
    WORK.mkdir(exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    dlt = None if options.without_dlt else installed_dlt()
    exports = {}
    for size in sorted({*SMALL, *options.sizes}):
        with_dlt = dlt if min(options.sizes) <= size <= options.dlt_up_to else None
        exports[size] = exported(size, options.runs, dlt=with_dlt)
    measured = report.Measured(
        exports={size: exports[size] for size in options.sizes},
        growth=exports,
        stages=cpu_by_stage("stages", min(options.sizes)),
        floors=cpu_by_stage("floors", min(options.sizes)),
        mapped=mapped_tasks(min(100_000, max(options.sizes)), MAPPED),
        slow=slow_server(min(options.sizes), WORKERS, dlt=dlt),
    )
    DOCS.mkdir(exist_ok=True)
    (DOCS / "bench.md").write_text(report.markdown(measured, report.machine(), load))
    report.chart(DOCS / "bench.png", measured)
    report.growth_chart(DOCS / "bench-growth.png", measured)
    say("Written: docs/bench.md, docs/bench.png, docs/bench-growth.png")
    return 0


def exported(size: int, runs: int, *, dlt: Path | None) -> dict[str, Run]:
    """Return the median figures of exports of this size by kind, measured in turns."""
    runs = runs if size <= ONCE_ABOVE else 1
    results: dict[str, list[Run]] = {}
    with served(size) as api:
        for _ in range(runs):
            for name, options in KINDS.items():
                results.setdefault(name, []).append(export(api, size, options, name))
            if dlt:
                results.setdefault("dlt", []).append(loaded_by_dlt(dlt, api, size))
    return {name: median(found) | {"bytes_each": api["bytes_each"]} for name, found in results.items()}


def mapped_tasks(size: int, numbers: Sequence[int]) -> dict[int, Run]:
    """Return the figures of several exports at once, each of an equal part of the interval, by their number."""
    found = {}
    with served(size) as api:
        for tasks in numbers:
            parts = [{"part": part, "parts": tasks} for part in range(tasks)]
            with ThreadPoolExecutor(tasks) as pool:
                began = time.perf_counter()
                runs = list(pool.map(lambda options: export(api, None, options, "mapped task"), parts))
                seconds = time.perf_counter() - began
            total = {
                name: sum(run[name] for run in runs)
                for name in ("conversations", "cpu", "requests", "peak_bytes", "imported_bytes")
            }
            if total["conversations"] != size:
                raise SystemExit(f"{total['conversations']:,} conversations arrived instead of {size:,}.")
            found[tasks] = total | {"seconds": seconds}
    return found


def slow_server(size: int, numbers: Sequence[int], *, dlt: Path | None) -> dict[str, Run]:
    """Return the figures of exports from a server with latency, by the number of workers."""
    found = {}
    with served(size, latency=LATENCY) as api:
        for workers in numbers:
            name = "1 worker" if workers == 1 else f"{workers} workers"
            found[name] = export(api, size, {"max_concurrency": workers}, name)
        if dlt:
            for parts in (1, max(numbers)):
                name = "dlt" if parts == 1 else f"dlt, {parts} parallel resources"
                found[name] = loaded_by_dlt(dlt, api, size, parts=parts)
    return found


def export(api: Mapping[str, Any], size: int | None, options: Mapping[str, Any], name: str) -> Run:
    """Return the figures of one export."""
    connection = {"conn_type": "voiceos", "host": api["url"], "password": api["token"]}
    environment = {
        **_plain_environment(),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(WORK / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_VOICEOS_DEFAULT": json.dumps(connection),
    }
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        return checked(result(module("single_export", folder, json.dumps(options)), environment), size, name)


def cpu_by_stage(script: str, size: int) -> dict[str, float]:
    """Return CPU microseconds per conversation by stage."""
    with served(size) as api:
        command = module(script, api["url"], api["token"], size)
        pieces: dict[str, float] = result(command, {**_plain_environment(), "PYTHONPATH": str(ROOT)})
    for name, spent in pieces.items():
        say(f"  {name:50} {spent:6.1f} µs")
    return pieces


def installed_dlt() -> Path | None:
    """Return the Python that has dlt, or None if it cannot be installed."""
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
        return None
    return python


def loaded_by_dlt(python: Path, api: Mapping[str, Any], size: int, *, parts: int = 1) -> Run:
    """Return the figures of one dlt load.

    :param parts: parallel resources, each of an equal part of the interval
    """
    environment = {
        **_plain_environment(),
        "PYTHONPATH": str(ROOT),
        "BENCH_TOKEN": api["token"],
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "CRITICAL",
        "EXTRACT__WORKERS": str(parts),
    }
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        run = result(module("dlt_load", api["url"], folder, parts, python=python), environment)
    return checked(run, size, "dlt" if parts == 1 else f"dlt, {parts} parallel resources")


def checked(run: Run, size: int | None, name: str) -> Run:
    """Print the figures of a run and return them, if all conversations have arrived."""
    count = run["conversations"]
    if size is not None and count != size:
        raise SystemExit(f"{count:,} conversations arrived instead of {size:,}.")
    say(
        f"{name}, {count:,}: {run['seconds']:.2f} s, {count / run['seconds']:,.0f}/s, "
        f"{run['cpu'] / count * 1e6:.0f} µs CPU each, {run['peak_bytes'] / 1e6:,.0f} MB"
    )
    return run


def median(results: Sequence[Run]) -> Run:
    """Return the median of each figure of some runs."""
    middle = {key: statistics.median(run[key] for run in results) for key in _FIGURES}
    return {**results[0], **middle, "times": len(results)}


@contextmanager
def served(size: int, *, latency: float = 0.0) -> Iterator[dict[str, Any]]:
    """Serve conversations from a separate process."""
    say(f"Writing pages for {size:,} conversations ...")
    server = subprocess.Popen(
        module("server", size, latency),
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
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr[-4_000:]}")
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
    parser.add_argument("--without-dlt", action="store_true", help="do not install and measure dlt")
    parser.add_argument(
        "--dlt-up-to",
        type=int,
        default=100_000,
        metavar="N",
        help="largest size measured with dlt, which takes 12 minutes for a million (default: %(default)s)",
    )
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
