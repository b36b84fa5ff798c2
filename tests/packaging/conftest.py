"""Set-up of the packaging tests: the wheel in its own environment, where the checkout cannot be imported."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel, and an empty Airflow home."""

    home: Path

    @property
    def site_packages(self) -> Path:
        (folder,) = self.home.glob("venv/lib/python*/site-packages")
        return folder

    def python(self, code: str, *args: object) -> str:
        return self._run("python", "-c", code, *args)

    def airflow(self, *args: str) -> str:
        """Run an Airflow command and return its output with its log lines."""
        return self._run("airflow", *args)

    def voiceos(self, *args: str) -> str:
        """Run the `voiceos` command."""
        return self._run("voiceos", *args)

    def airflow_json(self, *args: str) -> Any:
        # Airflow logs to standard output, so the result is the last line.
        return json.loads(self.airflow(*args, "--output", "json").splitlines()[-1])

    def _run(self, program: str, *args: object) -> str:
        done = subprocess.run(
            [self.home / "venv/bin" / program, *map(str, args)],
            cwd=self.home,
            env=foreign_environ() | {"AIRFLOW_HOME": str(self.home / "airflow"), "HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program} {args} failed:\n{done.stdout}"
        return done.stdout


def foreign_environ() -> dict[str, str]:
    """Return this process's environment without what makes Python or Airflow find the checkout."""
    ours = ("AIRFLOW_", "_AIRFLOW_", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def uv(*args: object) -> None:
    """Run the pinned uv of the test environment."""
    subprocess.run([sys.executable, "-m", "uv", *map(str, args), "--quiet"], cwd=CHECKOUT, check=True)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Return the path of the checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def example_files(checkout: Path) -> set[str]:
    """Return the names of the example DAGs."""
    return {file.name for file in (checkout / "example_dags").glob("*.py")}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release would."""
    folder = tmp_path_factory.mktemp("wheel")
    hatch = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(hatch, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="session")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Install the wheel with its pinned dependencies, without extras."""
    home = tmp_path_factory.mktemp("installation")
    uv("venv", "--python", sys.executable, home / "venv")
    uv(
        *("pip", "install", "--python", home / "venv/bin/python", "--compile-bytecode"),
        *("--constraints", "constraints.txt", wheel),
    )
    return Installation(home)


@pytest.fixture(scope="session")
def info(installation: Installation) -> dict[str, Any]:
    """Return the provider info that Airflow reads."""
    code = "import json; from voiceos_provider.get_provider_info import get_provider_info as read"
    return json.loads(installation.python(f"{code}; print(json.dumps(read()))"))


@pytest.fixture(scope="session")
def migrated(installation: Installation) -> Installation:
    """Return the installation with a migrated Airflow database."""
    installation.airflow("db", "migrate")
    return installation


@pytest.fixture(scope="session")
def oldest_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the JSON schema of provider info in the oldest supported Airflow."""
    folder = tmp_path_factory.mktemp("oldest-airflow")
    uv("pip", "install", "--no-deps", "--target", folder, "apache-airflow==2.11.2")
    return folder / "airflow/provider_info.schema.json"
