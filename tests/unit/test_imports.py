"""Modules that a DAG file or the triggerer imports load little: Airflow imports them again for each file it parses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
HEAVY = [
    "duckdb",
    "httpcore",
    "httpx",
    "msgspec",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "rich",
    "sqlalchemy",
]

# Airflow itself loads some of the heavy packages, so a package counts if it is new or if a module of ours holds
# something of it. One process per module, forked after Airflow was imported.
LOADED = """
import json, os, sys
from importlib import import_module
from types import ModuleType

import airflow.triggers.base
import airflow.providers.common.compat.sdk as sdk
sdk.Asset, sdk.BaseHook, sdk.BaseOperator, sdk.BaseSensorOperator, sdk.ObjectStoragePath, sdk.XCom, sdk.conf

heavy, names = json.loads(sys.argv[1]), sys.argv[2:]

def top(value):
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(name).partition(".")[0]

for name in names:
    sys.stdout.flush()
    if os.fork():
        os.wait()
        continue
    before = set(sys.modules)
    import_module(name)
    new = set(sys.modules) - before
    ours = [sys.modules[module] for module in new if module.startswith("voiceos_provider")]
    held = {top(value) for module in ours for value in vars(module).values()}
    found = sorted({module.partition(".")[0] for module in new if "." not in module} & set(heavy) | held & set(heavy))
    print(json.dumps([name, sorted(new), found]), flush=True)
    os._exit(0)
"""


def public_modules() -> list[str]:
    """Return the modules that the provider's description lists, and those that DAG authors import besides."""
    info: dict[str, Any] = get_provider_info()
    entries = [entry for kind in ("hooks", "operators", "sensors", "triggers") for entry in info[kind]]
    listed = [module for entry in entries for module in entry["python-modules"]]
    listed += [entry["python-module"] for entry in info["transfers"]]
    return sorted(
        [
            *listed,
            "voiceos_provider.assets.voiceos",
            "voiceos_provider.links.voiceos",
            "voiceos_provider.utils.run_interval",
        ]
    )


HEAVY_MODULE = "voiceos_provider.triggers.poll_stream"

pytestmark = pytest.mark.xdist_group("imports")

Loaded = dict[str, tuple[list[str], list[str]]]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """Per module, which modules its import adds to Airflow's own, and which heavy packages it needs."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    printed = subprocess.check_output(
        [sys.executable, "-c", LOADED, json.dumps(HEAVY), *public_modules(), HEAVY_MODULE],
        env=environment,
        text=True,
        timeout=300,
    )
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]
    return {name: (added, heavy) for name, added, heavy in rows}


def test_public_modules_are_found() -> None:
    """There are at least a hook, an operator, a sensor, transfers, triggers and three more."""
    assert len(public_modules()) >= 9


@pytest.mark.parametrize("module", public_modules())
def test_public_module_loads_nothing_heavy(module: str, loaded: Loaded) -> None:
    """Data frames, HTTP clients and validation are imported when a task runs."""
    added, heavy = loaded[module]
    assert heavy == []
    assert len(added) < 40


@pytest.mark.parametrize("module", ["voiceos_provider.sensors.voiceos", "voiceos_provider.triggers.voiceos"])
def test_import_adds_few_modules_to_airflow(module: str, loaded: Loaded) -> None:
    """The triggerer imports triggers on its event loop, and the DAG processor sensors in each parse."""
    added, _ = loaded[module]
    ours = [name for name in added if not name.startswith("airflow.")]  # Airflow 2 adds shims of its own
    assert len(ours) <= 25, ours


def test_modules_of_a_running_trigger_are_heavy(loaded: Loaded) -> None:
    """The tests above would detect an import of them."""
    _, heavy = loaded[HEAVY_MODULE]
    assert {"httpx", "msgspec"} <= {*heavy}
