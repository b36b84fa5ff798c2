"""Rows on local disk, and the removal of duplicates among them."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from voiceos_provider.client.pages import Rejected
from voiceos_provider.load import spool as spool_module
from voiceos_provider.load.checkpoint import DamagedWorkDirError
from voiceos_provider.load.spool import Spool
from voiceos_provider.transform import TABLES, Rows, Table
from voiceos_provider.transform.schema import (
    AGENT_CONFIGS,
    CONVERSATION_COSTS,
    CONVERSATION_MESSAGES,
    CONVERSATIONS,
)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return an empty spool."""
    return spool_in(tmp_path)


def spool_in(folder: Path) -> Spool:
    """Return an empty spool for all tables."""
    folder.mkdir(exist_ok=True)
    return Spool(folder, TABLES)


def append(spool: Spool, *rows: tuple[int, str]) -> None:
    """Add a page of conversations, each as a version and an id.

    A conversation has as many messages as the last digit of its version says, and a cost; the page has a configuration.
    """
    first = spool.conversations
    messages = [
        (at, {"conversation_id": id_, "ordinal": ordinal, "content": f"version {version}"})
        for at, (version, id_) in enumerate(rows, first)
        for ordinal in range(1, version % 10 + 1)
    ]
    tables = {
        CONVERSATIONS: [
            (at, {"id": id_, "message_count": version}) for at, (version, id_) in enumerate(rows, first)
        ],
        CONVERSATION_COSTS: [
            (at, {"conversation_id": id_, "quantity": float(version)})
            for at, (version, id_) in enumerate(rows, first)
        ],
        CONVERSATION_MESSAGES: messages,
    }
    configs = [{"agent_config_hash": f"of the page at {first}"}] if rows else []
    spool.append(
        {
            table.name: Rows(
                pa.RecordBatch.from_pylist([row for _, row in numbered], schema=table.schema),
                pa.array([at for at, _ in numbered], pa.int64()),
            )
            for table, numbered in tables.items()
        }
        | {AGENT_CONFIGS.name: Rows(pa.RecordBatch.from_pylist(configs, schema=AGENT_CONFIGS.schema))}
    )


def column(spool: Spool, table: Table, name: str) -> list:
    """Return a column of the remaining rows."""
    return [value for batch in spool.batches(table) for value in batch.column(name).to_pylist()]


def content(spool: Spool) -> list[tuple[int, str]]:
    """Return the remaining conversations; costs and messages belong to the same ones, in the same order."""
    versions, ids = column(spool, CONVERSATIONS, "message_count"), column(spool, CONVERSATIONS, "id")
    assert column(spool, CONVERSATION_COSTS, "conversation_id") == ids
    assert column(spool, CONVERSATION_COSTS, "quantity") == versions
    owners = column(spool, CONVERSATION_MESSAGES, "conversation_id")
    assert owners == [id_ for version, id_ in zip(versions, ids, strict=True) for _ in range(version % 10)]
    said = column(spool, CONVERSATION_MESSAGES, "content")
    assert said == [f"version {version}" for version in versions for _ in range(version % 10)]
    return list(zip(versions, ids, strict=True))


def test_rows_keep_their_order(spool: Spool):
    """None is lost between page and file."""
    append(spool, (1, "b"), (2, "a"))
    append(spool)
    append(spool, (3, "c"))
    assert (spool.close(), spool.conversations) == (0, 3)
    assert content(spool) == [(1, "b"), (2, "a"), (3, "c")]
    assert len(column(spool, AGENT_CONFIGS, "agent_config_hash")) == 2


def test_spool_without_rows_can_be_read(spool: Spool):
    """An empty interval needs no special case."""
    assert (spool.close(), spool.conversations, content(spool)) == (0, 0, [])


def test_later_copy_replaces_the_earlier_one(spool: Spool):
    """It was read later, so it is newer."""
    append(spool, (1, "a"), (1, "b"))
    append(spool, (2, "a"), (3, "a"))
    assert spool.close() == 2
    assert content(spool) == [(1, "b"), (3, "a")]


def test_later_copy_without_messages_removes_those_of_the_earlier_one(spool: Spool):
    """Its costs are removed as well."""
    append(spool, (9, "a"), (2, "b"))
    append(spool, (10, "a"))
    assert spool.close() == 1
    assert content(spool) == [(2, "b"), (10, "a")]


def test_configuration_stays_if_its_conversation_is_listed_again(spool: Spool):
    """It belongs to no single conversation."""
    append(spool, (1, "a"))
    append(spool, (2, "a"))
    assert spool.close() == 1
    assert column(spool, AGENT_CONFIGS, "agent_config_hash") == ["of the page at 0", "of the page at 1"]


def test_duplicates_are_found_without_the_conversations_table(tmp_path: Path):
    """Only messages are requested."""
    spool = Spool(tmp_path, [CONVERSATION_MESSAGES])
    append(spool, (3, "a"), (1, "b"))
    append(spool, (2, "a"))
    assert (spool.close(), spool.conversations) == (1, 3)
    assert column(spool, CONVERSATION_MESSAGES, "content") == ["version 1", "version 2", "version 2"]
    assert sorted(path.stem for path in tmp_path.glob("*.arrow")) == [
        "conversation_messages",
        "conversations",
    ]


def test_copies_on_one_page_count_once(spool: Spool):
    """The distance between copies does not matter."""
    append(spool, (1, "a"), (2, "a"))
    assert spool.close() == 1
    assert content(spool) == [(2, "a")]


def test_result_equals_that_of_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Order, number of copies and page sizes are random."""
    monkeypatch.setattr(spool_module, "_HASHES_AT_ONCE", 50)
    for seed in range(40):
        rng = random.Random(seed)
        spool = spool_in(tmp_path / f"{seed}")
        rows = [(version, f"id{rng.randrange(200)}") for version in range(rng.randrange(1, 400))]
        rest = list(rows)
        while rest:
            size = rng.randrange(1, 60)
            append(spool, *rest[:size])
            del rest[:size]
        last = {id_: version for version, id_ in rows}
        assert spool.close() == len(rows) - len(last)
        assert content(spool) == sorted((version, id_) for id_, version in last.items())


def test_duplicates_are_found_across_flushes_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Positions are right in a file of many batches."""
    monkeypatch.setattr(spool_module, "_BATCH_ROWS", 3)
    spool = spool_in(tmp_path)
    for version in range(50):
        append(spool, (version, f"id{version % 7}"), (version, f"only{version}"))
    assert spool.close() == 43
    kept = content(spool)
    assert [row for row in kept if row[1].startswith("id")] == [(v, f"id{v % 7}") for v in range(43, 50)]
    assert [row[1] for row in kept if row[1].startswith("only")] == [f"only{v}" for v in range(50)]


def test_different_ids_with_the_same_hash_are_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    """The ids are compared after their hashes."""
    monkeypatch.setattr(spool_module, "hash", len, raising=False)
    append(spool, (1, "aa"), (1, "bb"), (1, "c"))
    append(spool, (2, "bb"), (2, "dd"))
    assert spool.close() == 1
    assert content(spool) == [(1, "aa"), (1, "c"), (2, "bb"), (2, "dd")]


def test_hashes_removed_by_another_process_are_reported(spool: Spool):
    """Otherwise copies of a conversation would be published."""
    append(spool, (1, "a"))
    spool._hashes_file.unlink()
    append(spool, (2, "a"))
    with pytest.raises(DamagedWorkDirError, match="holds 1 of 2 hashes"):
        spool.close()


def test_rows_are_kept_on_disk_and_not_in_memory(tmp_path: Path):
    """Arrow's memory does not grow with the number of pages."""
    spool = Spool(tmp_path, [CONVERSATIONS])
    rows = [{"id": f"{n:0>100000}"} for n in range(100)]
    page = Rows(
        pa.RecordBatch.from_pylist(rows, schema=CONVERSATIONS.schema), pa.array(range(100), pa.int64())
    )
    held = []
    for _ in range(20):
        spool.append({CONVERSATIONS.name: page})
        held.append(pa.total_allocated_bytes())
    assert max(held[10:]) <= max(held[:10])
    assert (tmp_path / "conversations.arrow").stat().st_size > 0


def test_pages_without_rows_take_no_memory(spool: Spool):
    """A filter may drop every row of a million pages."""
    append(spool)
    held = pa.total_allocated_bytes()
    for _ in range(3):
        append(spool)
    assert pa.total_allocated_bytes() == held
    assert all(file._buffer == [] for file in spool._files.values())
    spool.close()
    assert content(spool) == []


@pytest.mark.parametrize("raw", [b'{\n  "text": "a\\nb",\n  "n": 1.50\n}', b'"x"', b"{not JSON\n", b"\xff\n"])
def test_rejected_record_is_one_line(spool: Spool, raw: bytes):
    """A server may indent its JSON; numbers keep their digits."""
    spool.reject([Rejected("no usable id", raw)] * 2)
    spool.reject([Rejected("not a JSON object", b"7")])
    lines = spool.rejected_file.read_bytes().splitlines()
    assert len(lines) == spool.rejected == 3
    assert b"1.50" in lines[0] or b"1.50" not in raw
    first, second, third = spool.rejects()
    assert first == second
    assert third == Rejected("not a JSON object", b"7")


def test_rows_after_a_checkpoint_do_not_count(tmp_path: Path):
    """The same holds for rejected records."""
    spool = spool_in(tmp_path)
    append(spool, (1, "a"))
    spool.reject([Rejected("no usable id", b"{}")])
    written = spool.checkpoint()
    append(spool, (1, "b"))
    spool.reject([Rejected("no usable id", b"[]")])
    spool.checkpoint()
    resumed = Spool(tmp_path, TABLES, written=written)
    assert (resumed.conversations, resumed.rejected) == (1, 1)
    assert [each.raw for each in resumed.rejects()] == [b"{}"]
    assert resumed.resumed().configurations == {"of the page at 0"}
