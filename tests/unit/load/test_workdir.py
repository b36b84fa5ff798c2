"""Work directories: a full disk, their owners, and the removal of those of dead processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.exporting import CHECKOUT
from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSValueError
from voiceos_provider.load.workdir import (
    InUseError,
    Owner,
    ResumableWorkDir,
    TaskIdentity,
    WorkDir,
    list_workdirs,
    remove_abandoned,
    remove_workdir,
)

TASK = TaskIdentity("dag", "export", "manual__1", 3)
HOUR = 3_600.0

# No file may grow here, as on a read-only file system.
NOWHERE = """
import resource
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.workdir import ResumableWorkDir, WorkDir
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
for make in ResumableWorkDir.create, lambda: WorkDir().folder().__enter__():
    try:
        make()
    except VoiceOSDestinationError as error:
        print(error)
"""

KILLED = """
import os, signal, sys
from voiceos_provider.load.workdir import Owner, ResumableWorkDir, TaskIdentity, WorkDir

task = TaskIdentity("dag", "export", "manual__1", 3)
if sys.argv[1] == "resumable":
    path = ResumableWorkDir.create()
    workdir = ResumableWorkDir(path, Owner.this_process(task, keep_for=float(sys.argv[2])))
else:
    workdir = WorkDir(Owner.this_process(task))
with workdir.folder() as folder:
    (folder / "conversation_messages.arrow").write_text("my secret")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for work directories."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def kill_one(folder: Path, *arguments: str) -> Path:
    """Kill an export during its work, and return its work directory."""
    before = set(folder.iterdir())
    env = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(CHECKOUT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    (workdir,) = set(folder.iterdir()) - before
    return workdir


def age(workdir: Path, seconds: float) -> None:
    """Make all files of a directory older by this many seconds."""
    at = time.time() - seconds
    for path in (*workdir.iterdir(), workdir):
        os.utime(path, (at, at))


def test_worker_without_a_usable_folder_names_the_candidates(tmp_path: Path) -> None:
    """Python chooses them, TMPDIR first."""
    environ = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(CHECKOUT),
    }
    said = subprocess.check_output([sys.executable, "-c", NOWHERE], text=True, cwd="/", env=environ)
    lines = said.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("cannot keep rows on this machine: No usable temporary directory found in ")
        assert f"'{tmp_path}'" in line
        assert line.endswith(
            "Set TMPDIR, in the environment of the worker, to a folder that has room for them."
        )


@pytest.mark.parametrize("make", [ResumableWorkDir.create, lambda: WorkDir().folder().__enter__()])
def test_removed_folder_is_named(
    make: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleaner may remove temporary files while a worker runs."""
    gone = tmp_path / "gone"
    monkeypatch.setattr("tempfile.tempdir", str(gone))
    with pytest.raises(VoiceOSDestinationError, match=f"cannot keep rows in {gone}: .*Set TMPDIR") as caught:
        make()
    assert caught.value.retryable


def test_rows_of_a_killed_export_without_resume_are_removed_by_the_next_one(folder: Path) -> None:
    """Any task removes them at once."""
    killed = kill_one(folder, "plain")
    assert (killed / "conversation_messages.arrow").exists()
    with WorkDir().folder() as mine:
        assert list(folder.iterdir()) == [mine]
    assert list(folder.iterdir()) == []


def test_rows_of_a_killed_attempt_stay_until_its_retry_must_have_started(folder: Path) -> None:
    """Other tasks do not touch them until then."""
    killed = kill_one(folder, "resumable", str(HOUR))
    age(killed, HOUR - 60)
    remove_abandoned()
    assert ResumableWorkDir(killed).checkpoint is None  # it exists and is not locked
    killed = kill_one(folder, "resumable", str(HOUR))
    age(killed, HOUR + 60)
    remove_abandoned()
    assert not killed.exists()


def test_attempt_that_starts_over_removes_the_rows_of_the_last_one(folder: Path) -> None:
    """A mapped task with another index is another task."""
    killed = kill_one(folder, "resumable", str(HOUR))
    with WorkDir(Owner.this_process(TaskIdentity("dag", "export", "manual__1", 4))).folder():
        assert killed.exists()
    with WorkDir(Owner.this_process(TASK)).folder():
        assert not killed.exists()


def test_directory_of_another_or_unknown_host_stays_for_a_day(folder: Path) -> None:
    """On a shared file system, a lock of another machine may be invisible."""
    foreign = kill_one(folder, "plain")
    owner = json.loads((foreign / "owner.json").read_text())
    (foreign / "owner.json").write_text(json.dumps(owner | {"host": "another"}))
    unknown = kill_one(folder, "plain")
    (unknown / "owner.json").write_text("{}")
    for seconds, stays in ((23 * HOUR, True), (25 * HOUR, False)):
        for each in (foreign, unknown):
            age(each, seconds)
        remove_abandoned()
        assert [foreign.exists(), unknown.exists()] == [stays] * 2


def test_directory_in_use_is_never_removed(folder: Path) -> None:
    """Its process may wait for hours before it writes."""
    with WorkDir().folder() as plain:
        held = ResumableWorkDir(ResumableWorkDir.create())
        (other,) = set(folder.iterdir()) - {plain}
        for each in (plain, other):
            age(each, 100 * HOUR)
        remove_abandoned()
        assert {*folder.iterdir()} == {plain, other}
        for each in (plain, other):
            with pytest.raises(InUseError):
                remove_workdir(each)
        held.release()
        remove_workdir(other)
        assert list(folder.iterdir()) == [plain]


def test_work_directories_are_listed_with_owner_age_and_size(folder: Path) -> None:
    """The oldest is first; other files are not listed."""
    killed = kill_one(folder, "resumable", str(HOUR))
    age(killed, 600)
    (folder / "voiceos-export-a-file").write_text("")
    (folder / "elsewhere").mkdir()
    (folder / "voiceos-export-a-link").symlink_to(folder / "elsewhere")
    with WorkDir().folder() as mine:
        first, second = list_workdirs()
    assert (first.path, second.path) == (killed, mine)
    assert (first.in_use, second.in_use) == (False, True)
    assert first.owner is not None
    assert (first.owner.task, first.owner.keep_for) == (TASK, HOUR)
    assert str(first.owner.task) == "dag.export manual__1 [3]"
    assert second.owner == Owner.this_process()
    assert 590 < first.idle < 700
    assert first.bytes > len("my secret")


@pytest.mark.parametrize("name", ["precious", "voiceos-export-link"])
def test_only_work_directories_can_be_removed(folder: Path, name: str) -> None:
    """The command line may name any path."""
    (folder / "precious").mkdir()
    (folder / "voiceos-export-link").symlink_to(folder / "precious")
    with pytest.raises(VoiceOSValueError, match="is not a work directory"):
        remove_workdir(folder / name)
    assert (folder / "precious").is_dir()


def work(folder: str, rounds: int) -> None:
    """Run exports that each remove abandoned directories."""
    tempfile.tempdir = folder
    for number in range(rounds):
        with WorkDir().folder() as mine:
            (mine / "rows").write_text(str(number))
            remove_abandoned()
            assert (mine / "rows").read_text() == str(number)


def test_concurrent_exports_do_not_remove_each_other(folder: Path) -> None:
    """Neither a directory nor a lock disappears while others clean up."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(str(folder), 60)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert list(folder.iterdir()) == []
