"""First hour of a new user: from an empty environment to the first files, and the messages for common mistakes.

Creates an empty environment, installs Airflow and the built wheel with pip, starts the emulator, and exports with the
`voiceos` command and with a DAG of the documentation. Then makes one mistake at a time, and reads the task's log.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from docs.tools.first_hour.mistakes import EXTRAS, make, mistakes
from docs.tools.first_hour.services import bucket, emulator, forbidden, postgres
from scripts.matrix import FLOOR_AND_NEWEST

ROOT = Path(__file__).resolve().parents[3]

PAGE = ROOT / "docs" / "first-hour.md"


@dataclass
class Hour:
    """Results on one Airflow.

    :param home: directory of the environment and its files
    :param environ: the environment of its commands
    :param steps: seconds of each step, in order
    :param said: the last line of the task's log, by mistake
    :param exported: a summary of the first export
    """

    airflow: str
    home: Path
    environ: dict[str, str]
    steps: dict[str, float] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    exported: str = ""


def main() -> int:
    """Print each step with its duration and each message; with `--write`, also write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="the built wheel")
    parser.add_argument(
        "airflows", nargs="*", metavar="VERSION", help=f"by default {' and '.join(FLOOR_AND_NEWEST)}"
    )
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    wheel = options.wheel.resolve()
    with ExitStack() as homes:
        hours = [spend(airflow, wheel, homes) for airflow in options.airflows or FLOOR_AND_NEWEST]
        with bucket() as users, postgres() as server, ThreadPoolExecutor() as pool:
            list(pool.map(partial(err, wheel=wheel, users=users, server=server), hours))
    if options.write:
        PAGE.write_text(page(wheel, hours))
    return 0


def spend(airflow: str, wheel: Path, homes: ExitStack) -> Hour:
    """Install and export on one Airflow.

    :param homes: removes the environment at the end
    """
    home = Path(tempfile.mkdtemp(prefix="voiceos-first-hour-"))
    homes.callback(shutil.rmtree, home, ignore_errors=True)
    ours = "AIRFLOW_|AWS_|PYTHON|VIRTUAL_ENV|TMPDIR$"
    environ = {name: value for name, value in os.environ.items() if not re.match(ours, name)} | {
        "HOME": str(home),
        "PATH": f"{home / 'venv/bin'}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    hour = Hour(airflow, home, environ)

    def step(name: str, *command: str | Path) -> None:
        since = time.monotonic()
        run(home, environ, *command)
        hour.steps[name] = time.monotonic() - since
        print(f"{name:24} {hour.steps[name]:6.1f} s   {sum(hour.steps.values()):6.1f} s", flush=True)

    print(f"{'Airflow ' + airflow:24} {'step':>8}   {'in all':>8}")
    step("python -m venv", sys.executable, "-m", "venv", "venv")
    step("pip install", "pip", "install", f"apache-airflow=={airflow}", wheel)
    with emulator(home, environ) as variables:
        environ |= variables
        step("voiceos doctor", "voiceos", "doctor")
        step("voiceos export", "voiceos", "export", home / "by-command")
        hour.exported = exported(home / "by-command")
        step("airflow db migrate", "airflow", "db", "migrate")
        dag = write_dag(home)
        step("airflow dags test", "airflow", "dags", "test", "voiceos_to_disk")
        exported(home / "voiceos")
        dag.unlink()
    return hour


def err(hour: Hour, wheel: Path, users: Mapping[str, Any], server: Mapping[str, Any]) -> None:
    """Make one mistake at a time: first those possible without extras, then those that require them.

    :param users: connections to a bucket
    :param server: a database connection
    """
    home, environ = hour.home, hour.environ
    with emulator(home, environ) as variables, forbidden(home):
        connection = json.loads(variables["AIRFLOW_CONN_VOICEOS_DEFAULT"])
        environ.pop("AIRFLOW_CONN_VOICEOS_DEFAULT", None)
        made = mistakes(home, users, server)
        for installed in (False, True):
            if installed:
                run(home, environ, "pip", "install", f"apache-airflow=={hour.airflow}", f"{wheel}[{EXTRAS}]")
            some = [mistake for mistake in made if mistake.installed == installed]
            hour.said |= make(some, home, environ, connection=connection)
        hour.said = {
            mistake.what: hour.said[mistake.what].replace(str(home), "/home/you") for mistake in made
        }
    for what, said in hour.said.items():
        print(f"{hour.airflow}: {what}\n    {said}", flush=True)


def run(home: Path, environ: dict[str, str], *command: str | Path) -> None:
    """Run a command; exit with its output if it fails."""
    done = subprocess.run(
        command,
        cwd=home,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout)


def write_dag(home: Path) -> Path:
    """Write the hourly DAG of the documentation, with an existing directory and without hashing phone numbers."""
    page = (ROOT / "docs" / "how-to" / "object-storage.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (dag,) = (block for block in blocks if "voiceos_to_disk" in block)
    dag = dag.replace("file:///data/voiceos_jsonl", f"file://{home}/voiceos").replace(
        '"phone_numbers": "hash", ', ""
    )
    file = home / "airflow/dags/voiceos_to_disk.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dag)
    return file


def exported(folder: Path) -> str:
    """Return a summary of the export in a directory; fail if there is none."""
    (manifest,) = folder.glob("_manifests/*.json")
    receipt = json.loads(manifest.read_text())
    return f"{receipt['exported']:,} conversations in {len(receipt['files'])} files"


def page(wheel: Path, hours: Sequence[Hour]) -> str:
    """Return docs/first-hour.md."""
    total = {hour.airflow: 0.0 for hour in hours}
    times = []
    for name in hours[0].steps:
        cells = []
        for hour in hours:
            total[hour.airflow] += hour.steps[name]
            cells.append(f"{hour.steps[name]:.1f} | {total[hour.airflow]:.1f}")
        done = f": {hours[0].exported}" if name == "voiceos export" else ""
        times.append(f"| `{name}`{done} | {' | '.join(cells)} |")
    heads = " | ".join(f"{hour.airflow}, s | in all, s" for hour in hours)
    return f"""\
# The first hour
<!-- written by `make first-hour` -->

The first hour of a user who has only Python, tried with `{wheel.name}` in an empty
environment on Airflow {" and ".join(hour.airflow for hour in hours)}, without constraints.

## From nothing to the first file

| step | {heads} |
|---|{"---:|" * 2 * len(hours)}
{chr(10).join(times)}

`voiceos export` exports yesterday's conversations from the emulator, and `airflow dags test` exports one hour
of them with [the hourly DAG](how-to/object-storage.md#choose-tables-format-and-pii).
Measured on {datetime.now(UTC):%Y-%m-%d}
with {os.cpu_count()} cores, Python {platform.python_version()} and
a package mirror nearby. With a slower network, the download takes most of the time.

## When one thing is wrong

The table shows the last line of the error in the task's log when exactly one thing is wrong. From *no such bucket*
on, `[{EXTRAS}]` are
installed where they are needed. [Troubleshooting](troubleshooting.md) has the remedies, and what Airflow retries.

<!-- messages: each row is one of docs/troubleshooting.md, as a test checks -->
| what is wrong | the last line |
|---|---|
{chr(10).join(messages(hours))}
<!-- end of messages -->

`/home/you` is the home directory, and `...` a port, a request id or a directory name; the error's module is omitted.
Where the API cannot be reached, `max_attempts` was set to 1; by default, the message appears after about a minute.
"""


def messages(hours: Sequence[Hour]) -> list[str]:
    """Return a table row for each mistake; messages that are equal on all versions appear once."""
    rows = []
    for what in hours[0].said:
        said: dict[str, list[str]] = {}
        for hour in hours:
            said.setdefault(plain(hour.said[what]), []).append(hour.airflow)
        cells = [f"`{line}`" if len(said) == 1 else f"{', '.join(on)}: `{line}`" for line, on in said.items()]
        rows.append(f"| {what} | {'<br>'.join(cells).replace('|', chr(92) + '|')} |")
    return rows


def plain(line: str) -> str:
    """Return a line without what differs between runs and versions."""
    line = re.sub(r"^(\w+\.)+(?=\w+: )", "", line)
    line = re.sub(r"voiceos-export-\w+", "voiceos-export-...", line)
    line = re.sub(r"request id req_\w+", "request id ...", line)
    line = re.sub(r"(127\.0\.0\.1):\d{4,}", r"\1:...", line)
    return line.replace("`", "'")


if __name__ == "__main__":
    sys.exit(main())
