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


def test_numbers_are_kept_unless_told_otherwise(read: Reader) -> None:
    """As they were sent, with no key."""
    (row,) = read(call("+1 (415) 555-0142")).rows
    assert (row["from_number"], row["to_number"], row["phone_key_id"]) == ("+1 (415) 555-0142", None, None)


def test_numbers_can_be_dropped(read: Reader) -> None:
    """Nothing of them is left."""
    (row,) = read(call("+14155550142"), redaction=Redaction("drop")).rows
    assert row["from_number"] is row["to_number"] is row["phone_key_id"] is row["extra"] is None


def test_a_number_can_be_hashed(read: Reader) -> None:
    """HMAC-SHA256 over its E.164 form: who has the key can look a number up, and nobody else can."""
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


def test_repeat_callers_are_found_in_whatever_spelling(read: Reader) -> None:
    """One number is one hash, as documented or not."""
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
def test_what_is_no_number_equals_only_itself(number: str, form: str) -> None:
    """Or all callers without digits would be one; and without a prefix nothing tells the country."""
    assert e164(number) == form


def test_another_key_is_another_hash_and_says_so(read: Reader) -> None:
    """The key's id tells which rows can be compared, and nothing of the key."""
    other = Redaction("hash", hash_key="another long key")
    (first,), (second,) = (read(call("+14155550142"), redaction=p).rows for p in (HASHED, other))
    assert first["from_number"] != second["from_number"]
    assert first["phone_key_id"] != second["phone_key_id"]
    assert first["phone_key_id"] == read(call("+442079460018"), redaction=HASHED).rows[0]["phone_key_id"]
    assert KEY not in repr(HASHED) + first["phone_key_id"]


@pytest.mark.parametrize("key", [None, "", "fifteen letters"])
def test_hashing_needs_a_key_that_cannot_be_guessed(key: str | None) -> None:
    """The error says where to put it, and does not show it."""
    with pytest.raises(VoiceOSValueError, match=r"at least 16 characters.*phone_hash_key") as caught:
        Redaction.choose({"phone_numbers": "hash"}, key)
    assert not key or key not in str(caught.value)
    with pytest.raises(VoiceOSValueError, match="at least 16 characters"):
        Redaction("hash", hash_key=key or "")
    assert Redaction.choose({"phone_numbers": "hash"}, KEY) == HASHED


def test_only_what_there_is_can_be_chosen() -> None:
    """A class of fields or a choice that is misspelled would keep what was not to be kept."""
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
    """They are published in manifests."""
    assert Redaction().public_choices == {}
    assert Redaction("drop", hash_key=KEY).public_choices == {"phone_numbers": "drop"}
    assert HASHED.public_choices == {"phone_numbers": "hash", "key_id": HASHED.key_id}
    assert KEY not in str(HASHED.public_choices)


def test_messages_can_be_dropped(read: Reader) -> None:
    """Who spoke and how often remains; what was said does not, in whatever shape it came."""
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
    """Columns are null, the configuration shows that there was one, and the hashes stay."""
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


def test_an_agent_that_waits_for_the_user_is_still_told(read: Reader) -> None:
    """A missing initial message is configuration, and no secret."""
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
def test_what_may_be_a_number_is_masked_where_no_column_is(read: Reader, value: Any, masked: Any) -> None:
    """Rather a value too many than a number that stays; numbers of another kind and other texts are kept."""
    item = json.dumps({"id": "a", "x": value, "messages": [{"x": value}]})
    for redaction in (HASHED, Redaction("drop")):
        result = read(item, redaction=redaction)
        assert json.loads(result.rows[0]["extra"]) == {"x": masked}
        assert json.loads(result.messages[0]["extra"]) == {"x": masked}
    assert json.loads(read(item).rows[0]["extra"]) == {"x": value}


def test_nesting_is_masked_to_its_ground(read: Reader) -> None:
    """As deep as JSON can be read at all; no conversation is rejected for the sake of redaction."""
    deep = '{"y":' * 700 + '"+14155550142"' + "}" * 700
    result = read(f'{{"id":"a","x":{deep}}}', redaction=Redaction("drop"))
    assert "4155550142" not in result.rows[0]["extra"]


TOLD_ELSEWHERE = {
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
def test_words_are_not_kept_under_keys_that_nobody_knows(read: Reader, redaction: Redaction) -> None:
    """They may be what was said, or what the agent was told to say. Keys stay, and so does what is no text."""
    (row,) = read(json.dumps({"id": "a", **TOLD_ELSEWHERE}), redaction=redaction).rows
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
def test_words_stay_where_nothing_told_is_dropped(read: Reader, redaction: Redaction) -> None:
    """Who only leaves numbers out loses no words."""
    (row,) = read(json.dumps({"id": "a", **TOLD_ELSEWHERE}), redaction=redaction).rows
    expected = TOLD_ELSEWHERE | {"phone_call": {"greeting": "hello"}}
    assert json.loads(row["extra"]) == expected


DOCUMENTED = {path[:n] for path in COLUMNS for n in range(1, len(path) + 1)}


@settings(max_examples=50)
@given(arbitrary_conversations())
def test_no_text_is_kept_under_an_unknown_key(read: Reader, sent: dict[str, Any]) -> None:
    """Wherever it stands in `extra`; and whatever else stands there is what it would be."""
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
def test_a_configuration_keeps_what_is_documented(read: Reader, prompts: Any, numbers: Any) -> None:
    """In undocumented fields, texts are masked with prompts dropped, and phone numbers unless they are kept."""
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


def test_what_an_agent_is_told_says_nothing_of_a_call(read: Reader) -> None:
    """With only messages dropped, configurations are whole."""
    item = json.dumps({"id": "a", "agent_config": CONFIGURATION})
    assert read(item, redaction=Redaction(messages="drop")).configs == read(item).configs


def test_words_are_masked_to_their_ground(read: Reader) -> None:
    """As deep as JSON can be read at all."""
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
    """Every byte of every file below, as text; of Parquet, also its values."""
    told = ""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            told += path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                assert encoding.file_format == "parquet"
                told += str(pq.read_table(path).to_pylist()) + str(pq.read_metadata(path).metadata)
    return told


@pytest.mark.parametrize("encoding", SEVERAL, ids=lambda encoding: encoding.file_format)
@pytest.mark.parametrize("phone_numbers", ["drop", "hash", "keep"])
def test_no_planted_secret_is_written_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, encoding: Encoding, phone_numbers: str
) -> None:
    """In no file, data, manifest or rejected ones, and in no line of the log; with `keep`, just what is kept is."""
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
    told = bytes_of(tmp_path, encoding) + str(caplog.messages) + str(receipt) + str(receipt.as_dict())
    found = {plant for plant in PLANTS if plant in told}
    if dropped == "drop":
        assert found == set()
    else:
        assert "planted-secret" not in found
        assert {"planted-message", "planted-prompt"} < found
    assert "a key of the tests" not in told
    logged = str(caplog.messages)
    assert [plant for plant in PLANTS if plant in logged] == []
    assert len(caplog.messages) > 2


def test_the_search_would_find_what_is_there(tmp_path: Path) -> None:
    """Also in a compressed Parquet file."""
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
    """Return what is kept of the metadata."""
    (row,) = read(
        json.dumps({"id": "a", "agent_config": {"metadata": METADATA}}), redaction=Redaction(**choices)
    ).configs
    return json.loads(row["agent_config"])["metadata"]


@pytest.mark.parametrize("choices", [{"phone_numbers": "drop"}, {"phone_numbers": "hash", "hash_key": KEY}])
def test_phone_numbers_in_metadata_are_masked(read: Reader, choices: dict[str, str]) -> None:
    """Values and keys; everything else is kept."""
    assert metadata_of(read, **choices) == {
        "customer": "Ada",
        "callback": "***",
        "account": "***",
        "***": METADATA["+14155550143"],
        "tags": ["Ada", "Ada", "***"],
    }


def test_metadata_is_kept_dropped_or_hashed(read: Reader) -> None:
    """Hashed, its keys remain, and equal values are equal; what is dropped leaves no trace but that it was there."""
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


def test_the_key_of_hashed_metadata_has_an_id_but_numbers_are_not_marked_as_hashed(read: Reader) -> None:
    """An export with another key is another export; `phone_key_id` is about the numbers alone."""
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
def test_no_number_can_be_found_by_trying_all_of_them(
    read: Reader, choices: dict[str, str], prompts: Any
) -> None:
    """A configuration's hash is not made from what is not kept of its metadata, except for a keyed hash of it."""
    config = {"prompt": "p", "metadata": {"callback": "+14155550142"}}
    (row,) = read(
        json.dumps({"id": "a", "agent_config": config}), redaction=Redaction(**choices, prompts=prompts)
    ).configs
    guesses = [json.dumps(config, sort_keys=True, separators=(",", ":"))]
    guesses.append(guesses[0].replace('"p"', '"***"'))
    assert row["agent_config_hash"] not in [hashlib.sha256(guess.encode()).hexdigest() for guess in guesses]
    assert "4155550142" not in str(row)


@pytest.mark.parametrize("redaction", [Redaction(metadata="drop"), Redaction(metadata="hash", hash_key=KEY)])
def test_metadata_is_not_kept_in_a_configuration_of_another_shape(read: Reader, redaction: Redaction) -> None:
    """Neither where it is not an object, nor in a rejected conversation."""
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
    """Their masks are numbered, also beside a key that looks like one."""
    calls = {f"+1415555{n:04}": n for n in range(2_000)} | {"***": -1, "***7": -2}
    (row,) = read(json.dumps({"id": "a", "calls": calls}), redaction=Redaction("drop")).rows
    kept = json.loads(row["extra"])["calls"]
    assert sorted(kept.values()) == sorted(calls.values())
    assert (kept["***"], kept["***7"]) == (-1, -2)
