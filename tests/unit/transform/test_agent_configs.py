"""Rows of distinct agent configurations."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.decoding import EXPORTED_AT, INTERVAL, as_page, as_text
from voiceos_provider.transform import Decoder, Redaction
from voiceos_provider.transform.agent_configs import ConfigurationCache

Reader = Callable[..., Any]

CONFIG = {
    "prompt": "You sell müsli.",
    "initial_message": "Hello!",
    "metadata": {"b": "2", "a": "1"},
    "voice": {"provider": "playht", "model": "m", "speed": 1.50},
    "webhooks": [{"url": "https://x.example", "headers": {"b": "s3cr3t", "a": "s3cr3t"}}],
}
PRIVACIES = [
    Redaction(),
    Redaction(prompts="drop"),
    Redaction("hash", "drop", "drop", hash_key="a key of the tests"),
]


def conversation(config: Any, id_: str = "a", **content: Any) -> str:
    """Return a conversation with this configuration."""
    return json.dumps({"id": id_, "agent_config": config} | content)


def hashes(read: Any) -> list[str]:
    """Return the hashes of the configurations in their order."""
    return [row["agent_config_hash"] for row in read.configs]


def test_each_configuration_is_one_row_of_an_export() -> None:
    """The number of uses and pages, and the order of keys, do not matter."""
    decoder = Decoder(INTERVAL, EXPORTED_AT)
    backwards = dict(reversed(CONFIG.items()))
    found = []
    for way in (as_page, as_text, as_page):
        decoded = decoder.decode([way(conversation(config)) for config in (CONFIG, backwards, {}, CONFIG)])
        found += decoded.rows["agent_configs"].batch.column("agent_config_hash").to_pylist()
        used = set(decoded.rows["conversations"].batch.column("agent_config_hash").to_pylist())
    assert len(found) == 2
    assert used == set(found)


def test_row_holds_the_configuration(read: Reader) -> None:
    """It has columns and JSON with sorted keys; secrets are masked."""
    (row,) = read(conversation(CONFIG)).configs
    assert (row["prompt"], row["initial_message"]) == ("You sell müsli.", "Hello!")
    assert (row["voice_provider"], row["voice_model"], row["voice_own_key"]) == ("playht", "m", False)
    assert row["agent_config"] == json.dumps(
        CONFIG | {"webhooks": [{"url": "https://x.example", "headers": {"b": "***", "a": "***"}}]},
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )


def shuffled(value: Any, data: st.DataObject) -> Any:
    """Return the same JSON with the keys of its objects in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], data) for key in data.draw(st.permutations(list(value)))}
    return [shuffled(item, data) for item in value] if isinstance(value, list) else value


@settings(max_examples=25)
@given(st.data())
def test_hash_does_not_depend_on_the_order_of_keys(read: Reader, data: st.DataObject) -> None:
    """This holds at any depth."""
    result = read(conversation(CONFIG), conversation(shuffled(CONFIG, data)))
    assert len(hashes(result)) == 1


@pytest.mark.parametrize("redaction", PRIVACIES)
def test_hashes_do_not_depend_on_redaction(read: Reader, redaction: Redaction) -> None:
    """Versions of a prompt can be compared without reading them."""
    kept, other = read(conversation(CONFIG)), read(conversation(CONFIG), redaction=redaction)
    for name in ("agent_config_hash", "prompt_hash"):
        assert other.configs[0][name] == kept.configs[0][name]
        assert other.rows[0][name] == kept.rows[0][name] == kept.configs[0][name]


def test_different_prompts_are_different_configurations_if_dropped(read: Reader) -> None:
    """The rows differ only in their hashes."""
    result = read(
        conversation(CONFIG), conversation(CONFIG | {"prompt": "x"}), redaction=Redaction(prompts="drop")
    )
    first, second = result.configs
    assert first["agent_config"] == second["agent_config"]
    assert first["agent_config_hash"] != second["agent_config_hash"]


_ELSEWHERE = """
import sys
from tests.support.decoding import as_page, as_text, decoded
for way in (as_page, as_text):
    print(*(row["agent_config_hash"] for row in decoded([way(sys.argv[1])]).configs))
"""


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_hash_is_the_same_in_every_process(read: Reader, seed: str) -> None:
    """Python's own hashes differ between runs, and these are joined over years."""
    checkout = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(checkout)}
    printed = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, conversation(CONFIG)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert printed == hashes(read(conversation(CONFIG))) * 2


def test_only_configurations_of_exported_conversations_are_rows(read: Reader) -> None:
    """A filtered conversation may be exported later, and then its configuration is a row."""
    items = [
        conversation({"prompt": "filtered"}, "a", status="started"),
        conversation({"prompt": "rejected"}, ""),
        conversation({"prompt": "exported"}, "b", status="ended"),
        conversation(None, "c", status="ended"),
        conversation("none", "d", status="ended"),
    ]
    result = read(*items, statuses=["ended"])
    assert (result.decoded.exported, len(result.decoded.pending), len(result.decoded.rejected)) == (3, 1, 1)
    assert [row["prompt"] for row in result.configs] == ["exported"]
    decoder = Decoder(INTERVAL, EXPORTED_AT, statuses=["ended"])
    found = [
        decoder.decode([as_page(conversation(CONFIG, status=status))]).rows["agent_configs"].batch.num_rows
        for status in ("started", "ended", "ended")
    ]
    assert found == [0, 1, 0]


def test_configurations_of_equal_length_are_distinguished() -> None:
    """They may be repeated in any order."""
    decoder = Decoder(INTERVAL, EXPORTED_AT)
    order = [0, 0, 1, 0, 2, 2, 1, 0, 1, 1]
    for _ in range(2):
        items = [
            as_page(
                json.dumps({"id": "a", "agent_config": {"metadata": {"version": f"v{n}"}, "prompt": str(n)}})
            )
            for n in order
        ]
        hashes = decoder.decode(items).rows["conversations"].batch.column("prompt_hash").to_pylist()
        assert hashes == [hashlib.sha256(str(n).encode()).hexdigest() for n in order]


@pytest.fixture(scope="module")
def many() -> list[str]:
    """Return more configurations than the cache holds."""
    return [json.dumps({"metadata": {"call": str(n)}}) for n in range(4_200)]


@pytest.mark.parametrize("way", [as_page, as_text])
def test_null_configuration_is_none_after_many_others(many: list[str], way: Callable[..., Any]) -> None:
    """Null is not an invalid value."""
    decoder = Decoder(INTERVAL, EXPORTED_AT)
    none = json.dumps({"id": "a", "agent_config": None, "x": 1})
    for items in ([none], [f'{{"id":"a","agent_config":{config}}}' for config in many], [none]):
        decoded = decoder.decode([way(item) for item in items])
        assert decoded.drift.invalid_values == {}
    (row,) = decoded.rows["conversations"].batch.to_pylist()
    assert (row["agent_config_hash"], row["extra"]) == (None, '{"x":1}')


def test_frequent_configuration_stays_in_the_cache(many: list[str]) -> None:
    """Other calls of the account have configurations with data of each call."""
    configurations = ConfigurationCache(Redaction())
    usual, another = (msgspec.Raw(text) for text in (b'{"prompt":"usual"}', b'{"prompt":"other"}'))
    known = configurations.decode(usual)
    for n, config in enumerate(many):
        configurations.decode(msgspec.Raw(config.encode()))
        if n % 1_000 == 0:
            configurations.decode(another)
            assert configurations.decode(usual) is known
    assert configurations.decode(usual) is known


SPELLINGS = [
    ("600", ["600.0", "6e2", "6E+2", "600.000", "6000e-1"]),
    ("0", ["-0", "0.0", "-0.0", "0e9", "0E-400"]),
    ("1.5", ["1.50", "15e-1", "0.15E+1"]),
    ("-12345678901234567890123", ["-12345678901234567890123.0", "-1.2345678901234567890123e22"]),
    ("1e25", ["10000000000000000000000000", "10E24", "1.0e+25"]),
    ("0.1234567890123456789012345678901234567890", ["1234567890123456789012345678901234567890e-40"]),
    ("1e9999", ["10e9998", "1E+9999", "0.1e10000"]),
    ("1" + "0" * 5_000, ["1e5000"]),
]


@pytest.mark.parametrize(("number", "spellings"), SPELLINGS, ids=[number[:20] for number, _ in SPELLINGS])
@pytest.mark.parametrize("place", ['{"max_duration_seconds":%s}', '{"voice":{"x":[{"speed":%s}]}}'])
def test_equal_numbers_make_equal_configurations(
    read: Reader, number: str, spellings: list[str], place: str
) -> None:
    """Their notation does not matter; another number is another configuration."""
    items = [f'{{"id":"a","agent_config":{place % text}}}' for text in [number, *spellings]]
    result = read(*items)
    assert len(hashes(result)) == 1
    exact = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)
    assert exact.decode(result.configs[0]["agent_config"]) == exact.decode(place % number)
    other = read(items[0], f'{{"id":"a","agent_config":{place % "7.25"}}}')
    assert len(hashes(other)) == 2


def test_hash_is_that_of_the_text_in_the_table(read: Reader) -> None:
    """Users can verify it."""
    (row,) = read('{"id":"a","agent_config":{"max_duration_seconds":6e2,"metadata":{"b":1.50}}}').configs
    assert row["agent_config"] == '{"max_duration_seconds":600,"metadata":{"b":1.5}}'
    assert row["agent_config_hash"] == hashlib.sha256(row["agent_config"].encode()).hexdigest()
