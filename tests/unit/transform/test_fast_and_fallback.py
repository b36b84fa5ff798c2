"""Equality of the rows of the fast path and the fallback decoder."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.conversation_strategies import (
    arbitrary_conversations,
    documented_conversations,
    invalid_value_conversations,
    json_text,
)
from tests.support.decoding import EXPORTED_AT, INTERVAL, Read, as_page, as_text, decoded
from voiceos_provider.client.models import ConversationStruct
from voiceos_provider.client.pages import parse_page, split_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.transform import Decoder, Redaction

CHOICES = st.sampled_from(
    [
        {},
        {"statuses": ["ended"]},
        {"redaction": Redaction("hash", "drop", "drop", hash_key="k" * 16)},
        {"redaction": Redaction("drop")},
        {"redaction": Redaction(messages="drop")},
        {"redaction": Redaction(prompts="drop")},
    ]
)

ODD = [Decimal("12.3456789012345678901"), True, "x"]


def comparable(read: Read) -> dict[str, Any]:
    """Return all results of the decoder in a form that can be compared."""
    result = read.decoded
    return {
        "tables": {name: [repr(row) for row in rows] for name, rows in read.tables.items()},
        "positions": {
            name: None if rows.positions is None else rows.positions.to_pylist()
            for name, rows in result.rows.items()
        },
        "counts": (result.exported, result.filtered),
        "rejected": result.rejected,
        "drift": result.drift.as_dict(),
    }


def both(items: list[bytes]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the conversations of a page as the fast path and the fallback decoder get them."""
    response = Response(200, {}, b'{"items":[' + b",".join(items) + b"]}")
    request = Listing().page(1)
    return parse_page(request, response).items, split_page(request, response).items


@settings(max_examples=50)
@given(st.lists(documented_conversations | arbitrary_conversations(), max_size=4), st.data())
def test_any_mixture_in_any_order_gives_the_same_rows(
    sent: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Tables, positions, counters and drift do not depend on the decoder of each item."""
    options = data.draw(CHOICES)
    fast, fallback = both([json_text(conversation).encode() for conversation in sent])
    mixed = [data.draw(st.sampled_from(pair)) for pair in zip(fast, fallback, strict=True)]
    expected = comparable(decoded(fallback, **options))
    assert comparable(decoded(fast, **options)) == expected
    assert comparable(decoded(mixed, **options)) == expected


@settings(max_examples=50)
@given(st.lists(invalid_value_conversations(), min_size=2, max_size=6))
@example([{"id": "a", "started_at": "2026-11-01"}, {"id": "b", "started_at": "2026-02-30T00:00:00Z"}])
@example([{"id": "a", "started_at": "2026-11-01"}, {"id": "b", "ended_at": "0001-01-01T00:00:00+05:00"}])
@example([{"id": "a", "cost_breakdown": {"total": 1, "agent": {"cost": 1, "seconds": odd}}} for odd in ODD])
def test_several_kinds_of_invalid_values_give_the_same_rows(sent: list[dict[str, Any]]) -> None:
    """A column that fails at one kind has not seen the others yet."""
    fast, fallback = both([json_text(conversation).encode() for conversation in sent])
    assert all(isinstance(item, ConversationStruct) for item in fast)
    assert comparable(decoded(fast)) == comparable(decoded(fallback))


@settings(max_examples=50)
@given(documented_conversations)
@example({"id": "a", "phone_call": {}})
@example({"id": "a", "cost_breakdown": {"total": Decimal("1e-411")}})
@example({"id": "a", "cost_breakdown": {"voice": {"cost": "x", "characters": 2**63}, "agent": {"cost": []}}})
@example({"id": "a", "cost_breakdown": {"voice": {"cost": []}, "agent": {"cost": []}}})
@example({"id": "a", "cost_breakdown": {"total": Decimal("-0"), "agent": {"seconds": Decimal("-0")}}})
@example({"id": "a", "cost_breakdown": {"total": Decimal("-0.0"), "agent": {"seconds": Decimal("-0.0")}}})
@example({"id": "a", "phone_call": {"provider": None}})
@example({"id": "a", "cost_breakdown": {"agent": {}, "voice": {"characters": 2**63}}})
@example({"id": "a", "cost_breakdown": {"voice": {"characters": 2**63 - 1}}})
@example({"id": "a", "started_at": "0001-01-01T00:00:00Z", "ended_at": "9999-12-31T23:59:59Z"})
def test_single_conversation_gives_the_same_rows(sent: dict[str, Any]) -> None:
    """It is anything that the contract allows."""
    text = json_text(sent)
    assert comparable(decoded([as_page(text)])) == comparable(decoded([as_text(text)]))


@settings(max_examples=25)
@given(st.lists(documented_conversations, max_size=5), st.integers(0, 5))
def test_page_may_be_split_anywhere(sent: list[dict[str, Any]], cut: int) -> None:
    """The rows of two chunks are those of one."""
    items = [as_page(json_text(conversation)) for conversation in sent]
    whole = decoded(items)
    decoder = Decoder(INTERVAL, EXPORTED_AT)
    parts = [decoder.decode(chunk) for chunk in (items[:cut], items[cut:])]
    for name, rows in whole.decoded.rows.items():
        assert [repr(row) for part in parts for row in part.rows[name].batch.to_pylist()] == list(
            map(repr, rows.batch.to_pylist())
        )
        if rows.positions is not None:
            positions = [at for part in parts for at in part.rows[name].positions.to_pylist()]
            assert positions == rows.positions.to_pylist()


NEARLY_ALL = {
    "id": "a",
    "uri": "/a",
    "type": "web_call",
    "status": "ended",
    "started_at": "2024-06-03T16:58:02Z",
    "messages": [{"role": "agent", "content": "hello"}],
    "agent_config": {"prompt": "p", "voice": {"provider": "x", "model": "m"}},
    "cost_breakdown": {"total": 0.1, "agent": {"provider": "voiceos", "cost": 0.1, "seconds": 2}},
}


def test_documented_conversation_uses_the_fast_path() -> None:
    """Otherwise the tests above would compare the fallback decoder with itself."""
    assert isinstance(as_page(json.dumps(NEARLY_ALL)), ConversationStruct)
    assert isinstance(as_text(json.dumps(NEARLY_ALL)), msgspec.Raw)


@pytest.mark.parametrize("depth", [900, 930, 960, 990, 1_200])
@pytest.mark.parametrize("place", ['"agent_config":%s', '"cost_breakdown":{"total":%s}', '"x":%s'])
def test_nesting_at_the_recursion_limit_affects_no_other_conversation(place: str, depth: int) -> None:
    """The conversation is a row or rejected."""
    deep = '{"y":' * depth + "1" + "}" * depth
    odd = '{"id":"b",' + place % deep + "}"
    for way in (as_page, as_text):
        result = decoded(map(way, ['{"id":"a"}', odd, '{"id":"c"}']))
        assert {"a", "c"} <= {row["id"] for row in result.rows}
        assert len(result.rows) + len(result.decoded.rejected) == 3
