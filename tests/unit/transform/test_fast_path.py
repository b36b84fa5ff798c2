"""Checks of whole columns on the fast path."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.conversation_strategies import URLS
from tests.support.decoding import as_page, as_text, decoded
from voiceos_provider.client.models import ConversationStruct
from voiceos_provider.transform.column_values import decode_columns, mask_url_secrets
from voiceos_provider.transform.credentials import mask_urls

SECRET = "https://a.example/?token=hunter2"


def documented(**content: Any) -> Any:
    """Return a documented conversation."""
    item = as_page(json.dumps({"id": "a"} | content))
    assert isinstance(item, ConversationStruct)
    return item


@pytest.mark.parametrize("at", [0, 1, 254, 255, 256, 257, 599])
def test_single_secret_among_many_texts_is_found(at: int) -> None:
    """Its position does not matter, and its neighbours are unchanged."""
    said = ["a/b", "see:", "//x", None, "é" * 40] * 120
    said[at] = SECRET
    contents = [
        row["content"]
        for row in decoded(
            [documented(messages=[{"role": "user", "content": text}]) for text in said]
        ).messages
    ]
    assert contents[at] == "https://a.example/?token=***"
    assert [text for n, text in enumerate(contents) if n != at] == said[:at] + said[at + 1 :]


def test_secret_outside_messages_is_found() -> None:
    """It may be in any text of a conversation."""
    rows = decoded([documented(), documented(uri=SECRET), documented(phone_call={"to_number": SECRET})]).rows
    assert "hunter2" not in str(rows)
    assert [row["uri"] for row in rows] == [None, "https://a.example/?token=***", None]


@settings(max_examples=300)
@given(st.lists(st.none() | URLS, max_size=6))
@example(["a://\xa0@", "a://b\x85@", "a://b\v?token=s", None, "https://b\x1c?token=s"])
@example(["://u@", "\u212a://u:p@x", "a://\n?token=s", "a:", "//b?token=s"])
def test_secrets_in_urls_are_masked_alike_in_columns_and_texts(texts: list[str | None]) -> None:
    """Two engines differ in what counts as space or letter."""
    expected = [text and mask_urls(text) for text in texts]
    assert mask_url_secrets(pa.array(texts, pa.string())).to_pylist() == expected


@settings(max_examples=50)
@given(st.lists(st.fixed_dictionaries({"id": URLS.filter(bool), "uri": URLS, "content": URLS}), max_size=4))
def test_texts_are_masked_alike_by_both_decoders(sent: list[dict[str, str]]) -> None:
    """Columns of conversations and messages are masked; ids are unchanged."""
    items = [
        json.dumps(
            {"id": of["id"], "uri": of["uri"], "messages": [{"role": "user", "content": of["content"]}]}
        )
        for of in sent
    ]
    fast, fallback = (decoded([way(item) for item in items]) for way in (as_page, as_text))
    assert repr(fast.tables) == repr(fallback.tables)
    assert [row["id"] for row in fast.rows] == [of["id"] for of in sent]
    assert [row["uri"] for row in fast.rows] == [mask_urls(of["uri"]) for of in sent]
    assert [row["content"] for row in fast.messages] == [mask_urls(of["content"]) for of in sent]


def test_column_with_a_secret_in_a_url_stays_on_the_fast_path() -> None:
    """The secret is masked, and other URLs are unchanged."""
    uris = ["https://api.voiceos.io/conversations/a", "https://x.example/?id=7#top", "/a?token=s", SECRET]
    columns, invalid = decode_columns([documented(uri=uri) for uri in uris])
    assert columns["uri"].to_pylist() == [*uris[:3], "https://a.example/?token=***"]
    assert invalid == set()


@pytest.mark.parametrize("texts", [["x:", "//y?token=s"], ["x:", "/", None, ""], [None, None], []])
def test_adjacent_texts_do_not_form_a_url(texts: list[str | None]) -> None:
    """The end of one and the start of the next are unchanged."""
    assert mask_url_secrets(pa.array(texts, pa.string())).to_pylist() == texts


@pytest.mark.parametrize(
    "odd", ['"1,5"', "[1,2]", '{"a":1,"b":2}', '","', '"null"', "true", "1e400", "1e-30"]
)
@pytest.mark.parametrize("key", ["cost", "seconds"])
def test_no_number_replaces_its_neighbour(odd: str, key: str) -> None:
    """Numbers are parsed as one text, in which a value with commas must not shift the others."""
    items = [
        f'{{"id":"{n}","cost_breakdown":{{"total":{n},"agent":{{"cost":{n},"{key}":{n}}}}}}}'
        for n in range(5)
    ]
    items[2] = items[2].replace(f'"{key}":2', f'"{key}":{odd}')
    fast, fallback = (decoded([way(item) for item in items]) for way in (as_page, as_text))
    assert repr(fast.tables) == repr(fallback.tables)
    assert [int(row["total_cost"]) for row in fast.rows] == [0, 1, 2, 3, 4]
    values = [row[f"agent_{'cost' if key == 'cost' else 'cost_seconds'}"] for row in fast.rows]
    assert [None if value is None else int(value) for value in values[:2] + values[3:]] == [0, 1, 3, 4]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 513])
def test_any_number_of_conversations_is_decoded_at_once(size: int) -> None:
    """Missing objects and values stay at their positions."""
    items = [
        json.dumps(
            {"id": str(n)}
            | ({"cost_breakdown": {"total": n, "voice": None}} if n % 3 else {})
            | ({"phone_call": {"to_number": str(n)}} if n % 2 else {"phone_call": None})
        )
        for n in range(size)
    ]
    rows = decoded([as_page(item) for item in items]).rows
    assert [row["id"] for row in rows] == [str(n) for n in range(size)]
    assert [row["total_cost"] for row in rows] == [n if n % 3 else None for n in range(size)]
    assert [row["to_number"] for row in rows] == [str(n) if n % 2 else None for n in range(size)]


@pytest.mark.parametrize(
    "odd", ["2024-13-01T00:00:00Z", "2024-02-30T00:00:00Z", "2024-06-03T24:00:00Z", "2024-06-03T23:59:60Z"]
)
@pytest.mark.parametrize("key", ["started_at", "ended_at"])
def test_impossible_date_affects_only_itself(odd: str, key: str) -> None:
    """It stays in `extra`."""
    plain = {"started_at": "2024-06-03T16:58:02Z", "ended_at": "2024-06-03T16:59:02+00:00"}
    items = [json.dumps({"id": str(n)} | plain | ({key: odd} if n == 1 else {})) for n in range(3)]
    fast, fallback = (decoded([way(item) for item in items]) for way in (as_page, as_text))
    assert repr(fast.tables) == repr(fallback.tables)
    assert [row[key] is None for row in fast.rows] == [False, True, False]
    assert json.loads(fast.rows[1]["extra"]) == {key: odd}


@pytest.mark.parametrize("offset", ["+14:00", "+23:59", "-23:59", "+24:00", "+23:60", "+99:99", "-00:00"])
def test_every_offset_is_read_alike_by_both_decoders(offset: str) -> None:
    """Some offsets exist nowhere."""
    items = [json.dumps({"id": "a", "started_at": f"2024-06-03T16:58:02{offset}"}), '{"id": "b"}']
    fast, fallback = (decoded([way(item) for item in items]) for way in (as_page, as_text))
    assert repr(fast.tables) == repr(fallback.tables)
