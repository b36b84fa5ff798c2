"""An Airflow home of the tests' own, and the API on this machine."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from voiceos_provider.emulator import Emulator, World

# Airflow reads its environment when it is first imported, so this comes before any test module.
HOME = Path(tempfile.mkdtemp(prefix="voiceos-airflow-"))
for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
os.environ.update(
    AIRFLOW_HOME=str(HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parents[1] / "example_dags"),
    AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, a test that was skipped has proved nothing, and fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def yesterday() -> tuple[datetime, datetime]:
    """The last whole day in UTC."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=1), midnight


@pytest.fixture
def world(yesterday: tuple[datetime, datetime]) -> World:
    """300 conversations a day: the day before yesterday, yesterday and today."""
    start, end = yesterday
    return World(seed=11, conversations=900, start=start - timedelta(days=1), end=end + timedelta(days=1))


@pytest.fixture
def emulator(world: World) -> Emulator:
    """The API, not yet on a port."""
    return Emulator(world)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Define an Airflow connection, as an operator of Airflow would: `connect(host=..., password=...)`."""

    def define(conn_id: str = "voiceos_default", conn_type: str = "voiceos", **fields: object) -> str:
        fields = {"conn_type": conn_type, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        return conn_id

    return define


@pytest.fixture
def api(emulator: Emulator, connect: Callable[..., str]) -> Iterator[Emulator]:
    """The API on a port, and `voiceos_default` pointing at it."""
    with emulator.serve() as url:
        connect(
            host=url,
            password=emulator.token,
            extra={"page_size": 50, "phone_hash_key": "a secret of the tests"},
        )
        yield emulator
