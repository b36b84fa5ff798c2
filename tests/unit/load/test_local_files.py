"""Files that a load keeps on this machine, and their removal after a kill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.exporting import export_pages, page
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.sql import dialect_named
from voiceos_provider.load.sql.destination import SqlDestination
from voiceos_provider.load.workdir import local_file, remove_abandoned
from voiceos_provider.transform.schema import CONVERSATION_MESSAGES

CHECKOUT = Path(__file__).parents[3]
LOAD = """
import os, signal, sys
import pyarrow as pa
from voiceos_provider.transform.schema import CONVERSATION_MESSAGES as TABLE
from voiceos_provider.load.sql import dialect_named
from voiceos_provider.load.sql.dialects.databricks import WithVolume
from voiceos_provider.load.sql.plan import Namespace

class Connection:
    def cursor(self): return self
    def close(self): pass
    def fetchall(self): return [("8.0.36",)]
    def execute(self, statement, *_):
        if statement.startswith(("LOAD DATA", "PUT")):
            os.kill(os.getpid(), signal.SIGKILL)

dialect = dialect_named(sys.argv[1])
connection = Connection() if sys.argv[1] == "mysql" else WithVolume(Connection(), "/Volumes/v")
dialect.open(connection)
rows = [{"conversation_id": "a", "ordinal": 1, "content": "my secret"}]
schema = pa.schema(TABLE.schema.field(name) for name in rows[0])
batches = [pa.RecordBatch.from_pylist(rows, schema=schema)]
dialect.load_rows(Namespace(), TABLE, pa.RecordBatchReader.from_batches(schema, batches))
"""


@pytest.mark.parametrize("dialect", ["mysql", "databricks"])
def test_files_of_a_killed_load_are_removed_by_a_later_export(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver was about to send them, and they hold conversations."""
    env = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    killed = subprocess.run([sys.executable, "-c", LOAD, dialect], env=env, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.stem for path in tmp_path.rglob("rows.*")] == ["rows"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remove_abandoned()
    assert list(tmp_path.iterdir()) == []


def test_file_for_a_driver_is_removed_after_sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is removed after a failure as well, and no other user may read it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def send() -> None:
        with local_file(".tsv") as file:
            file.write_text("my secret")
            assert file.parent.stat().st_mode & 0o077 == 0
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        send()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said", "attempts"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot keep rows in .*No space left.*TMPDIR", 1),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "DuckDB refused to", 8),
    ],
)
def test_full_disk_inside_a_driver_is_distinguished_from_a_network_failure(
    error: OSError, said: str, attempts: int
) -> None:
    """The operator of the worker must resolve the first; another attempt may resolve the second."""
    attempted = []

    def fill(*_: Any) -> None:
        attempted.append(1)
        raise error

    dialect = dialect_named("duckdb")
    dialect.load_rows = fill  # type: ignore[method-assign]
    target = SqlDestination(duckdb.connect, dialect, uri="duckdb", sleep=lambda _: None)
    messages = [page({"id": "a", "status": "ended", "messages": [{"role": "user", "content": "hello"}]})]
    with pytest.raises(VoiceOSDestinationError, match=said):
        export_pages(messages, Path(), target=target, tables=[CONVERSATION_MESSAGES])
    assert len(attempted) == attempts
