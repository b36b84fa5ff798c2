"""A worker on which no row can wait says so, and how to mend it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.workdir import ResumableWorkDir, WorkDir

# No file may grow here beyond nothing, as on a file system that is read-only.
NOWHERE = """
import resource
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.workdir import ResumableWorkDir, WorkDir
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
for make in ResumableWorkDir.make, lambda: WorkDir().folder().__enter__():
    try:
        make()
    except VoiceOSDestinationError as error:
        print(error)
"""


def test_a_worker_without_a_folder_for_rows_names_those_tried_and_the_setting(tmp_path: Path) -> None:
    """Python's own choice of folders is what is tried; TMPDIR comes first."""
    environ = os.environ | {"TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    said = subprocess.check_output([sys.executable, "-c", NOWHERE], text=True, cwd="/", env=environ)
    lines = said.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("cannot keep rows on this machine: No usable temporary directory found in ")
        assert f"'{tmp_path}'" in line
        assert line.endswith(
            "Set TMPDIR, in the environment of the worker, to a folder that has room for them."
        )


@pytest.mark.parametrize("make", [ResumableWorkDir.make, lambda: WorkDir().folder().__enter__()])
def test_a_folder_that_has_gone_is_named(
    make: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody cleans up below a worker that runs for weeks."""
    gone = tmp_path / "gone"
    monkeypatch.setattr("tempfile.tempdir", str(gone))
    with pytest.raises(VoiceOSDestinationError, match=f"cannot keep rows in {gone}: .*Set TMPDIR") as caught:
        make()
    assert caught.value.retryable
