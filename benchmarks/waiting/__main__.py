"""A thousand deferred sensors on one connection, under a real triggerer: requests, memory, CPU and event loop lag.

    make waiting                    three workloads, each with shared polls and with one poll per task
    make waiting ARGS='--sensors 200 --seconds 30'

Uses a new Airflow home with SQLite, the emulator in this process, and `airflow triggerer` in another one. Requires
Airflow 3.3 or later. Everything runs on one machine, so the network is not measured.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

KINDS = {
    "one": "all wait for the same hour, with one open call",
    "hourly": "100 DAGs wait for each of the last 10 hours; the last 2 hours have open calls",
    "all": "each waits for a different second, each with an open call",
}


def main() -> int:
    """Measure the selected workloads, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sensors", type=int, default=1000)
    parser.add_argument("--poke-interval", type=float, default=60.0, help="seconds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="to measure (default: %(default)s)")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ways", nargs="*", choices=("alone", "shared"), default=["alone", "shared"])
    options = parser.parse_args()
    rows = [measure(options, "none", "shared")]
    print(json.dumps(rows[-1]), flush=True)
    for kind in options.kinds:
        for way in options.ways:
            rows.append(measure(options, kind, way))
            print(json.dumps(rows[-1]), flush=True)
    table(rows, options)
    return 0


def measure(options: argparse.Namespace, kind: str, way: str) -> dict[str, Any]:
    """Measure one workload with one way to poll."""
    from tests.support.lifecycles import end

    with tempfile.TemporaryDirectory(prefix="voiceos-waiting-") as home:
        windows, world, calls = scene(kind, options.sensors)
        from voiceos_provider.emulator import Emulator

        emulator = Emulator(world)
        with emulator.serve() as url:
            environment = os.environ | airflow_home(Path(home), url, emulator.token)
            scenario = {
                "windows": [[start.isoformat(), stop.isoformat()] for start, stop in windows],
                "poke_interval": options.poke_interval,
                "way": way,
            }
            run_python(environment, "prepare", json.dumps(scenario))
            with triggerer(environment) as process:
                until((Path(home) / "lag.json").exists, 120)
                # The triggerer creates 50 triggers per second; after this time each has polled once.
                time.sleep(40 + options.poke_interval)
                (Path(home) / "lag.reset").touch()
                asked, cpu, began = len(emulator.requests), cpu_of(process.pid), time.monotonic()
                time.sleep(options.seconds)
                seconds = time.monotonic() - began
                asked = len(emulator.requests) - asked
                cpu = cpu_of(process.pid) - cpu
                memory, lag = memory_of(process.pid), json.loads((Path(home) / "lag.json").read_text())
                statuses = {request.status for request in emulator.requests}
                assert statuses <= {200}, statuses
                ended = time.monotonic()
                for call in calls:
                    end(world, call, datetime.now(UTC))
                left = -1
                while kind != "none" and (left := deferred(environment)) and time.monotonic() - ended < 600:
                    time.sleep(1)
                finished = time.monotonic() - ended
    return {
        "kind": kind,
        "way": way,
        "windows": len(set(windows)),
        "per_minute": asked / seconds * 60,
        "cpu": cpu / seconds,
        "memory": memory,
        "lag": lag,
        "finished": finished,
        "left": left,
    }


def scene(kind: str, sensors: int) -> tuple[list[tuple[datetime, datetime]], Any, list[str]]:
    """Return the intervals to wait for, the emulated world, and the ids of its open calls."""
    from tests.support.lifecycles import add
    from voiceos_provider.emulator import World

    now = datetime.now(UTC).replace(microsecond=0)
    hour = timedelta(hours=1)
    world = World(seed=5, conversations=2_000, start=now - timedelta(days=9), end=now - timedelta(days=2))
    match kind:
        case "none":
            return [], world, []
        case "one":
            windows = [(now - 2 * hour, now - hour)] * sensors
            calls = [now - 1.5 * hour]
        case "hourly":
            windows = [(now - (n % 10 + 2) * hour, now - (n % 10 + 1) * hour) for n in range(sensors)]
            calls = [now - 1.5 * hour, now - 2.5 * hour]
        case _:
            second = timedelta(seconds=1)
            windows = [(now - hour - (n + 1) * second, now - hour - n * second) for n in range(sensors)]
            calls = [start + second / 2 for start, _ in windows]
    return windows, world, [add(world, created=at, started=at) for at in calls]


def airflow_home(home: Path, url: str, token: str) -> dict[str, str]:
    """Return the settings of a separate Airflow."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home),
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__TRIGGERER__CAPACITY": "2000",
        "AIRFLOW_CONN_VOICEOS_DEFAULT": json.dumps({"conn_type": "voiceos", "host": url, "password": token}),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def run_python(environment: dict[str, str], function: str, *arguments: str) -> str:
    """Run a function of `rows.py` in a process with these settings."""
    code = f"import sys; from benchmarks.waiting import rows; rows.{function}(*sys.argv[1:])"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        raise SystemExit(result.stdout + result.stderr)
    return result.stdout


def deferred(environment: dict[str, str]) -> int:
    """Return the number of deferred sensors in the metadata database."""
    import sqlite3

    with sqlite3.connect(Path(environment["AIRFLOW_HOME"]) / "airflow.db", timeout=60) as database:
        query = "SELECT count(*) FROM task_instance WHERE task_id = 'wait' AND state = 'deferred'"
        return int(database.execute(query).fetchone()[0])


@contextmanager
def triggerer(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run Airflow's triggerer."""
    log = (Path(environment["AIRFLOW_HOME"]) / "triggerer.log").open("wb")
    process = subprocess.Popen(
        ["airflow", "triggerer", "--skip-serve-logs"],
        env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def family(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text().split()]
    return [pid, *(p for child in children for p in family(child))]


def runner(pid: int) -> int:
    """Return the process that runs the triggers: the child with the most memory."""
    return max(family(pid)[1:], key=resident)


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory_of(pid: int) -> int:
    """Return the resident memory of the process that runs the triggers."""
    return resident(runner(pid))


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of the process that runs the triggers."""
    fields = Path(f"/proc/{runner(pid)}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(true: Any, timeout: float) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("Timed out.")
        time.sleep(0.2)


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print the table of docs/explanation/waiting.md."""
    print(f"\n{options.sensors:,} sensors, poke_interval {options.poke_interval:g} s\n")
    print(
        "| who waits | polls | windows | requests/min | memory MiB | CPU | lag p99 / worst, ms | all resumed after |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        lag = f"{row['lag']['p99'] * 1000:.0f} / {row['lag']['worst'] * 1000:.0f}"
        after = "" if row["kind"] == "none" else f"{row['finished']:.0f} s"
        print(
            f"| {KINDS.get(row['kind'], 'no sensor')} | {row['way']} | {row['windows']} | {row['per_minute']:,.0f} "
            f"| {row['memory'] / 2**20:,.0f} | {row['cpu']:.0%} | {lag} | {after} |"
        )


if __name__ == "__main__":
    sys.exit(main())
