"""Modules that a DAG processor and a triggerer load for the sensor and the triggers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BASE = """
import json, sys
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent
sdk.BaseSensorOperator, sdk.conf, sdk.AirflowFailException, sdk.PokeReturnValue
"""
COUNT = """
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = {"httpx", "msgspec", "numpy", "pandas", "pyarrow", "pydantic"}


def imported(module: str) -> set[str]:
    """Return the modules that an import adds to those of Airflow itself."""
    command = [sys.executable, "-c", BASE + COUNT.format(module=module)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return set(json.loads(output.splitlines()[-1]))


@pytest.mark.parametrize("module", ["sensors.voiceos", "triggers.voiceos"])
def test_the_import_adds_little_to_airflow(module: str) -> None:
    """The triggerer imports triggers on its event loop, and the DAG processor sensors in each parse."""
    added = imported(f"voiceos_provider.{module}")
    assert {name.partition(".")[0] for name in added} & HEAVY == set()
    ours = {name for name in added if not name.startswith("airflow.")}  # Airflow 2 adds shims of its own
    assert len(ours) <= 25, ours


def test_what_a_running_trigger_needs_is_heavy() -> None:
    """So that the test above would notice an import of it."""
    assert {name.partition(".")[0] for name in imported("voiceos_provider.triggers.poll_stream")} & HEAVY
