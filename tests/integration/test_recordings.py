"""Recordings on local disk and S3: storage, manifest, resumption and failures."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from tests.support.exporting import CHECKOUT, DAY, NOW, emulate, truth
from tests.support.run_recordings import client_of, export_to
from tests.support.stores import S3, Disk, s3_server, sha256
from voiceos_provider.client import Retry
from voiceos_provider.client.recordings import Recording
from voiceos_provider.emulator import Emulator, Fault
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSConnectionError,
    VoiceOSContractError,
    VoiceOSDestinationError,
    VoiceOSRecordingError,
    VoiceOSValueError,
)
from voiceos_provider.load.files.recordings import RECORDINGS, RecordingFiles
from voiceos_provider.transfers.voiceos_recordings_to_object_storage import (
    VoiceOSRecordingsToObjectStorageOperator,
)

FOLDER = f"recordings/{DAY.label}"
MANIFEST = f"conversation_recordings/conversation_recordings_{DAY.label}.parquet"
Place = Disk | S3


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Serve S3 over HTTP on this machine."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty folder on each kind of store."""
    if request.param == "disk":
        return Disk(tmp_path / "exports")
    return S3(request.getfixturevalue("endpoint"), tmp_path.name)


class Exports:
    """Exports from one emulator to one destination."""

    def __init__(self, emulator: Emulator, url: str, place: Place) -> None:
        self.emulator = emulator
        self.url = url
        self.place = place

    def run(self, *, settings: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Export, and return the receipt."""
        self.emulator.requests.clear()
        root = Path(self.place.root) if isinstance(self.place, Disk) else self.place.path()
        with client_of(self.url, self.emulator.token, **settings or {}) as client:
            return export_to(root, client, **options)

    @property
    def audio_requests(self) -> int:
        """Return the number of downloads of the last run."""
        return sum(request.path.startswith("/recordings/") for request in self.emulator.requests)

    @property
    def recorded(self) -> set[str]:
        """Return the conversations of the day that have a recording."""
        return {id for id in truth(self.emulator) if self.emulator.world.is_recorded(id, now=NOW)}

    @property
    def audio(self) -> dict[str, bytes]:
        """Return the stored audio by conversation."""
        return {
            Path(name).stem: content
            for name, content in self.place.files().items()
            if name.startswith(f"{FOLDER}/")
        }

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the manifest by conversation."""
        table = pq.read_table(io.BytesIO(self.place.files()[MANIFEST]))
        rows = {row["conversation_id"]: row for row in table.to_pylist()}
        assert len(rows) == len(table)
        return rows

    def check(self, expected: set[str] | None = None) -> None:
        """Check that each recording, by default of the whole day, is stored once, complete and listed."""
        expected = self.recorded if expected is None else expected
        files, rows = self.audio, self.rows
        assert {id: sha256(content) for id, content in files.items()} == {
            id: sha256(self.emulator.recording(id)) for id in expected
        }
        assert {id for id, row in rows.items() if row["reason"] is None} == expected
        for id in expected:
            assert rows[id]["path"].endswith(f"{self.place.root}/{FOLDER}/{id}.wav")
            assert (rows[id]["bytes"], rows[id]["sha256"]) == (len(files[id]), sha256(files[id]))
            assert rows[id]["content_type"] == "audio/wav"
            assert rows[id]["fetched_at"] is not None


@contextmanager
def served(place: Place, conversations: int = 160, **options: Any) -> Iterator[Exports]:
    """Yield exports from an emulator with small recordings."""
    options.setdefault("recording_bytes", 2_000)
    emulator = emulate(conversations, **options)
    with emulator.serve() as url:
        yield Exports(emulator, url, place)


@pytest.fixture
def exports(place: Place) -> Iterator[Exports]:
    """Return exports to each kind of store."""
    with served(place) as exports:
        yield exports


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Exports]:
    """Return exports to local disk."""
    with served(Disk(tmp_path / "exports")) as exports:
        yield exports


def test_each_recording_is_stored_and_listed_once(exports: Exports) -> None:
    """The row has hash, size and type; without a recording it has the reason."""
    receipt = exports.run()
    exports.check()
    missing = {id: row for id, row in exports.rows.items() if row["reason"]}
    assert missing.keys() == truth(exports.emulator) - exports.recorded
    assert {row["reason"] for row in missing.values()} <= {"no_recording", "not_ended"}
    assert all(
        row["path"] is row["sha256"] is row["bytes"] is row["fetched_at"] is None for row in missing.values()
    )
    assert receipt["downloaded"] == len(exports.recorded) > 20
    assert receipt["listed"] == receipt["downloaded"] + sum(receipt["missing"].values())
    assert receipt["bytes"] == 2_000 * receipt["downloaded"]
    assert set(exports.place.files()) == {MANIFEST, *(f"{FOLDER}/{id}.wav" for id in exports.recorded)}
    assert pq.read_schema(io.BytesIO(exports.place.files()[MANIFEST])).equals(RECORDINGS.schema)


def test_second_run_downloads_nothing(exports: Exports) -> None:
    """The rows are unchanged, and missing recordings are requested again."""
    first = exports.run()
    rows, missing = exports.rows, first["missing"]["no_recording"]
    second = exports.run()
    exports.check()
    assert exports.rows == rows
    assert (second["downloaded"], second["kept"]) == (0, first["downloaded"])
    assert exports.audio_requests == 0
    assert sum(request.path.endswith("/recording") for request in exports.emulator.requests) == missing


def test_stored_recordings_are_kept_without_a_manifest(exports: Exports) -> None:
    """A killed run leaves complete files that no manifest lists."""
    first = exports.run()
    if isinstance(exports.place, Disk):
        (Path(exports.place.root) / MANIFEST).write_bytes(b"damaged")
    else:
        bucket, _, prefix = exports.place.root.partition("/")
        exports.place.client.delete_object(Bucket=bucket, Key=f"{prefix}/{MANIFEST}")
    second = exports.run()
    exports.check()
    assert (second["downloaded"], second["kept"], exports.audio_requests) == (0, first["downloaded"], 0)


def test_damaged_and_deleted_files_are_downloaded_again(exports: Exports) -> None:
    """The checksum of the whole file detects a single changed byte."""
    exports.run()
    damaged, deleted, *_ = sorted(exports.recorded)
    if isinstance(exports.place, Disk):
        folder = Path(exports.place.root) / FOLDER
        content = bytearray((folder / f"{damaged}.wav").read_bytes())
        content[100] ^= 1
        (folder / f"{damaged}.wav").write_bytes(content)
        (folder / f"{deleted}.wav").unlink()
    else:
        bucket, _, prefix = exports.place.root.partition("/")
        key = f"{prefix}/{FOLDER}/{damaged}.wav"
        exports.place.client.put_object(Bucket=bucket, Key=key, Body=b"RIFF of another")
        exports.place.client.delete_object(Bucket=bucket, Key=f"{prefix}/{FOLDER}/{deleted}.wav")
    receipt = exports.run()
    exports.check()
    assert (receipt["downloaded"], exports.audio_requests) == (2, 2)


def test_recording_in_another_format_replaces_the_file(on_disk: Exports) -> None:
    """A conversation never has two files."""
    on_disk.run()
    folder = Path(on_disk.place.root) / FOLDER
    first = min(on_disk.recorded)
    (folder / f"{first}.wav").write_bytes(b"damaged")
    on_disk.emulator.faults.add(Fault.body(b"ID3 and so on", content_type="audio/mpeg"), on="audio")
    on_disk.run()
    assert [path.name for path in folder.glob(f"{first}*")] == [f"{first}.mp3"]
    assert on_disk.rows[first]["content_type"] == "audio/mpeg"
    assert on_disk.run()["downloaded"] == 0


def test_filters_select_recordings(on_disk: Exports) -> None:
    """Type, agent, state and duration filter; recordings stored by earlier runs stay listed."""
    emulator = on_disk.emulator
    shown = {id: emulator.world.conversation(id, now=NOW) or {} for id in truth(emulator)}
    kind, agent = "inbound_phone_call", next(c["agent_id"] for c in shown.values() if c["agent_id"])

    def seconds(conversation: dict[str, Any]) -> float:
        if not conversation["ended_at"]:
            return -1
        ended, started = (datetime.fromisoformat(conversation[name]) for name in ("ended_at", "started_at"))
        return (ended - started).total_seconds()

    stored: set[str] = set()
    for options, passes in (
        ({"conversation_type": kind}, lambda c: c["type"] == kind),
        ({"agent_id": [agent, "another"]}, lambda c: c["agent_id"] == agent),
        ({"min_duration": 60, "max_duration": timedelta(minutes=3)}, lambda c: 60 <= seconds(c) <= 180),
        ({"statuses": ["started"]}, lambda c: c["status"] == "started"),
        ({}, lambda c: True),
    ):
        selected = {id for id, conversation in shown.items() if passes(conversation)}
        receipt = on_disk.run(**options)
        stored |= selected & on_disk.recorded
        on_disk.check(stored)
        assert receipt["filtered"] == len(shown) - len(selected)
        assert receipt["downloaded"] + receipt["kept"] == len(selected & on_disk.recorded)
    assert stored == on_disk.recorded


def test_conversation_that_has_not_ended_is_listed(tmp_path: Path) -> None:
    """Its recording is requested only after its end."""
    with served(Disk(tmp_path), clock=lambda: DAY.end + timedelta(minutes=6)) as exports:
        world = exports.emulator.world
        id = next(id for id in truth(exports.emulator) if world.is_recorded(id, now=NOW))
        world.set_status(id, "on_hold")
        exports.run()
        assert exports.rows[id]["reason"] == "not_ended"
        assert not any(id in request.path for request in exports.emulator.requests)
        world.set_status(id, None)
        assert exports.run()["downloaded"] == 1
        assert exports.rows[id]["reason"] is None


@pytest.mark.parametrize(
    ("fault", "endpoint", "reason"),
    [
        (Fault.server_error(404), "audio", "recording_gone"),
        (Fault.server_error(410), "audio", "recording_gone"),
        (Fault.body(b'{"detail": "Gone"}', status=410), "recording", "no_recording"),
        (Fault.body(b'{"recording_url": null}'), "recording", "no_recording"),
    ],
)
def test_missing_recordings_are_not_failures(
    on_disk: Exports, fault: Fault, endpoint: Any, reason: str
) -> None:
    """Even all recordings of an interval may be missing."""
    on_disk.emulator.faults.add(fault, on=endpoint)
    receipt = on_disk.run(settings={"retry": Retry(max_attempts=2, base_delay=0.01)})
    assert receipt["missing"].get(reason, 0) >= len(on_disk.recorded)
    assert on_disk.audio == {}
    on_disk.emulator.faults.clear()
    on_disk.run()
    on_disk.check()


def test_too_large_recording_is_not_a_failure(on_disk: Exports) -> None:
    """A later run with a higher limit downloads it."""
    receipt = on_disk.run(max_recording_bytes=1_999)
    assert receipt["missing"]["too_large"] == len(on_disk.recorded)
    on_disk.run(max_recording_bytes=2_000)
    on_disk.check()


def test_other_recordings_are_stored_after_failures(on_disk: Exports) -> None:
    """A retry downloads the rest, and the manifest appears once every conversation has a row."""
    once = {"settings": {"retry": Retry(max_attempts=1)}, "max_concurrency": 1}
    on_disk.emulator.faults.add(Fault.cut_body(), at=[3, 7, 8], on="audio")
    with pytest.raises(
        VoiceOSRecordingError, match=r"3 recordings failed and 0 were not requested"
    ) as failure:
        on_disk.run(**once)
    assert failure.value.retryable
    assert MANIFEST not in on_disk.place.files()
    assert len(on_disk.audio) == len(on_disk.recorded) - 3
    assert on_disk.run(**once)["downloaded"] == 3
    on_disk.check()


def test_max_failed_tolerates_failures(on_disk: Exports) -> None:
    """Their rows have the reason, and the next run downloads them."""
    once = {"settings": {"retry": Retry(max_attempts=1)}, "max_failed": 2}
    on_disk.emulator.faults.add(Fault.server_error(500), at=[3, 7], on="audio")
    assert on_disk.run(**once)["missing"]["failed"] == 2
    assert sum(row["reason"] == "failed" for row in on_disk.rows.values()) == 2
    assert on_disk.run(**once)["downloaded"] == 2
    on_disk.check()


def test_storage_outage_leaves_most_recordings_unrequested(on_disk: Exports) -> None:
    """Each request would take several attempts."""
    on_disk.emulator.faults.add(Fault.server_error(500), on="audio")
    with pytest.raises(VoiceOSRecordingError, match=r"recordings failed and \d+ were not requested"):
        on_disk.run(settings={"retry": Retry(max_attempts=1)}, max_failed=1_000, max_concurrency=2)
    assert 10 <= on_disk.audio_requests <= 12


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.unauthorized(401), VoiceOSAuthError),
        (Fault.reset(), VoiceOSConnectionError),
    ],
)
def test_api_error_ends_the_export(on_disk: Exports, fault: Fault, error: type[Exception]) -> None:
    """`max_failed` tolerates only failures of single recordings."""
    on_disk.emulator.faults.add(fault, on="recording")
    with pytest.raises(error):
        on_disk.run(settings={"retry": Retry(max_attempts=1)}, max_failed=1_000, max_concurrency=2)
    assert sum(r.path.endswith("/recording") for r in on_disk.emulator.requests) <= 4


def test_private_address_is_not_retried(on_disk: Exports) -> None:
    """The message names the extra of the connection."""
    with pytest.raises(VoiceOSContractError, match="allow_private_recordings") as refusal:
        on_disk.run(settings={"allow_private_recordings": False})
    assert not refusal.value.retryable
    assert on_disk.audio_requests == 0


def test_unwritable_store_is_a_destination_error(on_disk: Exports, tmp_path: Path) -> None:
    """The error comes before any request."""
    (tmp_path / "exports").write_text("a file in place of the folder")
    with pytest.raises(VoiceOSDestinationError):
        on_disk.run()
    assert on_disk.emulator.requests == []


def test_requests_respect_the_rate_limit(tmp_path: Path) -> None:
    """Requests for pages and for links share the limit."""
    with served(Disk(tmp_path), conversations=45, requests_per_second=15) as exports:
        exports.run(settings={"requests_per_second": 14}, max_concurrency=4)
        exports.check()
        assert [r.status for r in exports.emulator.requests if r.status == 429] == []


def test_max_concurrency_limits_downloads(tmp_path: Path) -> None:
    """Requests to the API count as well."""
    active, most, counting = 0, [0], threading.Lock()

    def sleep(seconds: float) -> None:
        nonlocal active
        with counting:
            active += 1
            most[0] = max(most[0], active)
        time.sleep(seconds)
        with counting:
            active -= 1

    with served(Disk(tmp_path), latency=0.02, sleep=sleep) as exports:
        exports.run(max_concurrency=3)
        exports.check()
    assert most[0] == 3


@pytest.mark.parametrize(
    "id", ["../../escape", "a/b", "a*b?[c]", "ü ÿ", ".", "x" * 5_000, "%2e%2e", "a\\b\n"]
)
def test_any_id_is_a_file_name_in_the_folder(tmp_path: Path, id: str) -> None:
    """The file is found again by its id."""
    local = tmp_path / "local"
    local.write_bytes(b"audio")
    described = Recording(5, sha256(b"audio"), "audio/mpeg")
    files = RecordingFiles(tmp_path / "exports", DAY)
    row = files.put(id, local, described)
    (stored,) = (path for path in (tmp_path / "exports").rglob("*.mp3"))
    assert stored.parent == tmp_path / "exports" / FOLDER
    assert row.path == str(stored)
    files.open()
    found = files.find(id)
    assert found is not None
    assert (found.path, found.sha256) == (row.path, row.sha256)


Run = Callable[..., Any]


def operator(**options: Any) -> DAG:
    """Return a DAG of one task that exports the recordings of `DAY`."""
    with DAG("voiceos_test_recordings", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=UTC)) as dag:
        VoiceOSRecordingsToObjectStorageOperator(
            task_id="export_recordings", interval_start="{{ '2026-11-01' }}", **options
        )
    return dag


@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_operator_in_a_dag_run_returns_the_receipt(
    run_in_airflow: Run,
    connect: Callable[..., str],
    s3_url: str,
    s3_connection: str,
    tmp_path: Path,
    scheme: str,
) -> None:
    """The receipt has no id or URL, and a second run downloads nothing."""
    place: Place = Disk(tmp_path / "exports")
    path, storage = f"file://{place.root}", None
    if scheme == "s3":
        place = S3(s3_url, tmp_path.name)
        place.root, place._prefix = f"exports/{tmp_path.name}", f"{tmp_path.name}/"
        path, storage = f"s3://{place.root}", s3_connection
    with served(place) as exports:
        connect(host=exports.url, password=exports.emulator.token, extra={"allow_private_recordings": True})
        dag = operator(
            path=path, storage_conn_id=storage, conversation_type=["inbound_phone_call", "web_call"]
        )
        run = run_in_airflow(dag)
        assert run.state == "success"
        receipt = run.get_task_instance("export_recordings").xcom_pull(task_ids="export_recordings")
        assert receipt["downloaded"] > 5
        assert receipt["target"] == (place.root if scheme == "file" else path)
        assert not any(id in json.dumps(receipt) for id in truth(exports.emulator))
        if scheme == "file":
            exports.check({id for id, row in exports.rows.items() if row["reason"] is None})
            again = run_in_airflow(dag)
            receipt = again.get_task_instance("export_recordings").xcom_pull(task_ids="export_recordings")
            assert (receipt["downloaded"], receipt["kept"]) == (0, len(exports.audio))


def test_example_dag_filters_recordings(
    examples: dict[str, Any],
    run_in_airflow: Run,
    api: Emulator,
    yesterday: tuple[datetime, datetime],
    tmp_path: Path,
) -> None:
    """It omits short calls and calls that have not ended."""
    run = run_in_airflow(examples["voiceos_recordings"], run_conf={"path": str(tmp_path)})
    assert run.state == "success"
    start, end = yesterday
    expected = set()
    for id in api.world.ids(created_after=start, created_before=end, status="ended", now=datetime.now(UTC)):
        conversation = api.world.conversation(id, now=datetime.now(UTC)) or {}
        lasted = datetime.fromisoformat(conversation["ended_at"]) - datetime.fromisoformat(
            conversation["started_at"]
        )
        if lasted >= timedelta(seconds=30) and api.world.is_recorded(id, now=datetime.now(UTC)):
            expected.add(id)
    assert {path.stem for path in (tmp_path / "recordings").rglob("*.wav")} == expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"redaction": {"messages": "drop"}}, "redaction does not apply"),
        ({"max_failed": -1}, "max_failed -1"),
        ({"max_recording_bytes": 0}, "max_recording_bytes 0"),
        ({"min_duration": "long"}, "min_duration 'long'"),
        ({"agent_id": 7}, "agent_id 7"),
        ({"path": "relative"}, "relative"),
    ],
)
def test_wrong_arguments_fail_before_any_request(
    connect: Callable[..., str], tmp_path: Path, options: dict[str, Any], error: str
) -> None:
    """Airflow does not retry the task."""
    with served(Disk(tmp_path)) as exports:
        connect(host=exports.url, password=exports.emulator.token)
        arguments = {"task_id": "export", "path": str(tmp_path), "interval_start": "2026-11-01"}
        task = VoiceOSRecordingsToObjectStorageOperator(**arguments | options)
        with pytest.raises((AirflowFailException, VoiceOSValueError), match=error):
            task.execute({})
        assert not any(r.path.startswith("/recordings") for r in exports.emulator.requests)


# Tests with an emulator and exports in separate processes.

FEW, MANY, SIZE = 100, 1_000, 100_000

SERVE = f"""
import json, sys
from datetime import datetime, timedelta
from voiceos_provider.emulator import Emulator, Fault, World

start, end, now = map(datetime.fromisoformat, {[DAY.start.isoformat(), DAY.end.isoformat(), NOW.isoformat()]})
plan = json.loads(sys.argv[1])
world = World(seed=7, conversations=plan["conversations"], start=start, end=end)
emulator = Emulator(world, clock=lambda: now, recording_bytes=plan["bytes"], keep_requests=False)
faults = [
    (Fault.server_error(503), "audio", 0.01), (Fault.cut_body(50_000), "audio", 0.01),
    (Fault.wrong_length(), "audio", 0.005), (Fault.reset(), "audio", 0.005),
    (Fault.unauthorized(403), "audio", 0.005), (Fault.server_error(410), "audio", 0.005),
    (Fault.rate_limit("0"), "audio", 0.005), (Fault.drip_body(20_000), "audio", 0.0025),
    (Fault.body(b"<html>", content_type="text/html"), "audio", 0.0025),
    (Fault.expired_link(), "recording", 0.01), (Fault.rate_limit("0"), "recording", 0.01),
]
for fault, endpoint, probability in faults if plan["faults"] else []:
    emulator.faults.add(fault, on=endpoint, probability=probability)
with emulator.serve() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def served_by_process(conversations: int, *, size: int = SIZE, faults: bool) -> Iterator[str]:
    """Serve from another process, whose memory is not counted."""
    plan = {"conversations": conversations, "bytes": size, "faults": faults}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, json.dumps(plan)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.communicate()


def start_export(url: str, place: Place, log: Path, *, timeout: float = 2.0) -> subprocess.Popen[str]:
    """Start an export process that appends its DEBUG log to a file."""
    plan = {"url": url, "token": "emulator-token", "root": place.root, "timeout": timeout, **place.arguments}
    with log.open("a") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.run_recordings", json.dumps(plan)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=CHECKOUT,
            text=True,
        )


def finished(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    """Return the result of a successful export process."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, log.read_text()[-3_000:]
    result: dict[str, Any] = json.loads(output)
    return result


@pytest.mark.slow
def test_killed_exports_store_each_recording_once(place: Place, tmp_path: Path) -> None:
    """One request in twenty fails; no log holds a URL or the token."""
    rng, log = random.Random(19), tmp_path / "log"
    many, polled_every = (MANY, 0.05) if isinstance(place, Disk) else (MANY // 4, 0.5)
    emulator = emulate_day(many * 9 // 8)
    with served_by_process(many * 9 // 8, faults=True) as url:
        kills, stored = 0, 0
        while kills < 3:
            running = start_export(url, place, log)
            deadline = time.monotonic() + 300
            target = stored + rng.randint(many // 50, many // 5)
            while (found := count_audio(place)) < target and running.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(polled_every)
            assert running.poll() is None, log.read_text()[-3_000:]
            running.kill()
            running.communicate()
            kills, stored = kills + 1, found
            assert MANIFEST not in place.files()
        result = finished(start_export(url, place, log), log)
        exports = Exports(emulator, url, place)
        assert len(exports.recorded) >= many
        exports.check()
        assert result["receipt"]["kept"] >= stored > many // 20
        assert result["receipt"]["downloaded"] + result["receipt"]["kept"] == len(exports.recorded)
        again = finished(start_export(url, place, log), log)["receipt"]
        assert (again["downloaded"], again["kept"]) == (0, len(exports.recorded))
    logged = log.read_text()
    assert "failed: Recording of conversation" in logged
    assert "DEBUG:httpcore" in logged
    for secret in ("emulator-token", "signature=", "expires=", r"/recordings/[\w-]+\.wav"):
        assert not re.search(secret, logged)
    print(f"{len(exports.recorded):,} recordings, {kills} kills, {logged.count('failed: ')} failed attempts")


def emulate_day(conversations: int) -> Emulator:
    """Return the emulator that the other process serves."""
    from voiceos_provider.emulator import World

    world = World(seed=7, conversations=conversations, start=DAY.start, end=DAY.end)
    return Emulator(world, clock=lambda: NOW, recording_bytes=SIZE)


def count_audio(place: Place) -> int:
    """Return the number of stored recordings."""
    if isinstance(place, Disk):
        return sum(1 for _ in (Path(place.root) / FOLDER).glob("*.wav"))
    return sum(name.startswith(f"{FOLDER}/") for name in place._names())


@pytest.mark.slow
def test_memory_depends_on_neither_number_nor_size(tmp_path: Path) -> None:
    """The peaks of the whole processes differ by less than a fifth."""
    log = tmp_path / "log"

    def peak(conversations: int, size: int) -> int:
        place = Disk(tmp_path / f"{conversations}-{size}")
        with served_by_process(conversations, size=size, faults=False) as url:
            result = finished(start_export(url, place, log, timeout=60), log)
        assert result["receipt"]["downloaded"] > conversations * 0.8
        return int(result["peak_kib"])

    few, many, large = peak(FEW, SIZE), peak(MANY, SIZE), peak(FEW // 5, 10 * 2**20)
    print(f"{few / 1024:.0f}, {many / 1024:.0f} and {large / 1024:.0f} MiB")
    assert max(many, large) < few * 1.2
