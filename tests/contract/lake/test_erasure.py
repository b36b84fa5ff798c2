"""Erasure of conversations from a lake: nothing of them remains, in the history neither."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.conversations import conversation
from tests.support.erasing import find_below
from tests.support.exporting import DAY, NOW, export_pages, page
from tests.support.lakes import LakeUnderTest, interrupted
from voiceos_provider.interval import Interval
from voiceos_provider.load.erasure import Erased
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

LATER = NOW + timedelta(hours=1)
NEXT_DAY = Interval(DAY.end, DAY.end + timedelta(days=1))
ERASED = "call-7f3a's"
TEXTS = ("call-7f3a", "My name is Jane Roe.", "An earlier version.", "Prompt of Jane Roe.")


def personal(*said: str, **fields: Any) -> dict[str, Any]:
    """Return the conversation to erase, which alone uses its configuration."""
    made = conversation(ERASED, said=said or ("My name is Jane Roe.",), **fields)
    made["agent_config"]["prompt"] = "Prompt of Jane Roe."
    return made


def load(lake: LakeUnderTest, *calls: dict[str, Any], at: Any = NOW, interval: Interval = DAY) -> None:
    """Load conversations."""
    export_pages([page(*calls)], exported_at=at, interval=interval, target=lake.destination(), tables=TABLES)


def populate(lake: LakeUnderTest) -> None:
    """Load a few conversations in several commits; the one to erase has an earlier version."""
    load(lake, conversation("a"), personal("An earlier version."))
    load(lake, conversation("a"), personal(), conversation("zz"), at=LATER)
    load(lake, conversation("c"), interval=NEXT_DAY)


def rows(lake: LakeUnderTest, reader: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table."""
    return {table.name: lake.read(table, reader=reader) for table in TABLES}


def of_others(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that do not belong to the erased conversation."""
    return {
        name: [
            row
            for row in rows
            if ERASED not in (row.get("id"), row.get("conversation_id"))
            and row.get("prompt") != "Prompt of Jane Roe."
        ]
        for name, rows in found.items()
    }


def files_of(lake: LakeUnderTest) -> Path:
    """Return a local folder with everything that the lake holds."""
    if s3 := lake.location.s3:
        from tests.support.stores import BUCKET, S3

        copies = lake.location.folder / "copies"
        shutil.rmtree(copies, ignore_errors=True)
        for name, content in (
            S3(s3["endpoint"], lake.location.path.removeprefix(f"s3://{BUCKET}/")).files().items()
        ):
            if content:  # not a folder
                (copies / name).parent.mkdir(parents=True, exist_ok=True)
                (copies / name).write_bytes(content)
    return lake.location.folder


def erase(lake: LakeUnderTest, *ids: str) -> Erased:
    """Erase as the operator does."""
    return lake.destination().erase(ids)


def test_erasing_leaves_exactly_the_other_conversations(lake: LakeUnderTest) -> None:
    """Every library and the next export find the same rows; a second run finds nothing."""
    populate(lake)
    expected = of_others(rows(lake))
    erased = erase(lake, ERASED, "missing")
    for reader in lake.libraries:
        assert rows(lake, reader) == expected
    assert erased.found == {ERASED}
    assert {name: table.rows for name, table in erased.tables.items()} == {
        "conversations": 1,
        "conversation_costs": 5,
        "conversation_messages": 1,
        "agent_configs": 1,
    }
    assert all(table.files_deleted for table in erased.tables.values())
    again = erase(lake, ERASED, "missing")
    assert not again.found
    assert {(table.rows, table.files_deleted) for table in again.tables.values()} == {(0, 0)}
    load(lake, conversation("new"), at=LATER)
    assert {row["id"] for row in lake.read(CONVERSATIONS)} == {"a", "c", "new", "zz"}


def test_no_byte_of_an_erased_conversation_remains(lake: LakeUnderTest) -> None:
    """In data files, logs, manifests, statistics and the catalog."""
    populate(lake)
    assert len(find_below(files_of(lake), *TEXTS)) > len(TEXTS)
    erase(lake, ERASED)
    assert find_below(files_of(lake), *TEXTS) == []
    assert find_below(files_of(lake), "Good bye.")


def test_configuration_stays_while_a_conversation_refers_to_it(lake: LakeUnderTest) -> None:
    """It goes with the last one."""
    load(lake, conversation("a"), conversation("b"))
    assert not erase(lake, "a").tables[AGENT_CONFIGS.name].rows
    assert erase(lake, "b").tables[AGENT_CONFIGS.name].rows == 1
    assert all(not lake.count(table) for table in TABLES)


def test_erased_conversation_is_not_requested_as_pending(lake: LakeUnderTest) -> None:
    """The next export with `carry_pending` finds only the other one."""
    running: dict[str, Any] = {"status": "started", "ended_at": None, "cost_breakdown": None}
    load(lake, personal(**running), conversation("waiting", **running))
    erase(lake, ERASED)
    due = lake.destination().find_pending(NEXT_DAY, timedelta(days=3))
    assert due == PendingConversations({"waiting": DAY})


def test_erasing_from_a_lake_without_tables_creates_none(lake: LakeUnderTest) -> None:
    """It says that there are none."""
    assert erase(lake, ERASED) == Erased(exists=False)
    assert not any(lake.lake().table(table).refresh() for table in TABLES)


def test_concurrent_commit_is_kept(lake: LakeUnderTest) -> None:
    """The erasure reads the table again."""
    populate(lake)
    other = partial(load, lake, conversation("meanwhile"), interval=NEXT_DAY, at=LATER)
    destination = interrupted(lake.destination(), CONVERSATIONS, "delete", other)
    assert destination.erase([ERASED]).found == {ERASED}
    assert {row["id"] for row in lake.read(CONVERSATIONS)} == {"a", "c", "meanwhile", "zz"}


class Killed(BaseException):
    """The process ends."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that ends each later erasure after a number of commits and deleted files."""
    remaining = 10**9

    def count(target: str) -> None:
        module, _, name = target.rpartition(".")
        owner = pytest.importorskip(module.rpartition(".")[0])
        method = getattr(getattr(owner, module.rpartition(".")[2]), name)

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal remaining
            if not remaining:
                raise Killed
            remaining -= 1
            return method(*arguments, **options)

        monkeypatch.setattr(f"{target}", counted)

    def kill(writes: int) -> None:
        nonlocal remaining
        remaining = writes

    for target in (
        "deltalake.table.TableMerger.execute",
        "deltalake.fs.DeltaStorageHandler.delete_file",
        "deltalake.DeltaTable.create_checkpoint",
        "pyiceberg.io.pyarrow.PyArrowFileIO.delete",
        "pyiceberg.table.Transaction.commit_transaction",
    ):
        count(target)
    return kill


@pytest.mark.slow
def test_killed_between_any_two_writes_another_run_completes_the_erasure(
    lake: LakeUnderTest, killed_after: Callable[[int], None]
) -> None:
    """Writes of data, of history and of references are interrupted."""
    populate(lake)
    expected = of_others(rows(lake))
    at = LATER
    for writes in range(0, 200, 5 if lake.location.s3 else 1):
        at += timedelta(hours=1)
        load(lake, personal(), at=at)
        killed_after(writes)
        try:
            erase(lake, ERASED)
        except Killed:
            killed_after(10**9)
            if writes % 2:  # another export commits before the next run
                load(lake, conversation("c", said=(f"{writes}",)), interval=NEXT_DAY, at=at)
                expected = of_others(rows(lake))
            erase(lake, ERASED)
        else:
            break
        assert find_below(files_of(lake), *TEXTS) == []
        assert rows(lake) == expected
    assert 8 < writes < 199
