"""Content of single conversations."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voiceos_provider.emulator import World

_EXAMPLES = Path(__file__).parent / "examples"
_COMPONENTS = {"voice", "transcriber", "language_model", "telephony", "agent"}


@pytest.fixture(scope="module")
def written(large_world: World) -> list[bytes]:
    """Return the JSON of every seventh conversation in its final state."""
    return large_world.write(large_world.population, np.arange(0, len(large_world), 7), now=2**62)


@pytest.fixture(scope="module")
def conversations(written: list[bytes]) -> list[dict[str, Any]]:
    """Return the same conversations, parsed."""
    return [json.loads(one) for one in written]


def _example(name: str) -> dict[str, Any]:
    example: dict[str, Any] = json.loads((_EXAMPLES / f"{name}.json").read_text())
    return example


@pytest.mark.parametrize("name", ["ended_inbound", "ended_web", "queued_outbound", "started_web"])
def test_keys_are_the_examples_keys_in_their_order(
    large_world: World, conversations: list[dict[str, Any]], name: str
) -> None:
    """A conversation looks like the vendor's own of the same type and status, `id` last."""
    example = _example(f"conversation_{name}")
    alike = next(
        conversation["id"]
        for conversation in conversations
        if conversation["type"] == example["type"]
        and conversation["status"] == "ended"
        and conversation["agent_config"]["voice"]["provider"] == "playht"
        and not _own_keys(conversation)
    )
    now = None if example["status"] == "ended" else large_world.created_at(alike)
    conversation = large_world.conversation(alike, now=now)
    assert conversation is not None
    assert conversation["status"] == example["status"]
    assert _keys(conversation) == _keys(example)


def test_no_conversation_has_an_undocumented_key(
    conversations: list[dict[str, Any]],
) -> None:
    """Configurations differ only inside `voice` and similar keys."""
    example = _example("conversation_ended_inbound")
    for conversation in conversations:
        assert list(conversation) == list(example)
        assert list(conversation["agent_config"]) == list(example["agent_config"])
        assert set(conversation["cost_breakdown"] or {}) <= set(example["cost_breakdown"])
        for message in conversation["messages"]:
            assert list(message) == ["role", "content"]


def test_json_is_compact_and_unescaped(written: list[bytes], conversations: list[dict[str, Any]]) -> None:
    """The bytes are those of a compact serializer, without escapes for other alphabets."""
    for raw, conversation in zip(written, conversations, strict=True):
        spelled = json.dumps(conversation, separators=(",", ":"), ensure_ascii=False)
        assert len(spelled.encode()) - len(raw) in range(-40, 41)
        assert '": ' not in raw.decode()
    assert "¿".encode() in b"".join(written)


def test_about_four_kilobytes_each(written: list[bytes]) -> None:
    """They are as large as the vendor's."""
    assert 3_900 < sum(map(len, written)) / len(written) < 4_600


def test_few_configurations_repeated_byte_for_byte(
    written: list[bytes], conversations: list[dict[str, Any]]
) -> None:
    """Each configuration always has the same bytes, which are most of a response."""
    seen: defaultdict[str, set[bytes]] = defaultdict(set)
    for raw, conversation in zip(written, conversations, strict=True):
        config = raw[raw.index(b'"agent_config":') : raw.index(b',"agent_id":')]
        seen[json.dumps(conversation["agent_config"], sort_keys=True)].add(config)
        assert len(config) > len(raw) / 2
    assert all(len(spellings) == 1 for spellings in seen.values())


def test_forty_configurations_over_the_whole_world(large_world: World) -> None:
    """Agents are few; prompts are long, and change from version to version."""
    population = large_world.population
    _, first = np.unique(population.agent, return_index=True)
    configs = [json.loads(one)["agent_config"] for one in large_world.write(population, first, now=2**62)]
    assert 35 <= len({json.dumps(config) for config in configs}) <= 45
    assert all(1_400 <= len(config["prompt"]) <= 2_600 for config in configs)
    assert all(re.fullmatch(r"v\d+", config["metadata"]["prompt_version"]) for config in configs)
    assert {config["voice"]["provider"] for config in configs} == {
        "playht", "elevenlabs", "azure", "deepgram", "rime",
    }  # fmt: skip
    assert {config["transcriber"]["provider"] for config in configs} == {"deepgram", "azure"}
    assert {config["language_model"]["provider"] for config in configs} == {"openai", "google"}
    assert any(config["initial_message"] is None for config in configs)


def test_webhook_secrets_have_a_common_prefix(conversations: list[dict[str, Any]]) -> None:
    """All have the same prefix, so a test can search for them."""
    for conversation in conversations:
        for webhook in conversation["agent_config"]["webhooks"]:
            assert all(value.startswith("emulated-secret-") for value in webhook["headers"].values())


def test_all_types_and_reasons_occur(conversations: list[dict[str, Any]]) -> None:
    """No kind of conversation is missing."""
    types = Counter(conversation["type"] for conversation in conversations)
    assert set(types) == {"inbound_phone_call", "outbound_phone_call", "web_call"}
    assert min(types.values()) > 100
    reasons = Counter(conversation["ended_reason"] for conversation in conversations)
    assert set(reasons) >= {"agent_ended", "user_ended", "unknown"}
    assert len({conversation["account_id"] for conversation in conversations}) == 5
    assert any(conversation["agent_id"] is None for conversation in conversations)


def test_four_to_fourteen_messages_by_turns(conversations: list[dict[str, Any]]) -> None:
    """Agent and user speak in turn, and the configured greeting comes first."""
    for conversation in conversations:
        if conversation["status"] != "ended":
            continue
        roles = [message["role"] for message in conversation["messages"]]
        assert 4 <= len(roles) <= 14
        assert all(one != next_one for one, next_one in pairwise(roles))
        greeting = conversation["agent_config"]["initial_message"]
        assert roles[0] == ("user" if greeting is None else "agent")
        assert greeting in (None, conversation["messages"][0]["content"])


def test_telephone_numbers_are_fictitious(conversations: list[dict[str, Any]]) -> None:
    """All of them end in 555-01xx; web calls have none."""
    for conversation in conversations:
        if conversation["type"] == "web_call":
            assert conversation["phone_call"] is None
            continue
        for end in ("to_number", "from_number"):
            assert re.fullmatch(r"\+1[2-9]\d\d55501\d\d", conversation["phone_call"][end])


def test_times_have_the_format_of_the_examples(conversations: list[dict[str, Any]]) -> None:
    """Times have microseconds or no fraction, and an offset; phone calls end on a whole second."""
    for conversation in conversations:
        for key in ("started_at", "ended_at"):
            text = conversation[key]
            if text is not None:
                assert datetime.fromisoformat(text).isoformat() == text
        if conversation["status"] == "ended":
            is_whole = "." not in conversation["ended_at"]
            assert is_whole == (conversation["type"] != "web_call")


def test_costs_of_an_own_key_are_not_in_the_breakdown(conversations: list[dict[str, Any]]) -> None:
    """The component is null, missing, or has no cost: all three occur; otherwise its cost is a number."""
    ways = set()
    for conversation in conversations:
        breakdown = conversation["cost_breakdown"]
        if breakdown is None:
            continue
        for component in ("voice", "transcriber", "language_model"):
            if component not in _own_keys(conversation):
                assert breakdown[component]["cost"] > 0
            elif component not in breakdown:
                ways.add("missing component")
            elif breakdown[component] is None:
                ways.add("null component")
            else:
                assert breakdown[component]["cost"] is None
                ways.add("null cost")
    assert ways == {"missing component", "null component", "null cost"}


def test_telephony_costs_nothing_over_web_or_with_an_imported_number(
    conversations: list[dict[str, Any]],
) -> None:
    """Null over web, zero for an imported number, an amount otherwise."""
    costs = set()
    for conversation in conversations:
        breakdown = conversation["cost_breakdown"]
        if breakdown is not None:
            telephony = breakdown["telephony"]
            assert (telephony is None) == (conversation["type"] == "web_call")
            costs.add(None if telephony is None else bool(telephony["cost"]))
    assert costs == {None, False, True}


def test_totals_are_sums_but_not_always_exactly(conversations: list[dict[str, Any]]) -> None:
    """A total is the sum of the parts, with the noise of floating point; some are rounded to cents."""
    noisy = rounded = 0
    for conversation in conversations:
        breakdown = conversation["cost_breakdown"]
        if breakdown is None:
            continue
        parts = [breakdown.get(component) for component in _COMPONENTS]
        total = sum(part["cost"] or 0 for part in parts if part)
        assert abs(total - breakdown["total"]) < 0.0051
        noisy += len(repr(breakdown["total"])) > 15
        rounded += abs(total - breakdown["total"]) > 1e-6
    assert noisy > len(conversations) / 10
    assert rounded


def _own_keys(conversation: dict[str, Any]) -> set[str]:
    config = conversation["agent_config"]
    return {
        key for key in ("voice", "transcriber", "language_model") if config[key]["credential_id"] is not None
    }


def _keys(value: Any) -> Any:
    """Return the keys of an object in order, and the keys in the first element of a list."""
    if isinstance(value, dict):
        return [(key, _keys(inner)) for key, inner in value.items() if key not in ("metadata", "properties")]
    if isinstance(value, list):
        return [_keys(inner) for inner in value[:1]]
    return None
