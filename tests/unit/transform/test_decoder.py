"""Decoding of conversations into rows."""

import hashlib
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.decoding import EXPORTED_AT, INTERVAL, as_page, as_text
from voiceos_provider.transform import Decoder, Redaction
from voiceos_provider.transform.agent_configs import ConfigurationCache
from voiceos_provider.transform.column_values import money
from voiceos_provider.transform.schema import CONVERSATIONS

Reader = Callable[..., Any]


def one(read: Reader, **content: Any) -> dict[str, Any]:
    """Return the row of one conversation."""
    row: dict[str, Any]
    (row,) = read(json.dumps({"id": "a"} | content)).rows
    return row


def test_row_has_the_interval_and_the_time_of_the_export(read: Reader) -> None:
    """They are equal in every row."""
    row = one(read)
    assert row.pop("_interval_start") == datetime(2024, 6, 3, tzinfo=UTC)
    assert row.pop("_interval_end") == datetime(2024, 6, 4, tzinfo=UTC)
    assert row.pop("_exported_at") == datetime(2024, 6, 5, tzinfo=UTC)
    assert {name for name, value in row.items() if value is not None} == {"id"}


def test_no_conversations_make_empty_tables_of_the_same_schema(read: Reader) -> None:
    """`read` checks the schemas."""
    nothing = read()
    assert set(map(len, nothing.tables.values())) == {0}
    assert {len(rows.positions) for rows in nothing.decoded.rows.values() if rows.positions is not None} == {
        0
    }
    assert (nothing.decoded.exported, nothing.decoded.filtered, nothing.decoded.rejected) == (0, 0, [])
    assert not nothing.decoded.drift


def test_id_is_kept_as_sent(read: Reader) -> None:
    """Masking it could make two conversations equal."""
    sent = ["https://voiceos.example/?token=a", "https://voiceos.example/?token=b", " ", "\x00"]
    assert [row["id"] for row in read(*(json.dumps({"id": id_}) for id_ in sent)).rows] == sent


def test_rows_keep_their_order_and_their_duplicates(read: Reader) -> None:
    """The destination decides which copy counts."""
    rows = read('{"id":"b","status":"started"}', '{"id":"a"}', '{"id":"b","status":"ended"}').rows
    assert [(row["id"], row["status"]) for row in rows] == [("b", "started"), ("a", None), ("b", "ended")]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("{}", "no usable id"),
        ('{"id":null}', "no usable id"),
        ('{"id":""}', "no usable id"),
        ('{"id":7}', "no usable id"),
        ('{"id":{"id":"a"}}', "no usable id"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('"a"', "not a JSON object"),
        ("1e1000000000000000000", "not a JSON object"),
    ],
)
def test_conversation_without_a_key_is_rejected_with_the_reason(read: Reader, item: str, reason: str) -> None:
    """Other rows are unaffected, and the record is kept as JSON."""
    result = read('{"id":"a"}', item, '{"id":"b"}')
    assert [row["id"] for row in result.rows] == ["a", "b"]
    (rejected,) = result.decoded.rejected
    assert rejected.reason == reason
    assert item.startswith("1e") or json.loads(rejected.raw) == json.loads(item)


def test_malformed_conversation_is_rejected(read: Reader) -> None:
    """Its text may hold anything, so it is not repeated; other rows are unaffected."""
    result = read('{"id":"a"}', '{"id":"b", nul', r'{"id":"c","x":"\ud83d"}', '{"id":"d"}')
    assert [row["id"] for row in result.rows] == ["a", "d"]
    assert [item.reason for item in result.decoded.rejected] == [
        "not JSON: expected '\"' at byte 11",
        "not JSON: it cannot be decoded",
    ]
    assert {item.raw for item in result.decoded.rejected} == {b'"***"'}


EXTREMES = [
    ("x", "9" * 5_000),
    ("x", "-1" + "0" * 4_400 + ".5"),
    ("x", "1e999999"),
    ("cost_breakdown", '{"total":100000000000000000000.0000000000000000000000000}'),
    ("cost_breakdown", '{"total":1e20}'),
    ("cost_breakdown", '{"total":1e999999}'),
    ("cost_breakdown", '{"total":0.0000000000000000000000001}'),
    ("cost_breakdown", '{"agent":{"seconds":1e400}}'),
    ("cost_breakdown", '{"voice":{"characters":9223372036854775808}}'),
    ("cost_breakdown", '{"voice":{"characters":' + "9" * 5_000 + "}}"),
    ("started_at", '"0001-01-01T00:00:00+01:00"'),
    ("ended_at", '"0001-01-01T00:00:00Z"'),
]


@pytest.mark.parametrize(("key", "value"), EXTREMES)
def test_number_of_any_size_is_kept(read: Reader, key: str, value: str) -> None:
    """`extra` holds all digits of numbers that fit no column."""
    result = read('{"id":"b"}', f'{{"id":"a","{key}":{value},"status":"ended"}}')
    assert [row["id"] for row in result.rows] == ["b", "a"]
    assert result.rows[1]["status"] == "ended"
    exact = json.JSONDecoder(parse_int=Decimal, parse_float=Decimal)
    assert exact.decode(result.rows[1]["extra"]) == exact.decode(f'{{"{key}":{value}}}')
    assert sum(result.decoded.drift.invalid_values.values()) == (key != "x")


def test_number_beyond_decimal_stays_readable(read: Reader) -> None:
    """It is kept as text."""
    result = read('{"id":"a","x":1e1000000000000000000,"cost_breakdown":{"total":1e1000000000000000000}}')
    extra = json.loads(result.rows[0]["extra"])
    assert extra["x"] == extra["cost_breakdown"]["total"] == "1e1000000000000000000"
    assert result.decoded.drift.invalid_values == {"total_cost": 1}


@pytest.mark.parametrize("key", ["x", "agent_config", "messages", "cost_breakdown"])
def test_deep_nesting_is_kept(read: Reader, key: str) -> None:
    """It is as deep as JSON can be read."""
    deep = '{"y":' * 700 + '"ground"' + "}" * 700
    result = read(f'{{"id":"a","{key}":{deep}}}', '{"id":"b"}')
    assert [row["id"] for row in result.rows] == ["a", "b"]
    assert "ground" in str(result.tables)


@pytest.mark.parametrize(
    "text",
    [
        "0.1234567890123456789",
        "0.056900000000000006",
        "1e-7",
        "0",
        "7",
        "-0.5",
        "99999999999999",
        "0E+30",
        "0E-99",
        "0.100000000000000000000000000000000",
        "12345.678901234567890123456000000000",
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_cost_is_the_decimal_that_was_sent(read: Reader, text: str, quote: str) -> None:
    """It may be a number or a string, and never becomes a float."""
    result = read(f'{{"id":"a","cost_breakdown":{{"total":{quote}{text}{quote}}}}}')
    assert result.rows[0]["total_cost"] == Decimal(text)
    assert (result.rows[0]["extra"], result.decoded.drift.invalid_values) == (None, {})


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_money_is_exact_or_null(amount: Decimal) -> None:
    """A column has 14 digits before the point and 24 after it."""
    fits = (
        abs(amount) < 10**14 and amount == amount.quantize(Decimal("1e-24")) if abs(amount) < 10**3 else None
    )
    try:
        held = money(amount)
    except ValueError:
        assert not fits
    else:
        assert held == amount
        assert abs(held) < 10**14


def test_instants_reach_from_1900_to_2261(read: Reader) -> None:
    """The difference of the limits is a valid duration."""
    row = one(read, started_at="1900-01-01T00:00:00Z", ended_at="2261-12-31T23:59:59.999999Z")
    assert row["started_at"] == datetime(1900, 1, 1, tzinfo=UTC)
    assert row["ended_at"] == datetime(2261, 12, 31, 23, 59, 59, 999_999, UTC)
    assert row["duration_seconds"] == pytest.approx(11_423_635_200)


@pytest.mark.parametrize(
    "sentinel",
    [
        "0001-01-01T00:00:00Z",
        "1899-12-31T23:59:59.999999Z",
        "1900-01-01T00:00:00+00:01",
        "2261-12-31T23:59:59-00:01",
        "2262-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
@pytest.mark.parametrize("key", ["started_at", "ended_at"])
def test_unsupported_instant_is_null_and_kept_as_text(read: Reader, key: str, sentinel: str) -> None:
    """Spark 3 refuses Go's zero time, and ClickHouse silently changes it."""
    plain = {"started_at": "2024-06-03T16:58:02Z", "ended_at": "2024-06-03T16:59:02Z"}
    result = read(json.dumps({"id": "a"} | plain), json.dumps({"id": "b"} | plain | {key: sentinel}))
    first, second = result.rows
    assert (first["duration_seconds"], first["extra"]) == (60.0, None)
    assert (second[key], second["duration_seconds"]) == (None, None)
    assert json.loads(second["extra"]) == {key: sentinel}
    assert result.decoded.drift.invalid_values == {key: 1}


@pytest.mark.parametrize(
    ("started", "ended", "seconds"),
    [
        ("2024-06-03T16:58:02.104233Z", "2024-06-03T17:01:44Z", 221.895767),
        ("2024-06-03T16:58:02Z", "2024-06-03T18:58:02+02:00", 0.0),
        ("2024-06-03T16:58:02Z", "2024-06-03T16:57:00Z", None),
        ("2024-06-03T16:58:02Z", None, None),
        (None, "2024-06-03T16:58:02Z", None),
        ("2024-06-03T16:58:02Z", "", None),
    ],
)
def test_duration_is_the_time_between_both_ends(
    read: Reader, started: str | None, ended: str | None, seconds: float | None
) -> None:
    """It is null if an end is missing or earlier than the start."""
    assert one(read, started_at=started, ended_at=ended)["duration_seconds"] == seconds


def test_null_and_empty_text_are_different(read: Reader) -> None:
    """Counts of missing values include only null."""
    rows = read('{"id":"a","agent_id":null}', '{"id":"b","agent_id":""}', '{"id":"c"}').rows
    assert [row["agent_id"] for row in rows] == [None, "", None]
    assert [row["extra"] for row in rows] == [None, None, None]


@pytest.mark.parametrize(
    "text", ["\x00", "\u2028", "é́", "\U0001f600", "a\nb", '"', "\\", "'; DROP TABLE x; --", "=1+1"]
)
def test_any_text_is_kept_as_sent(read: Reader, text: str) -> None:
    """Check columns, messages, configuration and extra."""
    sent = {
        "id": "a",
        "agent_id": text,
        "messages": [{"role": "user", "content": text}],
        "agent_config": {"prompt": text},
    }
    result = read(json.dumps(sent), json.dumps(sent | {"x": text}))
    assert [row["agent_id"] for row in result.rows] == [text, text]
    assert result.rows[0]["extra"] is None
    assert json.loads(result.rows[1]["extra"]) == {"x": text}
    assert [(row["role"], row["content"]) for row in result.messages] == [("user", text)] * 2
    (config,) = result.configs
    assert config["prompt"] == text
    assert json.loads(config["agent_config"]) == {"prompt": text}


def test_api_may_use_the_names_of_computed_columns(read: Reader) -> None:
    """Such keys go to `extra`."""
    ours = [column.name for column in CONVERSATIONS.columns if not column.path]
    sent = dict.fromkeys([*ours, "total_cost", "phone_provider"], "theirs")
    row = one(read, **sent)
    assert json.loads(row["extra"]) == sent
    assert "theirs" not in {value for name, value in row.items() if name != "extra"}


def test_empty_objects_are_kept(read: Reader) -> None:
    """An empty object differs from a missing one, and from one whose values went to columns."""
    assert json.loads(one(read, phone_call={}, cost_breakdown={"agent": {}})["extra"]) == {
        "phone_call": {},
        "cost_breakdown": {"agent": {}},
    }
    assert (
        one(read, phone_call={"provider": "twilio"}, cost_breakdown={"agent": {"cost": 1}})["extra"] is None
    )
    assert one(read, phone_call=None, cost_breakdown={"agent": None})["extra"] is None


@pytest.mark.parametrize(
    ("sent", "odd"),
    [
        ({"phone_call": "none"}, "phone_call"),
        ({"cost_breakdown": []}, "cost_breakdown"),
        ({"cost_breakdown": {"agent": 0.1}}, "cost_breakdown.agent"),
        ({"messages": "none"}, "messages"),
        ({"agent_config": "none"}, "agent_config"),
        ({"status": 3}, "status"),
        ({"started_at": 1717433882}, "started_at"),
        ({"cost_breakdown": {"total": "n/a"}}, "total_cost"),
        ({"cost_breakdown": {"total": True}}, "total_cost"),
        ({"cost_breakdown": {"language_model": {"input_tokens": 1.5}}}, "language_model_cost_input_tokens"),
        ({"phone_call": {"to_number": 4155550142}}, "to_number"),
    ],
)
def test_invalid_value_is_counted_and_kept_at_its_path(read: Reader, sent: dict[str, Any], odd: str) -> None:
    """Its column is null, and `extra` holds the value."""
    result = read(json.dumps({"id": "a"} | sent))
    assert json.loads(result.rows[0]["extra"]) == sent
    assert result.decoded.drift.invalid_values == {odd: 1}
    assert result.decoded.drift.undocumented_fields == {}
    assert result.rows[0].get(odd) is None


@pytest.mark.parametrize(
    ("config", "odd"),
    [
        ({"voice": "susan"}, "agent_config.voice"),
        ({"voice": {"model": 7}}, "voice_model"),
        ({"max_duration_seconds": "long"}, "max_duration_seconds"),
        ({"language_model": {"provider": ["openai"]}}, "language_model_provider"),
    ],
)
def test_invalid_setting_is_counted_and_stays_in_the_configuration(
    read: Reader, config: dict[str, Any], odd: str
) -> None:
    """The column `agent_config` holds it, so `extra` does not."""
    result = read(
        json.dumps({"id": "a", "agent_config": config}), json.dumps({"id": "b", "agent_config": config})
    )
    assert [json.loads(result.config_of(row)) for row in result.rows] == [config, config]
    assert len(result.configs) == 1
    assert [row["extra"] for row in result.rows] == [None, None]
    assert result.decoded.drift.invalid_values == {odd: 2}


def test_equal_configurations_have_equal_hashes(read: Reader) -> None:
    """The order of keys and white space do not matter at any depth."""
    config = {"prompt": "p", "voice": {"provider": "playht", "model": "m"}, "metadata": {"a": "1", "b": "2"}}
    backwards = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(config.items())
    }
    spellings = (
        json.dumps(config),
        json.dumps(backwards, indent=2),
        json.dumps(config, separators=(",", ":")).replace("playht", "pl\\u0061yht"),
    )
    result = read(*(f'{{"id":"a","agent_config":{spelled}}}' for spelled in spellings))
    rows = result.rows
    (kept,) = result.configs
    assert {row["agent_config_hash"] for row in rows} == {kept["agent_config_hash"]}
    assert kept["agent_config_hash"] == hashlib.sha256(kept["agent_config"].encode()).hexdigest()
    assert rows[0]["prompt_hash"] == kept["prompt_hash"] == hashlib.sha256(b"p").hexdigest()
    assert (
        one(read, agent_config=config | {"prompt": "q"})["agent_config_hash"] != rows[0]["agent_config_hash"]
    )


def test_configuration_determines_whose_key_was_billed(read: Reader) -> None:
    """`credential_id` identifies the customer's key; without the component the column is null."""
    config = {"voice": {"credential_id": "c1"}, "transcriber": {"credential_id": None}}
    result = read(json.dumps({"id": "a", "agent_config": config}))
    for row in (*result.rows, *result.configs):
        assert [row[f"{part}_own_key"] for part in ("voice", "transcriber", "language_model")] == [
            True,
            False,
            None,
        ]


def test_unlimited_duration_differs_from_an_unset_one(read: Reader) -> None:
    """Both columns are null, and only one configuration has the key."""
    configs = ({"max_duration_seconds": None}, {}, None)
    result = read(*(json.dumps({"id": "a", "agent_config": config}) for config in configs))
    assert [row["max_duration_seconds"] for row in result.rows] == [None] * 3
    assert [result.config_of(row) for row in result.rows] == ['{"max_duration_seconds":null}', "{}", None]


def test_more_configurations_than_the_cache_holds_are_distinguished() -> None:
    """Two thousand prompts keep their hashes in any order."""
    configurations = ConfigurationCache(Redaction())
    numbers = [number for number in range(2_000) for _ in range(2)]
    random.Random(7).shuffle(numbers)
    for number in numbers:
        columns = configurations.decode(msgspec.Raw(b'{"prompt":"%d"}' % number)).columns
        assert columns["prompt_hash"] == hashlib.sha256(b"%d" % number).hexdigest()


def test_message_is_a_row(read: Reader) -> None:
    """Digits and undocumented fields are kept; the position in the list is part of the key."""
    sent = '[ {"role": "agent",\n "content": null}, {"role":"tool","content":"{}","at":1.50} ]'
    result = read(f'{{"id":"a","messages":{sent}}}', '{"id":"b","messages":[{"role":"user"}]}')
    assert [
        (row["conversation_id"], row["ordinal"], row["role"], row["content"], row["extra"])
        for row in result.messages
    ] == [
        ("a", 1, "agent", None, None),
        ("a", 2, "tool", "{}", '{"at":1.50}'),
        ("b", 1, "user", None, None),
    ]
    assert result.decoded.rows["conversation_messages"].positions.to_pylist() == [0, 0, 1]
    assert [row["message_count"] for row in result.rows] == [2, 1]


@pytest.mark.parametrize(("sent", "count"), [([], 0), (None, None), ("none", None), ([{}], 1)])
def test_no_messages_differ_from_an_unknown_number(read: Reader, sent: Any, count: int | None) -> None:
    """An empty list has count 0, and null has none."""
    result = read(json.dumps({"id": "a", "messages": sent}))
    assert result.rows[0]["message_count"] == count
    assert len(result.messages) == (count or 0)
    assert one(read)["message_count"] is None


def test_invalid_message_is_a_row_with_only_extra(read: Reader) -> None:
    """The ordinals of the other messages stay the same."""
    result = read(json.dumps({"id": "a", "messages": [1, None, ["x"], {"role": 7, "content": "y"}]}))
    assert [(row["ordinal"], row["role"], row["content"], row["extra"]) for row in result.messages] == [
        (1, None, None, "1"),
        (2, None, None, "null"),
        (3, None, None, '["x"]'),
        (4, None, "y", '{"role":7}'),
    ]
    assert result.decoded.drift.invalid_values == {"messages[]": 3, "role": 1}


def test_positions_identify_the_conversation_of_a_row() -> None:
    """They continue over all chunks; two copies have different positions."""
    decoder = Decoder(INTERVAL, EXPORTED_AT)
    item = '{"id":"a","messages":[{},{}],"cost_breakdown":{"total":1,"agent":{"cost":1}}}'
    for first in (0, 2, 4):
        rows = decoder.decode([as_text(item), as_page(item)]).rows
        assert rows["conversations"].positions.to_pylist() == [first, first + 1]
        assert rows["conversation_costs"].positions.to_pylist() == [first, first + 1]
        assert rows["conversation_messages"].positions.to_pylist() == [first] * 2 + [first + 1] * 2
        assert rows["agent_configs"].positions is None


@pytest.mark.parametrize("text", ["see s://?x", "postgresql:///db?x=1", "HTTPS://x.example/?page=2"])
def test_url_without_a_credential_is_unchanged(read: Reader, text: str) -> None:
    """It may be next to others, in a column or a message."""
    result = read(json.dumps({"id": "a", "uri": text, "messages": [{"role": text, "content": text}]}))
    assert result.rows[0]["uri"] == text
    assert [(row["role"], row["content"]) for row in result.messages] == [(text, text)]
