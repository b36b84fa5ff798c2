"""Models of the API's responses."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from voiceos_provider.client import Conversation, RawPage
from voiceos_provider.client.models import parse_conversation
from voiceos_provider.client.pages import decoded_page
from voiceos_provider.client.values import dumps


def read(**content: Any) -> Conversation:
    """Return a conversation with this content."""
    return parse_conversation(dumps({"id": "a"} | content).encode())


def test_only_an_id_is_required() -> None:
    """Any other missing key is None."""
    conversation = read()
    assert conversation.id == "a"
    assert conversation.invalid_values == {}
    assert {name for name, value in conversation if value is not None} == {"id", "invalid_values"}


@pytest.mark.parametrize("bad", ["{}", '{"id": null}', '{"id": ""}', '{"id": 7}', "[]", "null", '"a"'])
def test_item_without_an_id_is_not_a_conversation(bad: str) -> None:
    """Other conversations of its page are read."""
    with pytest.raises(ValueError, match=r"id|Conversation"):
        parse_conversation(bad.encode())
    page = decoded_page(
        RawPage((Raw(b'{"id":"a"}'), Raw(bad.encode()), Raw(b'{"id":"b"}')), ("a", None, "b"), True)
    )
    assert [conversation.id for conversation in page.conversations] == ["a", "b"]
    assert [(item.reason, item.raw) for item in page.rejected] == [
        ("not an object with a string 'id'", bad.encode())
    ]
    assert page.has_more is True


def test_undocumented_keys_are_attributes_at_every_depth() -> None:
    """New fields of the API can be used without an update."""
    conversation: Any = read(
        tags=["x"],
        cost_breakdown={"recording": {"cost": 1}, "voice": {"minutes": 2}},
        phone_call={"sip": True},
    )
    assert conversation.tags == ["x"]
    assert conversation.cost_breakdown.recording == {"cost": 1}
    assert conversation.cost_breakdown.voice.minutes == 2
    assert conversation.phone_call.sip is True
    assert conversation.invalid_values == {}


@pytest.mark.parametrize(
    "text", ["0.1234567890123456789", "0.056900000000000006", "1e-7", "0", "12345678901234567890"]
)
def test_money_is_never_a_float(text: str) -> None:
    """The decimal comes from the JSON text."""
    conversation = parse_conversation(f'{{"id":"a","cost_breakdown":{{"total":{text}}}}}'.encode())
    assert conversation.cost_breakdown is not None
    assert isinstance(conversation.cost_breakdown.total, Decimal)
    assert conversation.cost_breakdown.total == Decimal(text)


ODD = [
    ({"started_at": 1717433882}, {"started_at": 1717433882}),
    ({"ended_at": ""}, {"ended_at": ""}),
    ({"status": 3}, {"status": 3}),
    ({"phone_call": "+14155550142"}, {"phone_call": "+14155550142"}),
    ({"phone_call": {"to_number": 4155550142}}, {"phone_call.to_number": 4155550142}),
    ({"cost_breakdown": {"total": "n/a"}}, {"cost_breakdown.total": "n/a"}),
    (
        {"cost_breakdown": {"voice": {"characters": Decimal("1.5")}}},
        {"cost_breakdown.voice.characters": Decimal("1.5")},
    ),
    ({"messages": {"role": "agent"}}, {"messages": {"role": "agent"}}),
    ({"messages": [{"role": 1, "content": "x"}]}, {"messages.0.role": 1}),
    ({"messages": [None, "x"]}, {"messages": [None, "x"]}),
    ({"agent_config": []}, {"agent_config": []}),
    ({"agent_config": {"voice": {"model": 1}}}, {"agent_config.voice.model": 1}),
    ({"status": 1, "type": 2}, {"status": 1, "type": 2}),
]


@pytest.mark.parametrize(("sent", "odd"), ODD)
def test_invalid_value_becomes_none_and_is_kept(sent: dict[str, Any], odd: dict[str, Any]) -> None:
    """`invalid_values` holds it by its path, and everything else is read."""
    conversation = read(**sent, uri="/x")
    assert conversation.invalid_values == odd
    assert conversation.uri == "/x"


def test_neighbours_of_an_invalid_value_are_read() -> None:
    """An invalid role affects neither its message nor the others."""
    conversation = read(messages=[{"role": 1, "content": "x"}, {"role": "user", "content": "y"}])
    assert conversation.messages is not None
    assert [(message.role, message.content) for message in conversation.messages] == [
        (None, "x"),
        ("user", "y"),
    ]


def test_data_of_the_caller_is_not_changed() -> None:
    """Invalid values are removed from a copy."""
    data = {"id": "a", "messages": [{"role": 1}], "cost_breakdown": {"total": "n/a"}}
    Conversation.model_validate(data)
    assert data == {"id": "a", "messages": [{"role": 1}], "cost_breakdown": {"total": "n/a"}}


def test_repr_shows_no_personal_data_and_no_secrets() -> None:
    """It may be logged."""
    conversation = read(
        phone_call={"to_number": "+14155550142"},
        messages=[{"role": "user", "content": "my card is 4111"}],
        agent_config={"webhooks": [{"headers": {"x": "s3cr3t"}}]},
    )
    assert not any(secret in repr(conversation) for secret in ("4155550142", "4111", "s3cr3t"))
    assert conversation.agent_config is not None
    assert "s3cr3t" not in repr(conversation.agent_config)


def test_deep_nesting_does_not_affect_the_page() -> None:
    """The key is nested as deep as JSON can be read, next to an invalid value."""
    deep = b'{"id":"a","status":7,"x":' + b'{"y":' * 700 + b"1" + b"}" * 701
    page = decoded_page(RawPage((Raw(deep), Raw(b'{"id":"b"}')), ("a", "b"), None))
    assert [conversation.id for conversation in page.conversations] == ["a", "b"]
    assert page.conversations[0].invalid_values == {"status": 7}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([name for name in Conversation.model_fields if name not in ("id", "invalid_values")])


@given(st.dictionaries(KEYS, JSON, max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow])  # time depends on the machine
def test_any_json_at_any_key_is_read(content: dict[str, Any]) -> None:
    """Values that do not fit are set aside."""
    conversation = read(**content)
    assert conversation.id == "a"
    for path, value in conversation.invalid_values.items():
        if "." not in path:
            assert getattr(conversation, path) is None
            assert value == content[path] or isinstance(value, list | dict)
