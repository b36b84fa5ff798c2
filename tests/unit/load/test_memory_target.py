"""Exports to memory, and their limits."""

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
    """The table equals the one in files."""
    emulator, target = emulate(300), MemoryDestination()
    receipt = export_pages(read_pages(emulator), NOWHERE, target=target)
    assert target.table is not None
    assert target.table.schema.equals(CONVERSATIONS.schema)
    assert set(target.table.column("id").to_pylist()) == truth(emulator)
    assert receipt.exported == len(truth(emulator))
    assert (receipt.files, receipt.manifest, receipt.target) == ([], None, "memory")


def test_only_requested_columns_are_kept_in_their_order():
    """The id need not be one of them."""
    target = MemoryDestination(columns=["status", "uri"])
    export_pages([page({"id": "a", "status": "ended"})], NOWHERE, target=target)
    assert target.table is not None
    assert target.table.to_pylist() == [{"status": "ended", "uri": None}]


def test_unknown_column_is_rejected_before_any_read():
    """The message lists the known ones."""
    emulator = emulate(10)
    with pytest.raises(
        VoiceOSValueError, match=r"columns 'ID', 'cost' do not exist; there are id, uri, type"
    ):
        export_pages(
            read_pages(emulator), NOWHERE, target=MemoryDestination(columns=["ID", "cost", "status"])
        )
    assert emulator.requests == []


def test_later_of_two_copies_is_kept():
    """The order is that of the last copies, as in files."""
    target = MemoryDestination(columns=["id", "status"])
    pages = [page({"id": "a", "status": "queued"}, {"id": "b"}), page({"id": "a", "status": "ended"})]
    receipt = export_pages(pages, NOWHERE, target=target)
    assert target.table is not None
    assert target.table.to_pylist() == [{"id": "b", "status": None}, {"id": "a", "status": "ended"}]
    assert (receipt.listed, receipt.exported, receipt.duplicates) == (3, 2, 1)


def test_too_many_conversations_are_an_error_with_a_hint():
    """The exact maximum is allowed."""
    pages = [page({"id": "a"}, {"id": "b"}), page({"id": "c"})]
    export_pages(pages, NOWHERE, target=MemoryDestination(max_rows=3))
    target = MemoryDestination(max_rows=2)
    with pytest.raises(
        VoiceOSExportError, match="more than max_rows=2 conversations; use VoiceOSToObjectSto"
    ):
        export_pages(pages, NOWHERE, target=target)
    assert target.table is None


def test_too_many_bytes_are_an_error_with_a_hint():
    """Only selected columns count."""
    long = [page({"id": "a", "uri": "x" * 10_000})]
    export_pages(long, NOWHERE, target=MemoryDestination(columns=["id"], max_bytes=1_000))
    with pytest.raises(VoiceOSExportError, match="more than max_bytes=1,000 bytes; select fewer columns"):
        export_pages(long, NOWHERE, target=MemoryDestination(max_bytes=1_000))


def test_conversation_without_a_key_is_an_error():
    """There is no file to set it aside in."""
    with pytest.raises(VoiceOSExportError, match="1 conversations cannot be keyed: no usable id"):
        export_pages([page({"status": "ended"})], NOWHERE, target=MemoryDestination())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("pages", [[page()], []], ids=["an empty page", "no page"])
def test_interval_without_conversations_is_an_empty_table(table: Table, pages: list):
    """It has every column."""
    target = MemoryDestination()
    export_pages(pages, NOWHERE, target=target, tables=[table])
    assert target.table is not None
    assert (len(target.table), target.table.schema) == (0, table.schema)


def test_messages_and_costs_of_an_earlier_copy_are_dropped():
    """The last copy may have none; a configuration may stay."""
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


def test_plain_rows_are_json_without_floats_for_amounts():
    """XCom keeps every digit."""
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


def test_pandas_keeps_integers_and_booleans_beside_nulls() -> None:
    """By default pandas converts them to floats, which are inexact for large integers."""
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
