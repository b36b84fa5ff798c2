"""Exports that are killed at any moment, on local disk and on S3."""

import json
import random
import time

import pytest

from tests.support.exporting import DAY, MANIFEST, TABLE_NAMES, ExportProcess, emulate, published_files, truth
from tests.support.stores import Namespace, Watcher, sha256

KILLS = 20
PAGE_SIZE = 10


def test_killed_export_leaves_the_complete_files_or_none(place: Namespace):
    """Kill and repeat it twenty times: rows stay the same, no files are left over, and readers see nothing else."""
    rng = random.Random(20261122)
    emulator = emulate(600, latency=0.003)
    expected = len(truth(emulator))
    with emulator.serve() as url:

        def export() -> ExportProcess:
            return ExportProcess(url, emulator.token, place.root, page_size=PAGE_SIZE, **place.arguments)

        reading, publishing, rows = _undisturbed(export())
        assert rows["conversations"] == expected
        with (
            Watcher(lambda: place.rows_seen("conversations/*")) as star,
            Watcher(lambda: place.rows_seen("**/*.parquet")) as deep,
        ):
            for number in range(KILLS):
                running, again = export(), export()
                running.start()
                if number % 2:  # while it publishes, which is short and where harm could be done
                    running.read_all()
                    time.sleep(rng.uniform(0, publishing))
                else:
                    time.sleep(rng.uniform(0, reading))
                running.kill()
                _check_published_rows(place, rows)
                receipt = again.start().finish()["receipt"]
                assert (receipt["exported"], receipt["duplicates"]) == (expected, 0)
                _check_published_rows(place, rows)
                _check_manifest(place)
    for watcher, seen in ((star, expected), (deep, sum(rows.values()))):
        assert len(watcher.seen) > KILLS
        assert [found for found in watcher.seen if found != seen] == []


@pytest.mark.parametrize("seed", [1, 2])
def test_first_export_killed_leaves_everything_or_nothing(place: Namespace, seed: int):
    """Readers of the empty destination see no file, then the complete one."""
    rng = random.Random(seed)
    emulator = emulate(600, latency=0.003)
    expected = len(truth(emulator))
    with emulator.serve() as url, Watcher(lambda: place.rows_seen("conversations/*")) as watcher:
        for _ in range(4):
            running = ExportProcess(url, emulator.token, place.root, page_size=PAGE_SIZE, **place.arguments)
            time.sleep(rng.uniform(0, 0.3))
            running.start()
            if rng.random() < 0.7:
                running.read_all()
                time.sleep(rng.uniform(0, 0.05))
            running.kill()
        ExportProcess(
            url, emulator.token, place.root, page_size=PAGE_SIZE, **place.arguments
        ).start().finish()
        assert place.rows_seen("conversations/*") == expected
    assert set(watcher.seen) <= {None, expected}
    assert watcher.seen[0] is None
    _check_manifest(place)


def test_killed_export_in_another_format_leaves_no_second_copy(place: Namespace):
    """The next complete run removes all files but its own."""
    rng = random.Random(3)
    emulator = emulate(600)
    expected = truth(emulator)
    with emulator.serve() as url:
        for file_format in ["csv", "parquet", "jsonl", "csv", "parquet"]:
            arguments = place.arguments | {"file_format": file_format, "replace_existing": True}
            running = ExportProcess(url, emulator.token, place.root, **arguments).start().read_all()
            time.sleep(rng.uniform(0, 0.1))
            running.kill()
        arguments = place.arguments | {"replace_existing": True}
        result = ExportProcess(url, emulator.token, place.root, **arguments).start().finish()
    assert result["receipt"]["exported"] == len(expected)
    assert set(place.files()) - _incoming(place) == set(published_files())
    assert place.rows_seen("conversations/*") == len(expected)


def _undisturbed(running: ExportProcess) -> tuple[float, float, dict[str, int]]:
    """Return the seconds that an export takes to read and to publish, and the rows of each table."""
    running.start()
    began = time.monotonic()
    running.read_all()
    read = time.monotonic()
    files = running.finish()["receipt"]["files"]
    return read - began, time.monotonic() - read, {file["table"]: file["rows"] for file in files}


def _incoming(place: Namespace) -> set[str]:
    """Return the files of killed runs in `_incoming/`, which are removed after an hour."""
    return {name for name in place.files() if name.startswith("_incoming/") and name.endswith(".tmp")}


def _check_published_rows(place: Namespace, rows: dict[str, int]) -> None:
    assert {table: place.rows_seen(f"{table}/*") for table in TABLE_NAMES} == rows
    assert place.rows_seen("**/*.parquet") == sum(rows.values())
    assert set(place.files()) - _incoming(place) <= set(published_files())


def _check_manifest(place: Namespace) -> None:
    """Check that the manifest describes the published files."""
    files = place.files()
    described = json.loads(files[MANIFEST])["files"]
    assert [file["table"] for file in described] == TABLE_NAMES
    for file in described:
        content = files[f"{file['table']}/{file['table']}_{DAY.label}.parquet"]
        assert (file["sha256"], file["bytes"]) == (sha256(content), len(content))
