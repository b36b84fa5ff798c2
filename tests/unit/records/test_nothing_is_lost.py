"""Whatever the API sends is found again in the row."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from voiceos_provider.records import CONVERSATIONS

Reader = Callable[..., Any]
Path = tuple[str | int, ...]

_exact = json.JSONDecoder(parse_float=Decimal)
_COLUMNS = {
    column.path: column for column in CONVERSATIONS if column.path and column.path[0] != "agent_config"
}

# The first letter of every unknown key is one with which no credential begins.
UNKNOWN = (
    st.text(max_size=6).map(lambda rest: f"~{rest}").filter(lambda key: not key.lower().endswith("headers"))
)
KNOWN = sorted(
    {step for path in _COLUMNS for step in path} | {"messages", "agent_config", "prompt", "content"}
)
KEYS = (
    st.sampled_from(KNOWN)
    | UNKNOWN
    | st.sampled_from(["_exported_at", "extra", "total_cost", "duration_seconds"])
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True).map(
    Decimal
)
TEXTS = st.text(max_size=10).filter(lambda text: "://" not in text) | st.sampled_from(
    [
        "",
        "2024-06-03T16:58:02.104233+00:00",
        "2024-06-03T16:58:02",
        "1717433882",
        "0.5",
        "1_000",
        "NaN",
        "412.0",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """Arbitrary JSON at arbitrary places of a conversation, documented and not."""
    conversation: dict[str, Any] = draw(st.dictionaries(KEYS, JSON, max_size=5))
    for path in draw(st.lists(st.sampled_from(sorted(_COLUMNS)), max_size=8)):
        holder: Any = conversation
        for step in path[:-1]:
            if not isinstance(holder.get(step), dict):
                holder[step] = {}
            holder = holder[step]
        holder[path[-1]] = draw(JSON)
    return conversation | {"id": draw(st.text(min_size=1, max_size=5))}


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every scalar, and every empty object and list, with its path."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def spelled(value: Any) -> str:
    """JSON text in which every number keeps its digits."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def is_same(column: Any, sent: Any) -> bool:
    """Whether a column's value is what was sent: the same instant, the same number, the same text."""
    if isinstance(column, datetime):
        instant = datetime.fromisoformat(sent)
        return column == (instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    if isinstance(column, float):
        column = Decimal(repr(column))
    if isinstance(column, Decimal | int) and isinstance(sent, str):
        return bool(column == Decimal(sent))
    return type(sent) is not bool and bool(column == sent)


@settings(max_examples=400, deadline=None)
@given(conversations())
def test_every_leaf_that_was_sent_is_in_the_row(read: Reader, sent: dict[str, Any]) -> None:
    """In its column, or in `extra`, `messages` or `agent_config`, in its place; and nothing else is there."""
    (row,) = read(spelled(sent)).rows
    kept = dict(leaves(_exact.decode(row["extra"]))) if row["extra"] is not None else {}
    for name in ("messages", "agent_config"):
        if row[name] is not None:
            kept |= dict(leaves(_exact.decode(row[name]), (name,)))
    for path, value in leaves(sent):
        column = _COLUMNS.get(path)  # type: ignore[call-overload]
        if path in kept:
            assert kept.pop(path) == value, path
            assert column is None or row[column.name] is None, path
        elif column is not None and row[column.name] is not None:
            assert is_same(row[column.name], value), path
        else:
            # Only a null is nowhere: where a column or an object was expected, null says just that.
            assert value is None, path
            assert any(known[: len(path)] == path for known in _COLUMNS) or path in [
                ("messages",),
                ("agent_config",),
            ]
    assert not kept


@settings(max_examples=200, deadline=None)
@given(st.lists(conversations(), max_size=4))
def test_every_conversation_with_an_id_is_a_row(read: Reader, sent: list[dict[str, Any]]) -> None:
    """None is rejected, whatever else it holds, and each row is what it would be alone."""
    together = read(*map(spelled, sent))
    assert [row["id"] for row in together.rows] == [conversation["id"] for conversation in sent]
    assert together.rows == [row for conversation in sent for row in read(spelled(conversation)).rows]
    assert not together.decoded.rejected
