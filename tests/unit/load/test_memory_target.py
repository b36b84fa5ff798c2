"""A few conversations in memory, and never too many."""

import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from tests.support.exporting import NOW, emulate, export_pages, page, read_pages, truth
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.load.memory import MemoryDestination, data_frame, plain_rows
from voiceos_provider.transform import TABLES, Table
from voiceos_provider.transform.schema import CONVERSATION_COSTS, CONVERSATION_MESSAGES, CONVERSATIONS

NOWHERE = Path("/nowhere")


def test_all_conversations_are_kept_with_all_columns():
    """The table is the one that files hold."""
    emulator, target = emulate(300), MemoryDestination()
    receipt = export_pages(read_pages(emulator), NOWHERE, target=target)
    assert target.table is not None
    assert target.table.schema.equals(CONVERSATIONS.schema)
    assert set(target.table.column("id").to_pylist()) == truth(emulator)
    assert receipt.exported == len(truth(emulator))
    assert (receipt.files, receipt.manifest, receipt.target) == ([], None, "memory")


def test_only_the_columns_that_were_asked_for_are_kept_in_their_order():
    """The id need not be among them."""
    target = MemoryDestination(columns=["status", "uri"])
    export_pages([page({"id": "a", "status": "ended"})], NOWHERE, target=target)
    assert target.table is not None
    assert target.table.to_pylist() == [{"status": "ended", "uri": None}]


def test_a_column_that_does_not_exist_is_refused_before_anything_is_read():
    """The message lists those that do."""
    emulator = emulate(10)
    with pytest.raises(
        VoiceOSValueError, match=r"columns 'ID', 'cost' do not exist; there are id, uri, type"
    ):
        export_pages(
            read_pages(emulator), NOWHERE, target=MemoryDestination(columns=["ID", "cost", "status"])
        )
    assert emulator.requests == []


def test_of_two_copies_the_later_is_kept():
    """As in files; the order is that of the last copies."""
    target = MemoryDestination(columns=["id", "status"])
    pages = [page({"id": "a", "status": "queued"}, {"id": "b"}), page({"id": "a", "status": "ended"})]
    receipt = export_pages(pages, NOWHERE, target=target)
    assert target.table is not None
    assert target.table.to_pylist() == [{"id": "b", "status": None}, {"id": "a", "status": "ended"}]
    assert (receipt.listed, receipt.exported, receipt.duplicates) == (3, 2, 1)


def test_one_conversation_more_than_allowed_is_an_error_that_says_what_to_use():
    """As many as allowed are no error."""
    pages = [page({"id": "a"}, {"id": "b"}), page({"id": "c"})]
    export_pages(pages, NOWHERE, target=MemoryDestination(max_rows=3))
    target = MemoryDestination(max_rows=2)
    with pytest.raises(
        VoiceOSExportError, match="more than max_rows=2 conversations; use VoiceOSToObjectSto"
    ):
        export_pages(pages, NOWHERE, target=target)
    assert target.table is None


def test_too_many_bytes_are_an_error_that_says_what_to_do():
    """Only the columns that are kept count."""
    long = [page({"id": "a", "uri": "x" * 10_000})]
    export_pages(long, NOWHERE, target=MemoryDestination(columns=["id"], max_bytes=1_000))
    with pytest.raises(VoiceOSExportError, match="more than max_bytes=1,000 bytes; select fewer columns"):
        export_pages(long, NOWHERE, target=MemoryDestination(max_bytes=1_000))


def test_what_cannot_be_keyed_is_an_error():
    """There is no file to set it aside in."""
    with pytest.raises(VoiceOSExportError, match="1 conversations cannot be keyed: no usable id"):
        export_pages([page({"status": "ended"})], NOWHERE, target=MemoryDestination())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("pages", [[page()], []], ids=["an empty page", "no page"])
def test_an_interval_without_conversations_is_a_table_without_rows(table: Table, pages: list):
    """With every column."""
    target = MemoryDestination()
    export_pages(pages, NOWHERE, target=target, tables=[table])
    assert target.table is not None
    assert (len(target.table), target.table.schema) == (0, table.schema)


def test_what_belongs_to_an_earlier_copy_goes_with_it():
    """Messages and costs are those of the last copy, even if it has none; a configuration may stay."""
    first = {"id": "a", "messages": [{"role": "user", "content": "old"}] * 2, "agent_config": {"prompt": "p"}}
    first |= {"cost_breakdown": {"agent": {"cost": 1}, "voice": {"cost": 2}}}
    other = {
        "id": "b",
        "messages": [{"role": "user", "content": "b"}],
        "cost_breakdown": {"agent": {"cost": 3}},
    }
    last = {
        "id": "a",
        "messages": [{"role": "agent", "content": "new"}],
        "cost_breakdown": {"agent": {"cost": 4}},
    }
    kept = {}
    for table in TABLES:
        target = MemoryDestination()
        receipt = export_pages([page(first, other), page(last)], NOWHERE, target=target, tables=[table])
        assert target.table is not None
        assert (receipt.listed, receipt.exported, receipt.duplicates) == (3, 2, 1)
        kept[table.name] = target.table.to_pylist()
    assert [row["id"] for row in kept["conversations"]] == ["b", "a"]
    assert [row["content"] for row in kept[CONVERSATION_MESSAGES.name]] == ["b", "new"]
    assert [(row["conversation_id"], row["cost"]) for row in kept[CONVERSATION_COSTS.name]] == [
        ("b", 3),
        ("a", 4),
    ]
    assert len(kept["agent_configs"]) == 1


def test_plain_rows_are_plain_json_and_no_amount_passes_through_a_float():
    """What goes through XCom keeps every digit."""
    target = MemoryDestination(
        columns=["id", "total_cost", "started_at", "_exported_at", "agent_cost_seconds"]
    )
    costs = {"total": "12345678901234.000000000000000000000001", "agent": {"seconds": 1.5}}
    pages = [page({"id": "a", "cost_breakdown": costs, "started_at": "2026-11-01T00:00:00.5+00:00"})]
    export_pages(pages, NOWHERE, target=target, exported_at=NOW)
    (row,) = plain_rows(target.table)
    assert json.loads(json.dumps(row)) == row
    assert row == {
        "id": "a",
        "total_cost": "12345678901234.000000000000000000000001",
        "started_at": "2026-11-01T00:00:00.500000Z",
        "_exported_at": "2026-11-22T12:00:00Z",
        "agent_cost_seconds": 1.5,
    }
    assert Decimal(row["total_cost"]) == Decimal(costs["total"])


def test_pandas_keeps_whole_numbers_and_booleans_beside_nulls() -> None:
    """By default it would make floats of them, which do not hold every whole number."""
    exact = 2**53 + 1
    costs = {"language_model": {"provider": "openai", "cost": 0.1, "input_tokens": exact, "output_tokens": 0}}
    target = MemoryDestination()
    export_pages([page({"id": "a", "cost_breakdown": costs}, {"id": "b"})], target=target)
    frame = data_frame(target.table, "pandas")
    tokens = frame["language_model_cost_input_tokens"]
    assert tokens[0] == exact
    assert pd.isna(tokens[1])
    assert (str(tokens.dtype), str(frame["voice_own_key"].dtype)) == ("Int64", "boolean")
    assert frame["language_model_cost"][0] == Decimal("0.1")
