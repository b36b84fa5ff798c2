"""Redaction of personal data."""

import hashlib
import hmac
import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from tests.support.conversation_strategies import COLUMNS, arbitrary_conversations, json_text
from tests.support.decoding import EXPORTED_AT, INTERVAL, leaves
from tests.support.exporting import export_pages
from voiceos_provider.client.pages import parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.transform import Redaction
from voiceos_provider.transform.redaction import e164

Reader = Callable[..., Any]

KEY = "sixteen letters!"
HASHED = Redaction("hash", hash_key=KEY)


def call(number: Any, id_: str = "a") -> str:
    """Return a conversation with this caller."""
    return json.dumps({"id": id_, "phone_call": {"from_number": number, "to_number": None}})


def test_numbers_are_kept_by_default(read: Reader) -> None:
    """They are unchanged, and no key is needed."""
    (row,) = read(call("+1 (415) 555-0142")).rows
    assert (row["from_number"], row["to_number"], row["phone_key_id"]) == ("+1 (415) 555-0142", None, None)


def test_numbers_can_be_dropped(read: Reader) -> None:
    """All columns of numbers are null."""
    (row,) = read(call("+14155550142"), redaction=Redaction("drop")).rows
    assert row["from_number"] is row["to_number"] is row["phone_key_id"] is row["extra"] is None


def test_number_can_be_hashed(read: Reader) -> None:
    """The hash is HMAC-SHA256 of the E.164 form: only owners of the key can look a number up."""
    (row,) = read(call("+1 (415) 555-0142"), redaction=HASHED).rows
    expected = hmac.new(KEY.encode(), b"+14155550142", hashlib.sha256).hexdigest()
    assert (row["from_number"], row["to_number"]) == (expected, None)


SPELLINGS = [
    "+14155550142",
    "+1 415 555 0142",
    "+1 (415) 555-0142",
    "+1.415.555.0142",
    " 0014155550142 ",
    "(+1) 415-555-0142",
    "tel:+14155550142",
]


def test_repeat_callers_have_one_hash_in_any_spelling(read: Reader) -> None:
    """Both decoders normalize numbers."""
    items = [call(number) for number in SPELLINGS]
    odd = json.dumps({"id": "b", "x": 1, "phone_call": {"from_number": SPELLINGS[0]}})
    assert len({row["from_number"] for row in read(*items, odd, redaction=HASHED).rows}) == 1


@pytest.mark.parametrize(
    ("number", "form"),
    [
        *((spelling, "+14155550142") for spelling in SPELLINGS),
        ("+44 (0)20 7946 0018", "+442079460018"),
        ("4155550142", "4155550142"),
        ("anonymous", "anonymous"),
        (" Restricted ", "Restricted"),
        ("", ""),
        ("sip:alice7@x.example", "sip:alice7@x.example"),
    ],
)
def test_text_without_a_number_equals_only_itself(number: str, form: str) -> None:
    """Otherwise all callers without digits would be equal; the country is unknown without a prefix."""
    assert e164(number) == form


def test_another_key_gives_another_hash_and_key_id(read: Reader) -> None:
    """The key id shows which rows are comparable, and nothing of the key."""
    other = Redaction("hash", hash_key="another long key")
    (first,), (second,) = (read(call("+14155550142"), redaction=p).rows for p in (HASHED, other))
    assert first["from_number"] != second["from_number"]
    assert first["phone_key_id"] != second["phone_key_id"]
    assert first["phone_key_id"] == read(call("+442079460018"), redaction=HASHED).rows[0]["phone_key_id"]
    assert KEY not in repr(HASHED) + first["phone_key_id"]


@pytest.mark.parametrize("key", [None, "", "fifteen letters"])
def test_short_hash_key_is_rejected(key: str | None) -> None:
    """The error says where to set it, and hides it."""
    with pytest.raises(VoiceOSValueError, match=r"at least 16 characters.*phone_hash_key") as caught:
        Redaction.choose({"phone_numbers": "hash"}, key)
    assert not key or key not in str(caught.value)
    with pytest.raises(VoiceOSValueError, match="at least 16 characters"):
        Redaction("hash", hash_key=key or "")
    assert Redaction.choose({"phone_numbers": "hash"}, KEY) == HASHED


def test_unknown_choice_is_rejected() -> None:
    """A misspelt one would keep personal data."""
    with pytest.raises(
        VoiceOSValueError, match="'phones' is not one of phone_numbers, messages, prompts, metadata"
    ):
        Redaction.choose({"phones": "drop"}, None)
    with pytest.raises(VoiceOSValueError, match="messages 'hash' is not one of keep, drop"):
        Redaction.choose({"messages": "hash"}, None)
    assert Redaction.choose(None, None) == Redaction.choose({}, "") == Redaction()
    assert Redaction.choose(None, KEY).keeps_everything
    assert not Redaction.choose({"messages": "drop"}, None).keeps_everything


def test_public_choices_never_hold_the_key() -> None:
    """Manifests contain them."""
    assert Redaction().public_choices == {}
    assert Redaction("drop", hash_key=KEY).public_choices == {"phone_numbers": "drop"}
    assert HASHED.public_choices == {"phone_numbers": "hash", "key_id": HASHED.key_id}
    assert KEY not in str(HASHED.public_choices)


def test_messages_can_be_dropped(read: Reader) -> None:
    """Roles and counts remain, and no content in any form."""
    messages = [{"role": "user", "content": "hello"}, {"role": 7, "at": 1}, "hello", {"content": ["hello"]}]
    item = json.dumps({"id": "a", "messages": messages})
    odd = json.dumps({"id": "b", "messages": {"hello": "hello"}})
    kept, dropped = read(item, odd), read(item, odd, redaction=Redaction(messages="drop"))
    assert "hello" not in str(dropped.tables)
    assert [row["message_count"] for row in dropped.rows] == [4, None]
    assert [row["role"] for row in dropped.messages] == ["user", None, None, None]
    assert {(row["content"], row["extra"]) for row in dropped.messages} == {(None, None)}
    assert dropped.decoded.drift == kept.decoded.drift


def test_prompts_can_be_dropped(read: Reader) -> None:
    """Columns are null, the configuration shows that there was one, and hashes stay."""
    item = json.dumps(
        {"id": "a", "agent_config": {"prompt": "sell", "initial_message": ["hi"], "metadata": {"a": "b"}}}
    )
    (kept,), (dropped,) = read(item).configs, read(item, redaction=Redaction(prompts="drop")).configs
    assert (dropped["prompt"], dropped["initial_message"]) == (None, None)
    assert json.loads(dropped["agent_config"]) == {
        "prompt": "***",
        "initial_message": "***",
        "metadata": {"a": "b"},
    }
    for name in ("agent_config_hash", "prompt_hash"):
        assert dropped[name] == kept[name]
    assert dropped["prompt_hash"] == hashlib.sha256(b"sell").hexdigest()


def test_missing_initial_message_is_kept(read: Reader) -> None:
    """It is configuration and not content."""
    item = json.dumps({"id": "a", "agent_config": {"prompt": "sell", "initial_message": None}})
    (row,) = read(item, redaction=Redaction(prompts="drop")).configs
    assert json.loads(row["agent_config"]) == {"prompt": "***", "initial_message": None}


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("+14155550142", "***"),
        ("call +1 (415) 555-0142.", "call ***."),
        ("whatsapp_14155550142", "whatsapp_***"),
        ("4155550142x99", "***x99"),
        ("+14155550142abc", "***abc"),
        (14155550142, "***"),
        ({"+14155550142": 1, "+14155550143": 2}, {"***": 1, "***2": 2}),
        ([["415-555-0142"]], [["***"]]),
        (-7, -7),
        (True, True),
        (None, None),
        ("2024-06-03T16:57:59Z", "2024-06-03T16:57:59Z"),
        ("CA0b0e6c1e", "CA0b0e6c1e"),
    ],
)
def test_possible_number_without_a_column_is_masked(read: Reader, value: Any, masked: Any) -> None:
    """Masking prefers false positives; other numbers and texts are kept."""
    item = json.dumps({"id": "a", "x": value, "messages": [{"x": value}]})
    for redaction in (HASHED, Redaction("drop")):
        result = read(item, redaction=redaction)
        assert json.loads(result.rows[0]["extra"]) == {"x": masked}
        assert json.loads(result.messages[0]["extra"]) == {"x": masked}
    assert json.loads(read(item).rows[0]["extra"]) == {"x": value}


def test_deep_nesting_is_masked(read: Reader) -> None:
    """It is as deep as JSON can be read, and redaction rejects no conversation."""
    deep = '{"y":' * 700 + '"+14155550142"' + "}" * 700
    result = read(f'{{"id":"a","x":{deep}}}', redaction=Redaction("drop"))
    assert "4155550142" not in result.rows[0]["extra"]


UNDOCUMENTED_TEXTS = {
    "transcript": "hello",
    "summary": {"hello": ["hello", {"by": "hello"}], "turns": 2, "final": True, "score": 0.5, "none": None},
    "empty": "",
    "invalid_values": {"x": "hello"},
    "phone_call": {"provider": "twilio", "greeting": "hello"},
    "cost_breakdown": {"voice": {"cost": "free", "said": ["hello"]}},
    "status": {"last_words": "hello"},
    "started_at": "today",
}


@pytest.mark.parametrize(
    "redaction",
    [Redaction(messages="drop"), Redaction(prompts="drop"), Redaction(messages="drop", prompts="drop")],
)
def test_texts_under_undocumented_keys_are_dropped(read: Reader, redaction: Redaction) -> None:
    """They may be messages or prompts. Keys and other types stay."""
    (row,) = read(json.dumps({"id": "a", **UNDOCUMENTED_TEXTS}), redaction=redaction).rows
    assert row["phone_provider"] == "twilio"
    assert json.loads(row["extra"]) == {
        "transcript": "***",
        "summary": {"hello": ["***", {"by": "***"}], "turns": 2, "final": True, "score": 0.5, "none": None},
        "empty": "",
        "invalid_values": {"x": "***"},
        "phone_call": {"greeting": "***"},
        "cost_breakdown": {"voice": {"cost": "free", "said": ["***"]}},
        "status": {"last_words": "***"},
        "started_at": "today",
    }


@pytest.mark.parametrize("redaction", [Redaction(), Redaction("drop"), HASHED])
def test_texts_stay_unless_messages_or_prompts_are_dropped(read: Reader, redaction: Redaction) -> None:
    """Dropping numbers drops no text."""
    (row,) = read(json.dumps({"id": "a", **UNDOCUMENTED_TEXTS}), redaction=redaction).rows
    expected = UNDOCUMENTED_TEXTS | {"phone_call": {"greeting": "hello"}}
    assert json.loads(row["extra"]) == expected


DOCUMENTED = {path[:n] for path in COLUMNS for n in range(1, len(path) + 1)}


@settings(max_examples=50)
@given(arbitrary_conversations())
def test_no_text_is_kept_under_an_undocumented_key(read: Reader, sent: dict[str, Any]) -> None:
    """All other values in `extra` are unchanged."""
    sent = {key: value for key, value in sent.items() if key not in ("messages", "agent_config")}
    (kept,), (dropped,) = (
        [
            dict(leaves(json.loads(row["extra"] or "{}")))
            for row in read(json_text(sent), redaction=redaction).rows
        ]
        for redaction in (Redaction(), Redaction(messages="drop"))
    )
    assert dropped == {
        path: "***" if isinstance(value, str) and value and path not in DOCUMENTED else value
        for path, value in kept.items()
    }


CONFIGURATION = {
    "prompt": None,
    "metadata": {"version": "hello"},
    "instructions": "hello +14155550142",
    "language_model": {
        "provider": "openai",
        "tools": [{"type": "function", "description": "hello"}],
        "messages": [{"role": "system", "text": "hello", "n": 1, "to": 14155550142}],
        "model": ["hello"],
    },
    "voice": {"provider": "playht", "style": "hello"},
    "webhooks": [{"method": "POST", "note": "hello"}, "hello"],
    "hooks": {"events": ["hello"], "+14155550142": 1},
}


@pytest.mark.parametrize("numbers", ["keep", "drop"])
@pytest.mark.parametrize("prompts", ["keep", "drop"])
def test_configuration_keeps_documented_fields(read: Reader, prompts: Any, numbers: Any) -> None:
    """In undocumented fields, texts are masked if prompts are dropped, and phone numbers unless they are kept."""
    sent = json.dumps({"id": "a", "agent_config": CONFIGURATION})
    result = read(sent, redaction=Redaction(numbers, prompts=prompts))
    said = "***" if prompts == "drop" else "hello"
    number = "***" if numbers == "drop" else "+14155550142"
    assert json.loads(result.configs[0]["agent_config"]) == CONFIGURATION | {
        "instructions": "***" if prompts == "drop" else f"hello {number}",
        "language_model": {
            "provider": "openai",
            "tools": [{"type": "function", "description": "hello"}],
            "messages": [
                {
                    "role": said.replace("hello", "system"),
                    "text": said,
                    "n": 1,
                    "to": "***" if numbers == "drop" else 14155550142,
                }
            ],
            "model": [said],
        },
        "webhooks": [{"method": "POST", "note": said}, said],
        "hooks": {"events": ["hello"], number: 1},
    }
    assert result.decoded.drift == read(sent).decoded.drift
    if numbers == "keep":
        assert result.configs[0]["agent_config_hash"] == read(sent).configs[0]["agent_config_hash"]


def test_configuration_is_kept_if_only_messages_are_dropped(read: Reader) -> None:
    """It holds nothing that was said."""
    item = json.dumps({"id": "a", "agent_config": CONFIGURATION})
    assert read(item, redaction=Redaction(messages="drop")).configs == read(item).configs


def test_deeply_nested_texts_are_masked(read: Reader) -> None:
    """They are as deep as JSON can be read."""
    deep = '{"y":' * 700 + '"hello"' + "}" * 700
    for item in (f'{{"id":"a","x":{deep}}}', f'{{"id":"a","agent_config":{{"x":{deep}}}}}'):
        result = read(item, redaction=Redaction(messages="drop", prompts="drop"))
        assert len(result.rows) == 1
        assert "hello" not in str(result.tables)


NUMBERS = [f"+1415555{n:04}" for n in range(100, 120)]
_number = iter(NUMBERS)
PLANTED = {
    "documented": {
        "phone_call": {"provider": "twilio", "from_number": next(_number), "to_number": next(_number)},
        "messages": [{"role": "user", "content": "planted-message-1"}],
        "agent_config": {
            "prompt": "planted-prompt-1",
            "initial_message": "planted-prompt-2",
            "webhooks": [
                {"url": "https://u:planted-secret-1@x.example", "headers": {"x": "planted-secret-2"}}
            ],
            "language_model": {"tools": [{"server": {"secret": "planted-secret-3"}}]},
        },
    },
    "odd": {
        "phone_call": {"from_number": [next(_number)], "to_number": int(next(_number)[1:])},
        "messages": [{"role": 7, "content": ["planted-message-2"]}, "planted-message-3"],
        "agent_config": {"prompt": ["planted-prompt-3"], "initial_message": {"text": "planted-prompt-4"}},
        "cost_breakdown": {"total": {"api_key": "planted-secret-4"}},
    },
    "odder": {
        "phone_call": next(_number),
        "messages": {"text": "planted-message-4"},
        "agent_config": [{"prompt": "planted-prompt-5"}],
        "status": {"token": "planted-secret-5"},
    },
    "undocumented fields": {
        "caller": next(_number),
        "phone_call": {"sip": f"sip:{next(_number)}@x.example", "ids": [int(next(_number)[1:])]},
        "calls": {next(_number): 1},
        next(_number): 1,
        "messages": [{"role": "user", "text": "planted-message-5", "from": next(_number)}],
        "cost_breakdown": {"password": "planted-secret-6"},
        "callback": "wss://x.example/?token=planted-secret-7",
        "transcript": "planted-message-8",
        "analysis": {"turns": [["planted-message-9"]]},
        "instructions": "planted-prompt-8",
        "agent_config": {
            "callers": [next(_number)],
            "instructions": "planted-prompt-9",
            "language_model": {"messages": [{"text": "planted-prompt-10"}]},
        },
    },
    "rejected": {
        "id": None,
        "phone_call": {"from_number": next(_number)},
        "messages": [{"role": "user", "content": "planted-message-6"}],
        "summary": {"text": "planted-message-10"},
        "agent_config": {"prompt": "planted-prompt-6", "webhooks": [{"headers": {"x": "planted-secret-8"}}]},
    },
}
NO_OBJECT = [[{"messages": "planted-message-7", "prompt": "planted-prompt-7", "secret": "planted-secret-9"}]]
PLANTS = ["planted-secret", "planted-message", "planted-prompt", *(number[3:] for number in NUMBERS)]
SEVERAL = [Encoding.choose(*choice) for choice in (("parquet", None), ("jsonl", None), ("csv", None))]


def bytes_of(folder: Path, encoding: Encoding) -> str:
    """Return all bytes of all files below a folder as text, with the values in Parquet files."""
    content = ""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content += path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                assert encoding.file_format == "parquet"
                content += str(pq.read_table(path).to_pylist()) + str(pq.read_metadata(path).metadata)
    return content


@pytest.mark.parametrize("encoding", SEVERAL, ids=lambda encoding: encoding.file_format)
@pytest.mark.parametrize("phone_numbers", ["drop", "hash", "keep"])
def test_no_planted_secret_is_written_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, encoding: Encoding, phone_numbers: str
) -> None:
    """Check data, manifest, rejected records and log; `keep` keeps only what it names."""
    caplog.set_level(logging.DEBUG)
    dropped = "keep" if phone_numbers == "keep" else "drop"
    redaction = Redaction.choose(
        {"phone_numbers": phone_numbers, "messages": dropped, "prompts": dropped}, "a key of the tests"
    )
    items: list[Any] = [{"id": name, **content} for name, content in PLANTED.items()] + NO_OBJECT
    clean = {"items": [items[0]], "has_more": True}
    bodies = [json.dumps(page).encode() for page in (clean, {"items": items, "has_more": False})]
    pages = [parse_page(Listing().page(1), Response(200, {}, body)) for body in bodies]
    clock = itertools.count(0, 11)
    receipt = export_pages(
        pages,
        tmp_path,
        interval=INTERVAL,
        encoding=encoding,
        exported_at=EXPORTED_AT,
        max_bad_records=2,
        redaction=redaction,
        monotonic=lambda: float(next(clock)),
    )
    assert (receipt.exported, receipt.rejected) == (4, 2)
    content = bytes_of(tmp_path, encoding) + str(caplog.messages) + str(receipt) + str(receipt.as_dict())
    found = {plant for plant in PLANTS if plant in content}
    if dropped == "drop":
        assert found == set()
    else:
        assert "planted-secret" not in found
        assert {"planted-message", "planted-prompt"} < found
    assert "a key of the tests" not in content
    logged = str(caplog.messages)
    assert [plant for plant in PLANTS if plant in logged] == []
    assert len(caplog.messages) > 2


def test_search_finds_a_planted_secret(tmp_path: Path) -> None:
    """The Parquet file is compressed."""
    pq.write_table(pa.table({"x": ["planted-secret"]}), tmp_path / "x.parquet", compression="zstd")
    assert "planted-secret" in bytes_of(tmp_path, SEVERAL[0])


METADATA = {
    "customer": "Ada",
    "callback": "+1 415 555 0142",
    "account": 4155550142,
    "+14155550143": {"vip": True, "none": None, "empty": "", "score": 1.5},
    "tags": ["Ada", "Ada", "4155550142"],
}


def metadata_of(read: Reader, **choices: Any) -> Any:
    """Return the metadata after redaction."""
    (row,) = read(
        json.dumps({"id": "a", "agent_config": {"metadata": METADATA}}), redaction=Redaction(**choices)
    ).configs
    return json.loads(row["agent_config"])["metadata"]


@pytest.mark.parametrize("choices", [{"phone_numbers": "drop"}, {"phone_numbers": "hash", "hash_key": KEY}])
def test_phone_numbers_in_metadata_are_masked(read: Reader, choices: dict[str, str]) -> None:
    """Both values and keys are masked, and everything else is kept."""
    assert metadata_of(read, **choices) == {
        "customer": "Ada",
        "callback": "***",
        "account": "***",
        "***": METADATA["+14155550143"],
        "tags": ["Ada", "Ada", "***"],
    }


def test_metadata_is_kept_dropped_or_hashed(read: Reader) -> None:
    """Hashing keeps keys and equality; dropping only shows that there was metadata."""
    assert metadata_of(read) == METADATA
    assert metadata_of(read, metadata="drop") == "***"
    hashed = metadata_of(read, metadata="hash", hash_key=KEY)
    expected = hmac.new(KEY.encode(), b"Ada", hashlib.sha256).hexdigest()
    assert hashed["customer"] == hashed["tags"][0] == hashed["tags"][1] == expected
    assert hashed["account"] == hashed["tags"][2] != hashed["callback"]
    inner = hashed["+14155550143"]
    assert (inner["vip"], inner["none"], inner["empty"]) == (True, None, "")
    assert len(inner["score"]) == 64
    assert not Redaction(metadata="drop").keeps_everything


def test_hashed_metadata_has_a_key_id_and_numbers_do_not(read: Reader) -> None:
    """Another key is another export; `phone_key_id` concerns only numbers."""
    redaction = Redaction(metadata="hash", hash_key=KEY)
    assert redaction.key_id == HASHED.key_id
    assert Redaction(metadata="drop").key_id is None
    (row,) = read(call("+14155550142"), redaction=redaction).rows
    assert (row["from_number"], row["phone_key_id"]) == ("+14155550142", None)


@pytest.mark.parametrize(
    "choices",
    [
        {"phone_numbers": "drop"},
        {"phone_numbers": "hash", "hash_key": KEY},
        {"metadata": "drop"},
        {"metadata": "hash", "hash_key": KEY},
        {"metadata": "hash", "phone_numbers": "drop", "hash_key": KEY},
    ],
)
@pytest.mark.parametrize("prompts", ["keep", "drop"])
def test_no_number_can_be_found_by_brute_force(read: Reader, choices: dict[str, str], prompts: Any) -> None:
    """The hash of a configuration includes its metadata only as a keyed hash."""
    config = {"prompt": "p", "metadata": {"callback": "+14155550142"}}
    (row,) = read(
        json.dumps({"id": "a", "agent_config": config}), redaction=Redaction(**choices, prompts=prompts)
    ).configs
    guesses = [json.dumps(config, sort_keys=True, separators=(",", ":"))]
    guesses.append(guesses[0].replace('"p"', '"***"'))
    assert row["agent_config_hash"] not in [hashlib.sha256(guess.encode()).hexdigest() for guess in guesses]
    assert "4155550142" not in str(row)


@pytest.mark.parametrize("redaction", [Redaction(metadata="drop"), Redaction(metadata="hash", hash_key=KEY)])
def test_metadata_in_another_structure_is_dropped(read: Reader, redaction: Redaction) -> None:
    """It may not be an object, or belong to a rejected conversation."""
    items = [
        {"id": "a", "agent_config": {"metadata": "Ada"}},
        {"id": "b", "agent_config": {"metadata": ["Ada"]}},
        {"id": "c", "agent_config": [{"metadata": "Ada"}]},
        {"id": None, "agent_config": {"metadata": {"x": "Ada"}}},
    ]
    result = read(*map(json.dumps, items), redaction=redaction)
    assert "Ada" not in str(result.tables) + str(result.decoded.rejected)
    assert (len(result.rows), len(result.decoded.rejected)) == (3, 1)


def test_many_numbers_as_keys_stay_as_many_keys(read: Reader) -> None:
    """Their masks are numbered, also next to a key that looks like a mask."""
    calls = {f"+1415555{n:04}": n for n in range(2_000)} | {"***": -1, "***7": -2}
    (row,) = read(json.dumps({"id": "a", "calls": calls}), redaction=Redaction("drop")).rows
    kept = json.loads(row["extra"])["calls"]
    assert sorted(kept.values()) == sorted(calls.values())
    assert (kept["***"], kept["***7"]) == (-1, -2)
