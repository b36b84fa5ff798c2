"""Completeness: all values that the API sends are in the rows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.conversation_strategies import (
    COLUMNS,
    arbitrary_conversations,
    documented_conversations,
    json_text,
)
from tests.support.decoding import Path, leaves

Reader = Callable[..., Any]

_exact = json.JSONDecoder(parse_float=Decimal)


def is_same(column: Any, sent: Any) -> bool:
    """Return whether a column's value equals what was sent, as instant, number or text."""
    if isinstance(column, datetime):
        instant = datetime.fromisoformat(sent.upper())
        return column == (instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    if isinstance(column, float):
        column = Decimal(repr(column))
    if isinstance(column, Decimal | int) and isinstance(sent, str):
        return bool(column == Decimal(sent))
    return type(sent) is not bool and bool(column == sent)


def kept_elsewhere(result: Any) -> dict[Path, Any]:
    """Return the leaves of a conversation's `extra`, messages and configuration by their path in the API."""
    (row,) = result.rows
    kept = dict(leaves(_exact.decode(row["extra"]))) if row["extra"] is not None else {}
    if row["agent_config_hash"] is not None:
        kept |= dict(leaves(_exact.decode(result.config_of(row)), ("agent_config",)))
    if row["message_count"] is not None:
        said = [_said(turn) for turn in result.messages]
        assert [turn["ordinal"] for turn in result.messages] == list(range(1, row["message_count"] + 1))
        kept |= dict(leaves(said, ("messages",)))
    return kept


def _said(turn: dict[str, Any]) -> Any:
    extra = {} if turn["extra"] is None else _exact.decode(turn["extra"])
    if not isinstance(extra, dict):
        assert turn["role"] is turn["content"] is None
        return extra
    columns = {name: turn[name] for name in ("role", "content") if turn[name] is not None}
    assert not extra.keys() & columns.keys()
    return extra | columns


def is_message(path: Path) -> bool:
    """Return whether it is a role or a content, where null only means that no value is known."""
    return path[:1] == ("messages",) and len(path) == 3 and path[2] in ("role", "content")


@settings(max_examples=50)
@given(arbitrary_conversations() | documented_conversations.filter(lambda sent: "://" not in json_text(sent)))
def test_every_leaf_that_was_sent_is_in_a_row(read: Reader, sent: dict[str, Any]) -> None:
    """It is in a column, `extra`, a message or a configuration, and the rows hold nothing else."""
    result = read(json_text(sent))
    (row,) = result.rows
    kept = kept_elsewhere(result)
    for path, value in leaves(sent):
        column = COLUMNS.get(path)  # type: ignore[call-overload]
        if path in kept:
            shown = kept.pop(path)
            assert shown == value or "headers" in path, path
            assert column is None or row[column.name] is None, path
        elif column is not None and row[column.name] is not None:
            assert is_same(row[column.name], value), path
        elif path[:1] == ("messages",) and value is None and is_message(path):
            # A message without a known value is an empty object.
            kept.pop(path[:2], None)
        else:
            # Only a null in place of a column or an object is omitted.
            assert value is None, path
            assert any(known[: len(path)] == path for known in COLUMNS) or path in [
                ("messages",),
                ("agent_config",),
            ]
    assert not kept


@settings(max_examples=30)
@given(st.lists(arbitrary_conversations(), max_size=4))
def test_every_conversation_with_an_id_is_a_row(read: Reader, sent: list[dict[str, Any]]) -> None:
    """None is rejected, and each row equals the one that it has alone."""
    together = read(*map(json_text, sent))
    alone = [read(json_text(conversation)) for conversation in sent]
    assert [row["id"] for row in together.rows] == [conversation["id"] for conversation in sent]
    for table in ("conversations", "conversation_costs", "conversation_messages"):
        assert together.tables[table] == [row for one in alone for row in one.tables[table]]
    configs = {row["agent_config_hash"]: row for one in alone for row in one.configs}
    assert together.configs == list(configs.values())
    assert not together.decoded.rejected
