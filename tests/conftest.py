"""Set-up of all tests: an Airflow home for each test process, the slow suites, and the emulated API."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from ssl import SSLContext

import httpx
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
if os.getuid() != 0:
    # The PostgreSQL of the tests locks a file there, by default one in /tmp that may be another user's.
    os.environ["XDG_RUNTIME_DIR"] = str(HOME)
    (HOME / "python_PostgresServer").mkdir()

with suppress(ImportError):  # the environments of some databases have no Hypothesis
    from hypothesis import HealthCheck, settings

    # How long an example takes depends on what else the machine does.
    settings.register_profile("voiceos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("voiceos")

_read_certificates = httpx.create_ssl_context


@cache
def _certificates(*_variables: str | None) -> SSLContext:
    return _read_certificates()


# Reading the certificates takes longer than most tests, and no test changes the context.
httpx.create_ssl_context = lambda: _certificates(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR")))

TESTS = Path(__file__).parent

SLOW_SUITES = (
    "chaos",
    "contract/sql/test_cut_off.py",
    "contract/sql/test_killed.py",
    "integration/test_celery.py",
    "integration/test_doc_blocks.py",
    "integration/test_limited_server.py",
    "integration/test_memory.py",
    "integration/test_with_a_triggerer.py",
    "packaging",
    "property",
    "unit/transfers/test_stopping.py",
)
"""Directories and modules that are slow as a whole; other tests carry the marker themselves."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow suites, and keep tests that share an expensive installation in one process of pytest-xdist."""
    slow = [TESTS / name for name in SLOW_SUITES]
    assert all(path.exists() for path in slow), "SLOW_SUITES names a path that does not exist."
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)
        if item.path.is_relative_to(TESTS / "packaging"):
            item.add_marker(pytest.mark.xdist_group("packaging"))


def pytest_unconfigure() -> None:
    """Remove the Airflow home."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def yesterday() -> tuple[datetime, datetime]:
    """Return the bounds of the last complete day in UTC."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=1), midnight


@pytest.fixture
def world(yesterday: tuple[datetime, datetime]) -> World:
    """Return a world with 300 conversations on each of three days: the last two and today."""
    start, end = yesterday
    return World(seed=11, conversations=900, start=start - timedelta(days=1), end=end + timedelta(days=1))


@pytest.fixture
def emulator(world: World) -> Emulator:
    """Return an emulator that does not serve yet."""
    return Emulator(world)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that defines an Airflow connection: `connect(host=..., password=...)`."""

    def define(conn_id: str = "voiceos_default", conn_type: str = "voiceos", **fields: object) -> str:
        fields = {"conn_type": conn_type, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        return conn_id

    return define


@pytest.fixture
def api(emulator: Emulator, connect: Callable[..., str]) -> Iterator[Emulator]:
    """Serve the emulator on a port, with `voiceos_default` as its connection."""
    with emulator.serve() as url:
        connect(
            host=url,
            password=emulator.token,
            extra={
                "page_size": 50,
                "phone_hash_key": "a secret of the tests",
                "allow_private_recordings": True,  # the emulator serves them on this machine
            },
        )
        yield emulator
