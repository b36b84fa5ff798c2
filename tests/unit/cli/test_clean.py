"""`voiceos clean`: work directories that killed exports left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.emulator import Emulator, World


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory that is used for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def variables(url: str, emulator: Emulator) -> dict[str, str]:
    """Return the environment of a command that reads from an emulator."""
    return os.environ | {"VOICEOS_BASE_URL": url, "VOICEOS_TOKEN": emulator.token}


def test_directory_of_a_killed_export_is_listed_and_removed(
    voiceos: Any, world: World, temporary: Path, tmp_path: Path
) -> None:
    """A directory in use is neither listed nor removed."""
    emulator = Emulator(world, latency=0.2)
    command = [
        sys.executable,
        "-m",
        "voiceos_provider.cli",
        "export",
        str(tmp_path / "out"),
        "--page-size",
        "10",
    ]
    with emulator.serve() as url, subprocess.Popen(command, env=variables(url, emulator)) as export:
        deadline = time.monotonic() + 60
        while not (found := [*temporary.glob("voiceos-export-*")]):
            assert time.monotonic() < deadline
            assert export.poll() is None
            time.sleep(0.02)
        assert voiceos("clean", "--json", "--all", "--yes").json == []
        export.send_signal(signal.SIGKILL)
    listed = voiceos("clean", "--json").json
    assert [each["path"] for each in listed] == [str(path) for path in found]
    assert found[0].exists()
    assert f"found {found[0]}" in voiceos("clean").out
    ran = voiceos("clean", "--yes")
    assert ran.code == 0
    assert f"removed {found[0]}" in ran.out
    assert not found[0].exists()


def test_an_empty_machine_has_nothing_to_clean(voiceos: Any, temporary: Path) -> None:
    """Other directories are not touched."""
    (temporary / "of-another-program").mkdir()
    assert voiceos("clean", "--all", "--yes").out == "No abandoned work directory.\n"
    assert (temporary / "of-another-program").exists()


def test_a_directory_that_is_being_created_stays(voiceos: Any, temporary: Path) -> None:
    """Its process has not locked it yet."""
    folder = temporary / "voiceos-export-new"
    folder.mkdir()
    assert voiceos("clean", "--all", "--yes").out == "No abandoned work directory.\n"
    assert folder.exists()
    os.utime(folder, (time.time() - 120,) * 2)
    assert f"removed {folder}" in voiceos("clean", "--all", "--yes").out
