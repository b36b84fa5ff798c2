"""Resumption of an export by its next attempt, with equal results."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from tests.support.exporting import (
    DAY,
    MANIFEST,
    NOW,
    PARQUET,
    data_of,
    emulate,
    export_options,
    export_pages,
    page,
    truth,
)
from voiceos_provider.client import ClientConfig, RawPage, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSExportError,
    VoiceOSServerError,
)
from voiceos_provider.extract.reader import read_windows
from voiceos_provider.load.checkpoint import Checkpoint, DamagedWorkDirError, ReadProgress, SpooledRows
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.receipt import ExportReceipt, ReadCounts
from voiceos_provider.load.workdir import ResumableWorkDir, WorkDir, list_workdirs, remove_abandoned
from voiceos_provider.pipeline.counters import Counters
from voiceos_provider.pipeline.run import write_pages
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator
from voiceos_provider.transform import TABLES
from voiceos_provider.utils.errors import StopOnKillMixin, TaskStopped
from voiceos_provider.utils.resume import remove_leftovers, workdir_for

SAVED = Checkpoint(
    read=ReadProgress(
        reading=ReadCounts(interval_start="", interval_end="", status=None, exported_at="", pages=1)
    ),
    written=SpooledRows(),
)


def read(
    emulator: Emulator, counters: Counters, *, pages: int | None = None, end: Any = None
) -> Iterator[RawPage]:
    """Read the remaining part of `DAY` with one worker; raise `end` after this number of pages."""
    settings = ClientConfig(token=emulator.token, base_url="http://emulator", page_size=50)
    with VoiceOSClient(settings, transport=emulator.transport()) as client:
        remaining = DAY.without(counters.covered)
        read = read_windows(client, DAY, remaining=remaining, max_concurrency=1, read_again=counters.is_open)
        yield from itertools.islice(read, pages)
        if end:
            raise end


def export_attempt(emulator: Emulator, root: Path, workdir: WorkDir, **ending: Any) -> ExportReceipt:
    """Run one attempt of the export of `DAY`, which saves a checkpoint after every page."""
    hours, options = itertools.count(0, 3_600), export_options()
    counters = Counters.resume(workdir.checkpoint, options, now=NOW)
    return write_pages(
        read(emulator, counters, **ending),
        FilesDestination(root, encoding=PARQUET),
        options,
        counters,
        workdir=workdir,
        monotonic=lambda: float(next(hours)),
    )


@pytest.fixture(autouse=True)
def tempdir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a separate folder for work directories in each test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("workdirs")))


@pytest.fixture
def emulator() -> Emulator:
    """Return a day of several hundred conversations."""
    return emulate(12_000)


@pytest.mark.parametrize("pages", [0, 1, 60, 90])
def test_resumed_export_reads_only_what_is_missing(emulator: Emulator, tmp_path: Path, pages: int) -> None:
    """Its files equal those of an undisturbed export."""
    whole, root = tmp_path / "whole", tmp_path / "resumed"
    undisturbed = export_attempt(emulator, whole, WorkDir())
    asked = len(emulator.requests)
    folder = ResumableWorkDir.create()
    with pytest.raises(VoiceOSServerError):
        export_attempt(
            emulator, root, ResumableWorkDir(folder), pages=pages, end=VoiceOSServerError("killed")
        )
    # Rows after the last checkpoint are unreliable: the kill may have truncated them anywhere.
    for file in folder.glob("*.arrow"):
        with file.open("ab") as torn:
            torn.write(b"half a batch")
    before = len(emulator.requests)
    receipt = export_attempt(emulator, root, ResumableWorkDir(folder))
    again = len(emulator.requests) - before
    assert not folder.exists()
    if pages > 20:  # all that was read up to the last checkpoint, one in a thousand conversations
        assert again < asked - 30
    assert {*pq.read_table(root / data_of()[-1]).column("id").to_pylist()} == truth(emulator)
    assert receipt.exported == undisturbed.exported == len(truth(emulator))
    assert receipt.listed == receipt.exported + receipt.duplicates
    for table in TABLES:
        (name,) = data_of(tables=[table.name])
        order = [(key, "ascending") for key in table.key]
        first, second = (pq.read_table(base / name).sort_by(order) for base in (whole, root))
        assert first.equals(second), name


def test_several_attempts_may_fail(emulator: Emulator, tmp_path: Path) -> None:
    """Each resumes from the last one."""
    folder = ResumableWorkDir.create()
    for _ in range(3):
        with pytest.raises(VoiceOSServerError):
            export_attempt(
                emulator, tmp_path, ResumableWorkDir(folder), pages=60, end=VoiceOSServerError("again")
            )
    receipt = export_attempt(emulator, tmp_path, ResumableWorkDir(folder))
    assert receipt.exported == len(truth(emulator))
    assert {*pq.read_table(tmp_path / data_of()[-1]).column("id").to_pylist()} == truth(emulator)
    assert len(pq.read_table(tmp_path / data_of()[-1])) == len(truth(emulator))


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (VoiceOSServerError("later"), True),
        (VoiceOSAuthError("never"), False),
        (VoiceOSExportError("never"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_rows_are_kept_only_for_retryable_errors(
    emulator: Emulator,
    tmp_path: Path,
    error: BaseException,
    stays: bool,  # noqa: FBT001
) -> None:
    """They hold what people said."""
    folder = ResumableWorkDir.create()
    with pytest.raises(type(error)):
        export_attempt(emulator, tmp_path, ResumableWorkDir(folder), pages=3, end=error)
    assert folder.exists() == stays
    folder = ResumableWorkDir.create()
    with pytest.raises(type(error)):
        export_attempt(emulator, tmp_path, ResumableWorkDir(folder, retry_follows=False), pages=3, end=error)
    assert not folder.exists()


def test_rejected_conversations_survive_a_failed_attempt(tmp_path: Path) -> None:
    """They are counted once."""
    folder = ResumableWorkDir.create()
    hours = itertools.count(0, 3_600)

    def once(pages: Iterator[RawPage]) -> ExportReceipt:
        return export_pages(
            pages,
            tmp_path,
            statuses=["ended"],
            max_bad_records=3,
            workdir=ResumableWorkDir(folder),
            monotonic=lambda: float(next(hours)),
        )

    def broken() -> Iterator[RawPage]:
        yield page({"id": "a", "status": "ended", "mood": 1}, {"id": "b", "status": "started"}, {"no": "id"})
        yield page({"no": "id either"})
        raise VoiceOSServerError("later")

    with pytest.raises(VoiceOSServerError):
        once(broken())
    receipt = once(iter([page({"id": "c", "status": "ended", "mood": 2})]))
    counts = ("listed", "exported", "duplicates", "filtered", "pending", "rejected")
    # The second page had not been saved when the attempt failed.
    assert [getattr(receipt, count) for count in counts] == [4, 2, 0, 0, 1, 1]
    assert (receipt.undocumented_fields, receipt.pending_ids) == ({"mood": 2}, ["b"])
    rejected = (tmp_path / f"_rejected/{DAY.label}.jsonl").read_text().splitlines()
    assert [json.loads(line)["conversation"] for line in rejected] == [{"no": "id"}]


def test_rejected_conversations_read_again_by_a_retry_are_counted_once(tmp_path: Path) -> None:
    """Counting them twice could exceed `max_bad_records`."""
    folder = ResumableWorkDir.create()
    hours = itertools.count(0, 3_600)

    def once(pages: Iterator[RawPage]) -> ExportReceipt:
        workdir = ResumableWorkDir(folder)
        return export_pages(
            pages, tmp_path, max_bad_records=2, workdir=workdir, monotonic=lambda: float(next(hours))
        )

    def broken() -> Iterator[RawPage]:
        yield rejected
        raise VoiceOSServerError("before the range of the page is complete")

    rejected = page({"no": "id"}, ["neither"])
    with pytest.raises(VoiceOSServerError):
        once(broken())
    receipt = once(iter([rejected, page({"id": "a"})]))
    assert (receipt.listed, receipt.exported, receipt.duplicates, receipt.rejected) == (5, 1, 2, 2)
    assert len((tmp_path / f"_rejected/{DAY.label}.jsonl").read_text().splitlines()) == 2


class Store(dict[str, Any]):
    """The used part of Airflow's store of task state."""

    def set(self, key: str, value: Any) -> None:
        json.dumps(value)
        self[key] = value


def context(store: Store | None, *, max_tries: int = 2, try_number: int = 1) -> dict[str, Any]:
    """Return the used part of a task's context."""
    task_instance = SimpleNamespace(
        max_tries=max_tries, try_number=try_number, dag_id="dag", task_id="export", run_id="run", map_index=-1
    )
    return {"ti": task_instance} | ({} if store is None else {"task_state_store": store})


def operator(**fields: Any) -> Any:
    """Return the used part of an operator."""
    return SimpleNamespace(template_fields=("path",), path="s3://a", read_strategy="windows", **fields)


def test_retry_gets_the_folder_of_the_last_attempt() -> None:
    """Its arguments are the same."""
    store = Store()
    first = workdir_for(operator(), context(store))
    assert first.is_kept
    assert first.checkpoint is None
    first.save(SAVED)
    first.release()  # as at the end of its process
    again = workdir_for(operator(), context(store, try_number=2))
    assert again.checkpoint == SAVED
    with again.folder() as folder:
        assert (folder / "checkpoint.json").exists()
    assert not folder.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"context": {"max_tries": 3}},  # as after a clear
        {"operator": {"path": "s3://b"}},
        {"operator": {"carry_pending": True}},
        {"inputs": {"key_id": "other"}},
        {"inputs": {"account": ("https://api.voiceos.io", "another token")}},
    ],
)
def test_attempt_with_other_arguments_starts_over(change: dict[str, dict[str, Any]]) -> None:
    """The earlier rows are removed at once."""
    store = Store()
    first = workdir_for(operator(), context(store), key_id="k")
    first.save(SAVED)
    before = Path(store["voiceos_export"]["folder"])
    first.release()  # as at the end of its process
    asked = operator()
    vars(asked).update(change.get("operator", {}))
    other = workdir_for(
        asked, context(store, **change.get("context", {})), **{"key_id": "k"} | change.get("inputs", {})
    )
    assert other.checkpoint is None
    assert store["voiceos_export"]["folder"] != str(before)
    assert not before.exists()
    with other.folder():
        pass


def test_another_machine_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name on it belongs to another task."""
    store = Store()
    first = workdir_for(operator(), context(store))
    first.save(SAVED)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    other = workdir_for(operator(), context(store))
    assert other.checkpoint is None
    for workdir in (first, other):
        with workdir.folder():
            pass


def test_nothing_is_kept_without_a_state_store() -> None:
    """Airflow is older than 3.3, or its store fails."""

    class Broken(Store):
        def get(self, *_: Any) -> Any:
            raise ConnectionError("no")

    pages = operator()
    pages.read_strategy = "pages"
    assert not workdir_for(operator(), context(None)).is_kept
    assert not workdir_for(operator(), {}).is_kept
    assert not workdir_for(operator(), context(Broken())).is_kept
    assert not workdir_for(pages, context(Store())).is_kept


def test_surviving_attempt_keeps_its_folder(caplog: pytest.LogCaptureFixture) -> None:
    """Its supervisor was killed, and the retry starts beside it with rows of its own."""
    store = Store()
    first = workdir_for(operator(), context(store))
    first.save(SAVED)
    again = workdir_for(operator(), context(store, try_number=2))
    assert again.checkpoint is None
    assert "still works" in caplog.text
    with first.folder() as one, again.folder() as two:
        assert one != two
    assert not one.exists()
    assert not two.exists()


@pytest.mark.parametrize("name", ["precious", "voiceos-export-precious"])
def test_task_state_cannot_name_a_folder_to_remove(tmp_path: Path, name: str) -> None:
    """Users who may write a task's state may not write on the worker."""
    precious = tmp_path / name
    precious.mkdir()
    link = Path(tempfile.gettempdir()) / "voiceos-export-link"
    link.symlink_to(precious)
    try:
        for folder in (precious, link):
            here = {"inputs": "other", "host": socket.gethostname(), "folder": str(folder)}
            with workdir_for(operator(), context(Store(voiceos_export=here))) as workdir:
                assert workdir.is_kept
            assert precious.is_dir()
    finally:
        link.unlink()


def test_token_is_not_written_into_the_state() -> None:
    """The state has a hash of all arguments."""
    store = Store()
    with workdir_for(operator(), context(store), account=("https://api.voiceos.io", "tok_secret")):
        assert "tok_secret" not in json.dumps(store)


@pytest.mark.parametrize("spoil", ["cut", "remove", "holes"])
def test_damaged_rows_are_logged_and_not_used_again(emulator: Emulator, tmp_path: Path, spoil: str) -> None:
    """After a power cut or a deletion, the next attempt starts over and completes."""
    folder = ResumableWorkDir.create()
    with pytest.raises(VoiceOSServerError):
        export_attempt(
            emulator, tmp_path, ResumableWorkDir(folder), pages=40, end=VoiceOSServerError("later")
        )
    file = folder / "conversation_messages.arrow"
    match spoil:
        case "cut":
            os.truncate(file, file.stat().st_size // 2)
        case "remove":
            file.unlink()
        case "holes":
            whole = file.read_bytes()
            middle = whole.rfind(b"\xff\xff\xff\xff", 0, len(whole) // 2)
            file.write_bytes(whole[:middle] + bytes(len(whole) - middle))
    with pytest.raises(
        DamagedWorkDirError, match=r"conversation_messages.arrow .* next attempt starts over"
    ) as caught:
        export_attempt(emulator, tmp_path, ResumableWorkDir(folder))
    assert caught.value.retryable
    assert not folder.exists()
    assert not (tmp_path / MANIFEST).exists()


def test_timed_out_task_resumes_in_its_next_attempt(emulator: Emulator, tmp_path: Path) -> None:
    """Otherwise it would time out again."""
    folder = ResumableWorkDir.create()
    with pytest.raises(AirflowTaskTimeout):
        export_attempt(
            emulator, tmp_path, ResumableWorkDir(folder), pages=40, end=AirflowTaskTimeout("time is up")
        )
    assert (folder / "checkpoint.json").exists()
    assert export_attempt(emulator, tmp_path, ResumableWorkDir(folder)).exported == len(truth(emulator))


def test_timeout_is_reported_as_the_cause() -> None:
    """Airflow calls `on_kill` before it raises the timeout."""
    try:
        raise AirflowTaskTimeout("time is up")
    except AirflowTaskTimeout:
        StopOnKillMixin().on_kill()
    with pytest.raises(TaskStopped):
        StopOnKillMixin().on_kill()


def test_non_retryable_failure_before_the_export_removes_all_rows() -> None:
    """The token is rejected before the rows are read."""
    folder = ResumableWorkDir.create()
    with pytest.raises(VoiceOSAuthError), ResumableWorkDir(folder):
        raise VoiceOSAuthError("never")
    assert not folder.exists()


def test_checkpoint_that_cannot_be_written_is_ignored(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It only saves time."""
    folder = ResumableWorkDir.create()
    (folder / "checkpoint.json.new").mkdir()
    assert export_attempt(emulator, tmp_path, ResumableWorkDir(folder)).exported == len(truth(emulator))
    assert "Cannot save a checkpoint in" in caplog.text


def test_attempt_without_a_checkpoint_leaves_no_rejected_record(tmp_path: Path) -> None:
    """The folder is used again without its contents."""
    folder = ResumableWorkDir.create()
    (folder / "rejected.jsonl").write_text('{"reason": "of a killed try"}\n')
    export_pages([page({"no": "id"})], tmp_path, max_bad_records=3, workdir=ResumableWorkDir(folder))
    assert len((tmp_path / f"_rejected/{DAY.label}.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("text", ["", "null", '{"read": {"reading": 1}, "written": {}}', "\x00"])
def test_unreadable_checkpoint_starts_the_export_over(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """The attempt logs it, and old rows do not count."""
    folder = ResumableWorkDir.create()
    with pytest.raises(VoiceOSServerError):
        export_attempt(
            emulator, tmp_path, ResumableWorkDir(folder), pages=20, end=VoiceOSServerError("later")
        )
    (folder / "checkpoint.json").write_text(text)
    workdir = ResumableWorkDir(folder)
    assert workdir.checkpoint is None
    assert "cannot be read" in caplog.text
    assert export_attempt(emulator, tmp_path, workdir).exported == len(truth(emulator))


def test_locked_folder_is_not_removed() -> None:
    """A task may wait for days before it writes; a killed one holds no lock."""
    folder = ResumableWorkDir.create()
    held = ResumableWorkDir(folder)
    for path in (folder, *folder.iterdir()):
        os.utime(path, (0, 0))
    remove_abandoned()
    assert folder.exists()
    held.release()
    os.utime(folder, (0, 0))
    remove_abandoned()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("fields", "hours"),
    [
        ({}, 2),
        ({"retry_delay": timedelta(hours=3)}, 5),
        ({"retry_delay": 3_600.0}, 3),
        ({"retry_delay": timedelta(minutes=5), "retry_exponential_backoff": 2.0}, 26),
        (
            {
                "retry_delay": timedelta(minutes=5),
                "retry_exponential_backoff": True,
                "max_retry_delay": timedelta(hours=1),
            },
            3,
        ),
        ({"retry_delay": timedelta(minutes=5), "retry_policy": object()}, 26),
    ],
)
def test_rows_are_kept_until_the_next_attempt_must_have_started(fields: dict[str, Any], hours: float) -> None:
    """This is the retry delay plus two hours to detect a dead worker and to queue."""
    with workdir_for(operator(**fields), context(Store())):
        (found,) = [each for each in list_workdirs() if each.in_use]
        assert found.owner is not None
        assert found.owner.keep_for == hours * 3_600
        assert str(found.owner.task) == "dag.export run"


def test_nothing_is_kept_after_the_last_attempt() -> None:
    """No retry follows."""
    with workdir_for(operator(retry_delay=timedelta(hours=3)), context(Store(), try_number=3)):
        (found,) = [each for each in list_workdirs() if each.in_use]
        assert found.owner is not None
        assert found.owner.keep_for == 0


def test_attempt_that_cannot_resume_removes_the_rows_of_the_last_one() -> None:
    """The state was lost; both belong to one task instance."""
    store = Store()
    first = workdir_for(operator(), context(store))
    first.save(SAVED)
    first.release()  # as at the end of its process
    left = Path(store["voiceos_export"]["folder"])
    assert left.exists()
    with workdir_for(operator(), context(Store(), try_number=2)).folder():
        assert not left.exists()


def test_attempt_with_another_interval_starts_over(
    tmp_path: Path, connect: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lookback` was lowered, so earlier rows are not loaded."""
    monkeypatch.setattr("voiceos_provider.pipeline.run._SAVE_EVERY", 0.0)
    emulator = emulate(12_000, clock=lambda: datetime.now(UTC))
    connect("warehouse", "sqlite", host=str(tmp_path / "warehouse.db"))
    run = {"data_interval_start": DAY.start, "data_interval_end": DAY.end}
    store = Store()

    def load(lookback: timedelta, try_number: int) -> dict[str, Any]:
        load = VoiceOSToSqlOperator(task_id="load", sql_conn_id="warehouse", lookback=lookback)
        receipt: dict[str, Any] = load.execute(run | context(store, try_number=try_number))
        return receipt

    with emulator.serve() as url:
        connect(host=url, password=emulator.token, extra={"max_attempts": 1})
        emulator.faults.add(Fault.server_error(500), at=range(80, 10_000))
        with pytest.raises(VoiceOSServerError):
            load(timedelta(hours=6), 1)
        emulator.faults.clear()
        assert (Path(store["voiceos_export"]["folder"]) / "checkpoint.json").exists()
        receipt = load(timedelta(0), 2)
    assert (receipt["interval_start"], receipt["exported"]) == ("2026-11-01T00:00:00Z", len(truth(emulator)))


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        ("success", False),
        ("failed", False),
        ("skipped", False),
        ("up_for_retry", True),
        ("running", True),
        (None, True),
    ],
)
def test_starting_task_removes_directories_of_ended_tasks(state: str | None, stays: bool) -> None:  # noqa: FBT001
    """A directory stays as long as the retry of its task may come."""
    store = Store()
    killed = workdir_for(operator(retry_delay=timedelta(hours=1)), context(store))
    folder = Path(store["voiceos_export"]["folder"])
    requested = []

    def get_task_states(**query: Any) -> dict[str, dict[str, str | None]]:
        requested.append(query)
        return {"run": {"export": state}}

    another = {"ti": SimpleNamespace(get_task_states=get_task_states)}
    remove_leftovers(another)
    assert requested == []  # a process works there
    killed.release()
    remove_leftovers({"ti": SimpleNamespace()})  # Airflow 2
    assert folder.exists()
    remove_leftovers(another)
    assert requested == [{"dag_id": "dag", "task_ids": ["export"], "run_ids": ["run"], "map_index": -1}]
    assert folder.exists() is stays
    shutil.rmtree(folder, ignore_errors=True)


def test_abandoned_directories_do_not_fail_a_task(caplog: pytest.LogCaptureFixture) -> None:
    """They stay if Airflow does not respond."""
    store = Store()
    workdir_for(operator(), context(store)).release()

    def get_task_states(**query: Any) -> Any:
        raise ConnectionError("no")

    remove_leftovers({"ti": SimpleNamespace(get_task_states=get_task_states)})
    assert "Cannot look up the state of" in caplog.text
    assert "(ConnectionError)." in caplog.text
    shutil.rmtree(store["voiceos_export"]["folder"])
