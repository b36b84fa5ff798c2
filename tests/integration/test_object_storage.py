"""Exports to local disk, read with several libraries, and errors of a real filesystem."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exporting import (
    DAY,
    ENCODINGS,
    PARQUET,
    ExportProcess,
    emulate,
    export_pages,
    files_below,
    published_files,
    read_pages,
    truth,
)
from tests.support.reading import LIBRARIES
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.transform import TABLES

CSV = Encoding.choose("csv", None)
UNPRIVILEGED = 65534
AS_ROOT = os.geteuid() == 0


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.file_format}-{e.compression}")
def test_every_format_reads_the_same_in_every_library(encoding: Encoding, tmp_path: Path):
    """Each conversation of the interval is present once, with the values that Python sees."""
    emulator = emulate(1_500)
    receipt = export_pages(read_pages(emulator), tmp_path, encoding=encoding)
    for file, table in zip(receipt.files, TABLES, strict=True):
        seen = MemoryDestination()
        export_pages(read_pages(emulator), tmp_path, target=seen, tables=[table])
        assert seen.table is not None
        expected = seen.table.to_pylist()
        assert file.rows == len(expected) == len({tuple(row[name] for name in table.key) for row in expected})
        if table.name == "conversations":
            assert {row["id"] for row in expected} == truth(emulator)
        for reader in LIBRARIES:
            rows = reader.rows(file.path, encoding, table)
            assert rows == reader.expected_rows(expected, encoding, table), (reader.name, table.name)


def test_values_equal_those_of_the_api(tmp_path: Path):
    """Costs are exact to the last digit, and times to the microsecond."""
    emulator = emulate(600)
    receipt = export_pages(read_pages(emulator), tmp_path)
    rows, costs, messages, configs = (
        LIBRARIES[2].rows(file.path, PARQUET, table)
        for file, table in zip(receipt.files, TABLES, strict=True)
    )
    config_of = {config["agent_config_hash"]: config for config in configs}
    for row in rows:
        sent = emulator.world.conversation(row["id"])
        assert sent is not None
        assert row["status"] == sent["status"]
        assert [
            {"role": message["role"], "content": message["content"]}
            for message in messages
            if message["conversation_id"] == row["id"]
        ] == sent["messages"]
        assert row["message_count"] == len(sent["messages"])
        assert config_of[row["agent_config_hash"]]["prompt"] == sent["agent_config"]["prompt"]
        assert {
            cost["component"]: float(cost["cost"])
            for cost in costs
            if cost["conversation_id"] == row["id"] and cost["cost"] is not None
        } == {
            component: part["cost"]
            for component, part in sent["cost_breakdown"].items()
            if isinstance(part, dict) and part["cost"] is not None
        }
        assert float(row["total_cost"]) == sent["cost_breakdown"]["total"]
        assert (row["from_number"] is None) == (sent["phone_call"] is None)


@contextmanager
def disk_of(kibibytes: int) -> Iterator[Path]:
    """Yield a filesystem of this size."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a tiny disk takes the right to mount one: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def test_full_disk_publishes_nothing_and_leaves_no_partial_file():
    """The error names the file and the reason."""
    with disk_of(64) as disk:
        with pytest.raises(VoiceOSDestinationError) as refusal:
            export_pages(read_pages(emulate(3_000)), disk / "exports", encoding=CSV)
        assert files_below(disk) == {}
    assert str(refusal.value).startswith(f"cannot write {disk}/exports/")
    assert ".csv: OSError" in str(refusal.value)
    assert "No space left on device" in str(refusal.value)
    assert refusal.value.retryable


def test_full_disk_keeps_the_earlier_export():
    """The smaller file of the earlier run is unchanged if the larger one does not fit."""
    with disk_of(512) as disk:
        small, large = emulate(90), emulate(3_000)
        export_pages(read_pages(small), disk / "exports")
        before = files_below(disk)
        with pytest.raises(VoiceOSDestinationError, match="No space left on device"):
            export_pages(read_pages(large), disk / "exports", encoding=CSV, replace_existing=True)
        assert files_below(disk) == before
        export_pages(read_pages(small), disk / "exports", encoding=CSV, replace_existing=True)
        assert list(files_below(disk / "exports")) == published_files(".csv")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Run as a user who may read the folder but not write to it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() and AS_ROOT else 0o555 if path.is_dir() else 0o444)
    if AS_ROOT:
        os.seteuid(UNPRIVILEGED)
    try:
        yield
    finally:
        if AS_ROOT:
            os.seteuid(0)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


@pytest.fixture
def shared() -> Iterator[Path]:
    """Yield a folder that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="voiceos-shared-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_read_only_folder_is_named_and_keeps_the_earlier_export(shared: Path):
    """The error gives the folder and the reason."""
    emulator = emulate(600)
    export_pages(read_pages(emulator), shared)
    before = files_below(shared)
    with read_only(shared), pytest.raises(VoiceOSDestinationError) as refusal:
        export_pages(read_pages(emulator), shared, exported_at=DAY.end)
    assert str(refusal.value).startswith(
        f"cannot write {shared}/agent_configs/agent_configs_{DAY.label}.parquet: PermissionError: "
    )
    assert files_below(shared) == before


def test_unreadable_folder_is_reported_before_any_request(shared: Path):
    """The task fails at its start."""
    emulator = emulate(10)
    export_pages(read_pages(emulator), shared)
    requested = len(emulator.requests)
    with read_only(shared):
        pass
    (shared / "_manifests").chmod(0o000)
    if AS_ROOT:
        os.seteuid(UNPRIVILEGED)
    try:
        with pytest.raises(VoiceOSDestinationError, match=r"cannot read .*_manifests/.*PermissionError"):
            export_pages(read_pages(emulator), shared)
    finally:
        if AS_ROOT:
            os.seteuid(0)
        (shared / "_manifests").chmod(0o755)
    assert len(emulator.requests) == requested


def test_export_process_of_the_chaos_tests_exports_every_conversation(tmp_path: Path):
    """The process reads over a socket."""
    emulator = emulate(300)
    with emulator.serve() as url:
        result = ExportProcess(url, emulator.token, str(tmp_path)).start().read_all().finish()
    assert result["receipt"]["exported"] == len(truth(emulator))
    assert list(files_below(tmp_path)) == published_files()
