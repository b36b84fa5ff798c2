"""Pages with deviations from the contract: decoded, or rejected with the reason."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.client import AsyncVoiceOSClient, ClientConfig, Conversation, Retry, VoiceOSClient
from voiceos_provider.client.models import ConversationStruct
from voiceos_provider.client.pages import parse_page, split_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import VoiceOSResponseError
from voiceos_provider.interval import Interval
from voiceos_provider.transform import Decoder

DATA = Path(__file__).parent / "data"
DEVIATIONS = {path.stem: path.read_bytes() for path in sorted((DATA / "deviations").glob("*.json"))}
EXAMPLES = {path.stem: path.read_bytes() for path in sorted((DATA / "examples").glob("*.json"))}
BASE = json.loads(EXAMPLES["conversation_ended_inbound"])
STARTED = datetime(2024, 6, 3, 16, 58, 2, 104_233, tzinfo=UTC)
ENDED = datetime(2024, 6, 3, 17, 1, 44, tzinfo=UTC)


@dataclass(frozen=True)
class Understood:
    """The expected result of a page; all other values equal those of the clean conversation."""

    row: dict[str, Any] = field(default_factory=dict)
    """Columns that differ."""
    model: dict[str, Any] = field(default_factory=dict)
    """Attributes of the typed model, by path."""
    extra: dict[str, Any] | None = None
    odd_columns: dict[str, int] = field(default_factory=dict)
    undocumented_fields: dict[str, int] = field(default_factory=dict)
    undocumented_values: dict[str, set[str]] = field(default_factory=dict)
    invalid_values: dict[str, Any] = field(default_factory=dict)
    has_more: bool | None = False
    conversations: int = 1


@dataclass(frozen=True)
class Refused:
    """The reason to reject a page."""

    because: str


NO_COSTS = {
    "total_cost": None,
    **{f"{part}_cost": None for part in ("agent", "language_model", "transcriber", "voice", "telephony")},
    **{
        f"{part}_cost_provider": None
        for part in ("agent", "language_model", "transcriber", "voice", "telephony")
    },
    **{f"{part}_cost_seconds": None for part in ("agent", "transcriber", "telephony")},
    "voice_cost_characters": None,
    "language_model_cost_input_tokens": None,
    "language_model_cost_output_tokens": None,
}
NO_PHONE = {"phone_provider": None, "from_number": None, "to_number": None}
NO_SETTINGS = {
    **{f"{part}_provider": None for part in ("language_model", "transcriber", "voice")},
    **{f"{part}_own_key": None for part in ("language_model", "transcriber", "voice")},
    "language_model": None,
    "transcriber_model": None,
    "voice_model": None,
    "max_duration_seconds": None,
    "prompt_hash": None,
}
OTHER_CONFIG = {"agent_config_hash": ...}
"""Columns that always differ; every case compares them with what was sent."""

EXPECTED: dict[str, Understood | Refused] = {
    "agent_config_empty": Understood(row=OTHER_CONFIG | NO_SETTINGS, model={"agent_config.prompt": None}),
    "cost_breakdown_null_on_ended": Understood(
        row=NO_COSTS, model={"cost_breakdown": None, "status": "ended"}
    ),
    "cost_int_total": Understood(row={"total_cost": Decimal(0)}, model={"cost_breakdown.total": Decimal(0)}),
    "cost_telephony_missing": Understood(
        row={name: None for name in NO_COSTS if name.startswith("telephony")},
        model={"cost_breakdown.telephony": None},
    ),
    "cost_total_null": Understood(row={"total_cost": None}, model={"cost_breakdown.total": None}),
    "doc_llm_cost_provider_google": Understood(
        row={"language_model_cost_provider": "google"},
        model={"cost_breakdown.language_model.provider": "google"},
    ),
    "doc_type_web_call": Understood(row={"type": "web_call"}, model={"type": "web_call"}),
    "doc_voice_cost_provider_rimeai": Understood(
        row={"voice_cost_provider": "rimeai"}, model={"cost_breakdown.voice.provider": "rimeai"}
    ),
    "ended_at_present_status_started": Understood(
        row={"status": "started"}, model={"status": "started", "ended_at": ENDED}
    ),
    "enum_ended_reason_legacy_human_hangup": Understood(
        row={"ended_reason": "human_hangup"},
        model={"ended_reason": "human_hangup"},
        undocumented_values={"conversations.ended_reason": {"human_hangup"}},
    ),
    "enum_event_new": Understood(
        row=OTHER_CONFIG,
        model={"agent_config.webhooks.0.events": ["conversation:ended", "conversation:transferred"]},
        undocumented_values={"agent_config.webhooks.[].events.[]": {"conversation:transferred"}},
    ),
    "enum_llm_model_free_string": Understood(
        row=OTHER_CONFIG | {"language_model": "ft:gpt-4o:acme"},
        model={"agent_config.language_model.model": "ft:gpt-4o:acme"},
    ),
    "enum_message_role_legacy_human": Understood(
        model={"messages.1.role": "human"}, undocumented_values={"conversation_messages.role": {"human"}}
    ),
    "enum_message_role_tool": Understood(
        row={"message_count": 5},
        model={"messages.4.role": "tool", "messages.4.content": "{}"},
        undocumented_values={"conversation_messages.role": {"tool"}},
    ),
    "enum_telephony_vonage": Understood(
        row={"phone_provider": "vonage"},
        model={"phone_call.provider": "vonage"},
        undocumented_values={"conversations.phone_provider": {"vonage"}},
    ),
    "enum_transcriber_gladia": Understood(
        row=OTHER_CONFIG | {"transcriber_provider": "gladia", "transcriber_model": None},
        model={"agent_config.transcriber.provider": "gladia", "agent_config.transcriber.model": None},
        undocumented_values={"conversations.transcriber_provider": {"gladia"}},
    ),
    "enum_voice_elevenlabs_fractional_boost": Understood(
        row=OTHER_CONFIG | {"voice_provider": "elevenlabs", "voice_model": None},
        model={
            "agent_config.voice.provider": "elevenlabs",
            "agent_config.voice.voice_id": "rachel",
            "agent_config.voice.similarity_boost": Decimal("0.75"),
        },
    ),
    "env_duplicate_item": Understood(conversations=2),
    "env_extra_keys": Understood(),
    "env_has_more_int_1": Understood(has_more=None),
    "env_has_more_missing": Understood(has_more=None),
    "env_has_next_legacy": Understood(),
    "env_index_missing": Understood(),
    "env_index_string": Understood(),
    "env_items_missing": Refused("the page has no 'items' (its keys: index, has_more)"),
    "env_server_clamps_index": Understood(),
    "extra_top_level_fields": Understood(
        extra={"created_at": "2024-06-03T16:57:59+00:00", "recording_url": None, "tags": ["a"]},
        model={"created_at": "2024-06-03T16:57:59+00:00", "recording_url": None, "tags": ["a"]},
        undocumented_fields={"created_at": 1, "recording_url": 1, "tags": 1},
    ),
    "legacy_wako_cost_provider": Understood(
        row={"agent_cost_provider": "wako"},
        model={"cost_breakdown.agent.provider": "wako"},
        undocumented_values={"conversations.agent_cost_provider": {"wako"}},
    ),
    "max_duration_null": Understood(
        row=OTHER_CONFIG | {"max_duration_seconds": None}, model={"agent_config.max_duration_seconds": None}
    ),
    "message_content_null": Understood(model={"messages.0.content": None}),
    "metadata_null": Understood(row=OTHER_CONFIG, model={"agent_config.metadata": None}),
    "missing_optional_keys": Understood(
        row=NO_COSTS
        | NO_PHONE
        | dict.fromkeys(("started_at", "ended_at", "duration_seconds", "ended_reason", "agent_id"))
        | dict.fromkeys(("message_count",)),
        model={"messages": None, "phone_call": None, "cost_breakdown": None, "started_at": None},
    ),
    "missing_uri": Understood(row={"uri": None}, model={"uri": None}),
    "phone_call_null_on_phone_type": Understood(
        row=NO_PHONE, model={"phone_call": None, "type": "inbound_phone_call"}
    ),
    "ts_empty_string": Understood(
        row={"ended_at": None, "duration_seconds": None},
        model={"ended_at": None},
        extra={"ended_at": ""},
        odd_columns={"ended_at": 1},
        invalid_values={"ended_at": ""},
    ),
    "ts_ended_before_started": Understood(
        row={"ended_at": datetime(2024, 6, 3, 16, 57, tzinfo=UTC), "duration_seconds": None},
        model={"ended_at": datetime(2024, 6, 3, 16, 57, tzinfo=UTC)},
    ),
    "ts_epoch_seconds": Understood(
        row={"started_at": None, "duration_seconds": None},
        model={"started_at": None},
        extra={"started_at": 1717433882},
        odd_columns={"started_at": 1},
        invalid_values={"started_at": 1717433882},
    ),
    "ts_epoch_string": Understood(
        row={"started_at": None, "duration_seconds": None},
        model={"started_at": None},
        extra={"started_at": "1717433882.104"},
        odd_columns={"started_at": 1},
        invalid_values={"started_at": "1717433882.104"},
    ),
    "ts_naive": Understood(model={"started_at": STARTED, "ended_at": ENDED}),
    "ts_offset_no_colon": Understood(model={"started_at": STARTED}),
    "ts_z_suffix": Understood(
        row={"started_at": STARTED.replace(microsecond=0), "duration_seconds": 222.0},
        model={"started_at": STARTED.replace(microsecond=0)},
    ),
}


def decode(items: Any) -> Any:
    """Decode rows of conversations."""
    interval = Interval(datetime(2024, 6, 3, tzinfo=UTC), datetime(2024, 6, 4, tzinfo=UTC))
    return Decoder(interval, datetime(2024, 6, 5, tzinfo=UTC)).decode(items)


def split(body: bytes, parse: Any = parse_page) -> Any:
    """Return the page in a body."""
    return parse(Listing().page(1), Response(200, {}, body))


def rows_of(decoded: Any, table: str = "conversations") -> list[dict[str, Any]]:
    """Return the rows of a table."""
    rows: list[dict[str, Any]] = decoded.rows[table].batch.to_pylist()
    return rows


@pytest.fixture(scope="module")
def clean_row() -> dict[str, Any]:
    """Return the row of the conversation that all deviations derive from."""
    body = b'{"items":[' + EXAMPLES["conversation_ended_inbound"] + b"]}"
    (row,) = rows_of(decode(split(body).items))
    return row


def attribute(conversation: Any, path: str) -> Any:
    """Return the value at a path of a conversation."""
    for step in path.split("."):
        conversation = conversation[int(step)] if step.isdecimal() else getattr(conversation, step)
    return conversation


def understood(name: str) -> Understood:
    """Return the expected result of a page that can be used."""
    expected = EXPECTED[name]
    assert isinstance(expected, Understood)
    return expected


EMPTY = "env_items_null"
UNDERSTOOD = [name for name, expected in EXPECTED.items() if isinstance(expected, Understood)]
REFUSED = {name: expected.because for name, expected in EXPECTED.items() if isinstance(expected, Refused)}


def test_every_page_has_an_expectation() -> None:
    """Neither list has an entry that the other lacks."""
    assert EXPECTED.keys() | {EMPTY} == DEVIATIONS.keys()


@pytest.mark.parametrize("parse", [parse_page, split_page])
@pytest.mark.parametrize("name", UNDERSTOOD)
def test_deviation_becomes_a_row(name: str, parse: Any, clean_row: dict[str, Any]) -> None:
    """Only the affected columns change; invalid values become null, are kept in `extra`, and are counted."""
    expected = understood(name)
    decoded = decode(split(DEVIATIONS[name], parse).items)
    rows = rows_of(decoded)
    (config,) = rows_of(decoded, "agent_configs")
    sent = json.loads(DEVIATIONS[name])["items"]
    assert len(rows) == expected.conversations
    assert decoded.rejected == []
    assert decoded.drift.invalid_values == expected.odd_columns
    assert decoded.drift.undocumented_fields == expected.undocumented_fields
    assert decoded.drift.undocumented_values == expected.undocumented_values
    for row, conversation in zip(rows, sent, strict=True):
        assert row["extra"] is None or json.loads(row["extra"]) == expected.extra
        assert (row["extra"] is None) == (expected.extra is None)
        turns = [
            (turn["ordinal"], {"role": turn["role"], "content": turn["content"]})
            for turn in rows_of(decoded, "conversation_messages")
        ]
        assert turns == list(enumerate(conversation.get("messages") or [], 1)) * expected.conversations
        masked = json.loads(json.dumps(conversation["agent_config"]).replace("redact-me", "***"))
        assert json.loads(config["agent_config"]) == masked
        assert config["agent_config_hash"] == row["agent_config_hash"]
        differs = {column for column in row if row[column] != clean_row[column]} - {"extra"}
        assert differs == expected.row.keys()
        assert {column: row[column] for column, value in expected.row.items() if value is not ...} == {
            column: value for column, value in expected.row.items() if value is not ...
        }


def _listed(name: str, world: World, kind: str) -> list[Any]:
    emulator = Emulator(world)
    emulator.faults.add(Fault.body(DEVIATIONS[name]))
    settings = ClientConfig(token="t", base_url="http://emulator", retry=Retry(max_attempts=1))
    if kind == "sync":
        with VoiceOSClient(settings, transport=emulator.transport()) as client:
            return list(client.list_conversations())

    async def listed() -> list[Any]:
        async with AsyncVoiceOSClient(settings, transport=emulator.transport()) as client:
            return [page async for page in client.list_conversations()]

    return asyncio.run(listed())


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_deviation_becomes_a_conversation(name: str, world: World, kind: str) -> None:
    """Only the affected attributes change; invalid values are None, and kept in `invalid_values`."""
    expected = understood(name)
    page, *more = _listed(name, world, kind)
    assert page.has_more is expected.has_more
    assert len(more) == 1  # a repeat: the first page is the longest, so a second request confirms the end
    assert len(page.conversations) == expected.conversations
    assert page.rejected == ()
    clean = Conversation.model_validate(BASE)
    for conversation in page.conversations:
        assert conversation.id == clean.id
        assert conversation.invalid_values == expected.invalid_values
        assert {path: attribute(conversation, path) for path in expected.model} == expected.model


@pytest.mark.parametrize(("name", "because"), REFUSED.items())
def test_unusable_page_is_rejected(name: str, because: str, world: World, kind: str) -> None:
    """It never counts as the end of the listing, and the error gives the reason."""
    with pytest.raises(VoiceOSResponseError) as caught:
        _listed(name, world, kind)
    assert because in str(caught.value)
    assert caught.value.retryable


def test_null_items_are_an_empty_page(world: World, kind: str) -> None:
    """Reading null as an empty list loses nothing."""
    page, *more = _listed(EMPTY, world, kind)
    assert (page.conversations, page.rejected, more) == ((), (), [])


PAGES = [name for name in EXAMPLES if name.startswith("page_")]
SINGLE = [name for name in EXAMPLES if name.startswith("conversation_")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_clean_example_has_no_invalid_value(name: str) -> None:
    """Every documented value has a column and an attribute, and nothing remains."""
    body = EXAMPLES[name] if name in PAGES else b'{"items":[' + EXAMPLES[name] + b'],"has_more":false}'
    page = split(body)
    decoded = decode(page.items)
    sent = json.loads(body)["items"]
    rows = rows_of(decoded)
    assert [row["id"] for row in rows] == [conversation["id"] for conversation in sent]
    assert {row["extra"] for row in rows} <= {None}
    assert (bool(decoded.drift), decoded.rejected) == (False, [])
    assert all(isinstance(item, ConversationStruct) for item in page.items)
    assert page.has_more is json.loads(body)["has_more"]


@pytest.mark.parametrize("name", SINGLE)
def test_clean_conversation_is_read_by_its_id(name: str, world: World, connect: Callable[..., Any]) -> None:
    """Both clients return no undocumented attribute."""
    emulator = Emulator(world)
    emulator.faults.add(Fault.body(EXAMPLES[name]), on="conversation")
    conversation = connect(emulator).get("a")
    sent = json.loads(EXAMPLES[name])
    assert conversation.invalid_values == {}
    assert conversation.model_extra == {}
    assert (conversation.id, conversation.status) == (sent["id"], sent["status"])
    assert (conversation.phone_call is None) == (sent["phone_call"] is None)
    assert len(conversation.messages or []) == len(sent["messages"] or [])
