"""How long from `pip install` to the first file, for somebody who has nothing but Python?

Makes an empty environment, installs Airflow and the built wheel with pip, starts the emulator, and exports: once by the
`voiceos` command, once by the README's DAG in Airflow.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Print each step with its seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("airflow", help="a version, such as 3.3.2")
    parser.add_argument("wheel", type=Path, help="the built wheel")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="voiceos-first-hour-"))
    began = time.monotonic()
    kept = {
        name: value for name, value in os.environ.items() if not re.match("AIRFLOW_|PYTHON|VIRTUAL_ENV", name)
    }
    environ = kept | {
        "HOME": str(home),
        "PATH": f"{home / 'venv/bin'}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }

    def step(name: str, *command: str | Path) -> None:
        since = time.monotonic()
        done = subprocess.run(
            command,
            cwd=home,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(f"{name:28} {time.monotonic() - since:6.1f} s   {time.monotonic() - began:6.1f} s", flush=True)
        if done.returncode != 0:
            raise SystemExit(done.stdout)

    try:
        print(f"{'Airflow ' + options.airflow:28} {'step':>8}   {'in all':>8}")
        step("python -m venv", sys.executable, "-m", "venv", "venv")
        step("pip install", "pip", "install", f"apache-airflow=={options.airflow}", options.wheel.resolve())
        with emulator(home, environ) as told:
            environ |= told
            step("voiceos doctor", "voiceos", "doctor")
            step("voiceos export", "voiceos", "export", home / "by-command")
            require(home / "by-command")
            step("airflow db migrate", "airflow", "db", "migrate")
            write_dag(home)
            step("airflow dags test", "airflow", "dags", "test", "voiceos_to_disk")
            require(home / "voiceos")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


@contextmanager
def emulator(home: Path, environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """The API, and what it says to put into the environment."""
    command = ["voiceos", "emulator", "--port", "0"]
    with subprocess.Popen(command, cwd=home, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "Ctrl-C" not in printed and (line := process.stdout.readline()):
                printed += line
            yield dict(re.findall(r"\b((?:AIRFLOW_CONN|VOICEOS)_\w+)='([^']*)'", printed))
        finally:
            process.terminate()


def write_dag(home: Path) -> None:
    """The README's second DAG, with a folder that is there; it hashes phone numbers by a key of the connection."""
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    (dag,) = (block for block in blocks if "voiceos_to_disk" in block)
    dag = dag.replace("file:///data", f"file://{home}").replace('"phone_numbers": "hash", ', "")
    (home / "airflow/dags").mkdir(parents=True, exist_ok=True)
    (home / "airflow/dags/voiceos_to_disk.py").write_text(dag)


def require(folder: Path) -> None:
    """End unless there is an export."""
    (manifest,) = folder.glob("_manifests/*.json")
    receipt = json.loads(manifest.read_text())
    print(f"  {receipt['exported']:,} conversations in {len(receipt['files'])} files")


if __name__ == "__main__":
    sys.exit(main())
