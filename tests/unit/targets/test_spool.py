"""Rows that wait on local disk, and which of two copies counts."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from voiceos_provider.targets import spool as spool_module
from voiceos_provider.targets.spool import Spool

SCHEMA = pa.schema([("version", pa.int64()), ("id", pa.string())])


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty one."""
    return Spool(tmp_path / "spool.arrow", SCHEMA)


def append(spool: Spool, *rows: tuple[int, str]) -> None:
    """Add a page of rows."""
    versions, ids = zip(*rows, strict=True) if rows else ((), ())
    spool.append(pa.record_batch([pa.array(versions, pa.int64()), pa.array(ids, pa.string())], schema=SCHEMA))


def content(spool: Spool) -> list[tuple[int, str]]:
    """The rows that count."""
    return [(row["version"], row["id"]) for batch in spool.batches() for row in batch.to_pylist()]


def test_rows_come_back_in_the_order_in_which_they_came(spool: Spool):
    """Nothing is lost or turned round between the pages and the file."""
    append(spool, (1, "b"), (2, "a"))
    append(spool)
    append(spool, (3, "c"))
    assert (spool.seal(), len(spool)) == (0, 3)
    assert content(spool) == [(1, "b"), (2, "a"), (3, "c")]


def test_a_spool_without_rows_is_still_a_spool(spool: Spool):
    """An empty interval is no special case."""
    assert (spool.seal(), len(spool), content(spool)) == (0, 0, [])


def test_the_later_copy_counts(spool: Spool):
    """A conversation that is listed again was read later, so it is the newer truth."""
    append(spool, (1, "a"), (1, "b"))
    append(spool, (2, "a"), (3, "a"))
    assert spool.seal() == 2
    assert content(spool) == [(1, "b"), (3, "a")]


def test_copies_on_one_page_count_once(spool: Spool):
    """It does not matter how far apart the copies are."""
    append(spool, (1, "a"), (2, "a"))
    assert spool.seal() == 1
    assert content(spool) == [(2, "a")]


def test_what_is_kept_is_what_a_dictionary_would_keep(tmp_path: Path):
    """Whatever the order, the number of copies and the size of the pages."""
    for seed in range(40):
        dice = random.Random(seed)
        spool = Spool(tmp_path / f"{seed}.arrow", SCHEMA)
        rows = [(version, f"id{dice.randrange(200)}") for version in range(dice.randrange(1, 400))]
        rest = list(rows)
        while rest:
            size = dice.randrange(1, 60)
            append(spool, *rest[:size])
            del rest[:size]
        last = {id_: version for version, id_ in rows}
        assert spool.seal() == len(rows) - len(last)
        assert content(spool) == sorted((version, id_) for id_, version in last.items())


def test_copies_are_found_across_every_flush_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Positions stay right when the rows lie in many batches of the file."""
    monkeypatch.setattr(spool_module, "_BATCH_ROWS", 3)
    spool = Spool(tmp_path / "spool.arrow", SCHEMA)
    for version in range(50):
        append(spool, (version, f"id{version % 7}"), (version, f"only{version}"))
    assert spool.seal() == 43
    kept = content(spool)
    assert [row for row in kept if row[1].startswith("id")] == [(v, f"id{v % 7}") for v in range(43, 50)]
    assert [row[1] for row in kept if row[1].startswith("only")] == [f"only{v}" for v in range(50)]


def test_ids_with_the_same_hash_are_told_apart(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    """Hashes only raise a suspicion; the ids decide."""
    monkeypatch.setattr(spool_module, "hash", len, raising=False)
    append(spool, (1, "aa"), (1, "bb"), (1, "c"))
    append(spool, (2, "bb"), (2, "dd"))
    assert spool.seal() == 1
    assert content(spool) == [(1, "aa"), (1, "c"), (2, "bb"), (2, "dd")]


def test_rows_wait_on_disk_and_not_in_memory(spool: Spool, tmp_path: Path):
    """What Arrow holds does not grow with the number of pages."""
    page = pa.record_batch(
        [pa.array(range(100), pa.int64()), pa.array([f"{n:0>100000}" for n in range(100)])], schema=SCHEMA
    )
    held = []
    for _ in range(20):
        spool.append(page)
        held.append(pa.total_allocated_bytes())
    assert max(held[10:]) <= max(held[:10])
    assert (tmp_path / "spool.arrow").stat().st_size > 0


def test_pages_without_rows_take_no_memory(spool: Spool):
    """A filter that keeps nothing for a million pages is as cheap as one page."""
    append(spool)
    for _ in range(3):
        append(spool)
    assert spool._pending == []
    spool.seal()
    assert content(spool) == []
