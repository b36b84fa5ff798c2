"""The provider as its users get it: a wheel in an environment of its own, out of reach of the checkout."""

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
    """An environment that holds the wheel, and an Airflow home that holds nothing yet."""

    home: Path

    @property
    def site_packages(self) -> Path:
        (folder,) = self.home.glob("venv/lib/python*/site-packages")
        return folder

    def python(self, code: str, *args: object) -> str:
        return self._run("python", "-c", code, *args)

    def airflow(self, *args: str) -> str:
        """Run an Airflow command; what it printed, its log lines included."""
        return self._run("airflow", *args)

    def voiceos(self, *args: str) -> str:
        """Run our own command."""
        return self._run("voiceos", *args)

    def airflow_json(self, *args: str) -> Any:
        # Airflow logs to where it prints, so the answer is the last line.
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
    """Return this process's environment without what would lead Python or Airflow back to the checkout."""
    ours = ("AIRFLOW_", "_AIRFLOW_", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def uv(*args: object) -> None:
    """Run the pinned uv of the test environment."""
    subprocess.run([sys.executable, "-m", "uv", *map(str, args), "--quiet"], cwd=CHECKOUT, check=True)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Where the sources are."""
    return CHECKOUT


@pytest.fixture(scope="session")
def example_files(checkout: Path) -> set[str]:
    """The example DAGs that a release must carry."""
    return {file.name for file in (checkout / "example_dags").glob("*.py")}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a release would upload."""
    folder = tmp_path_factory.mktemp("wheel")
    hatch = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(hatch, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="session")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel and what it depends on, no extras, at the pinned versions."""
    home = tmp_path_factory.mktemp("installation")
    uv("venv", "--python", sys.executable, home / "venv")
    uv(
        *("pip", "install", "--python", home / "venv/bin/python", "--compile-bytecode"),
        *("--constraints", "constraints.txt", wheel),
    )
    return Installation(home)


@pytest.fixture(scope="session")
def info(installation: Installation) -> dict[str, Any]:
    """The description of the provider that Airflow reads."""
    code = "import json; from voiceos_provider.get_provider_info import get_provider_info as read"
    return json.loads(installation.python(f"{code}; print(json.dumps(read()))"))


@pytest.fixture(scope="session")
def migrated(installation: Installation) -> Installation:
    """The installation with an Airflow database, for the commands that want one."""
    installation.airflow("db", "migrate")
    return installation


@pytest.fixture(scope="session")
def oldest_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the oldest Airflow that we support demands of a provider's description."""
    folder = tmp_path_factory.mktemp("oldest-airflow")
    uv("pip", "install", "--no-deps", "--target", folder, "apache-airflow==2.11.2")
    return folder / "airflow/provider_info.schema.json"
