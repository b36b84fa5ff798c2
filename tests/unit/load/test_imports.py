"""Heavy packages stay unloaded while Airflow parses a DAG file."""

import subprocess
import sys

import pytest

from tests.support.exporting import CHECKOUT

HEAVY = ("adlfs", "airflow", "fsspec", "numpy", "pandas", "pyarrow", "pydantic", "s3fs")
LIGHT = ("checkpoint", "files.layout", "files.store", "pending", "receipt", "workdir")


@pytest.mark.parametrize("module", LIGHT)
def test_light_module_stays_light(module: str):
    """A new interpreter lists its loaded modules."""
    code = f"import sys, voiceos_provider.load.{module}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=CHECKOUT, text=True).split()
    assert f"voiceos_provider.load.{module}" in loaded
    assert [name for name in HEAVY if name in loaded] == []
