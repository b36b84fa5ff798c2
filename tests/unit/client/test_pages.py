"""Decoding of pages, and the page numbers to request."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voiceos_provider.client.json_faults import replace_unstorable
from voiceos_provider.client.models import ConversationStruct
from voiceos_provider.client.pages import RawPage, decoded_page, parse_page, split_page
from voiceos_provider.client.paging import PageNumberPaginator
from voiceos_provider.client.requests import Listing, Request
from voiceos_provider.client.responses import Response
from voiceos_provider.exceptions import VoiceOSContractError, VoiceOSResponseError
from voiceos_provider.interval import Interval
from voiceos_provider.transform import Decoder

Flag = bool | None
DAY = datetime(2026, 11, 22, tzinfo=UTC)


def exchange(body: bytes | str, **headers: str) -> tuple[Request, Response]:
    """Return a request, and its response with this body."""
    content = body.encode() if isinstance(body, str) else body
    return Request("/conversations"), Response(200, headers, content)


def split(body: bytes | str) -> RawPage:
    """Return the page in a body, its conversations as text."""
    return split_page(*exchange(body))


def parsed(body: bytes | str, **headers: str) -> RawPage:
    """Return the page in a body; check that both parsers agree on its ids and its flag."""
    page, text = (parse(*exchange(body, **headers)) for parse in (parse_page, split_page))
    assert (page.ids, page.has_more, page.replaced) == (text.ids, text.has_more, text.replaced)
    return page


def page(*ids: str | None, has_more: bool | None = True) -> RawPage:
    """Return a page of these ids."""
    items = tuple(msgspec.Raw(json.dumps({"id": id_} if id_ else {}).encode()) for id_ in ids)
    return RawPage(items, ids, has_more)


def requested(*pages: RawPage, max_pages: int = 100) -> list[str]:
    """Return the indexes requested while these pages are returned, with an ellipsis if more would follow."""
    paginator = PageNumberPaginator(Listing(), max_pages=max_pages)
    indexes = []
    for response in pages:
        if paginator.request is None:
            break
        indexes.append(dict(paginator.request.params)["index"])
        paginator.update(response)
    if paginator.request is not None:
        indexes.append("…")
    return indexes


def test_pages_are_requested_until_the_flag_is_false() -> None:
    """They are counted from 1."""
    pages = page("a", "b"), page("c", "d"), page("e", has_more=False), page("f")
    assert requested(*pages) == ["1", "2", "3"]


@pytest.mark.parametrize("flag", [True, None])
def test_empty_page_is_the_end_despite_its_flag(flag: Flag) -> None:
    """The flag may be true."""
    assert requested(page("a", has_more=flag), page(has_more=flag), page("b")) == ["1", "2"]


@pytest.mark.parametrize("flag", [True, None])
def test_page_without_a_new_id_is_the_end(flag: Flag) -> None:
    """A server that repeats pages, or mixes earlier ones, causes no loop."""
    pages = [page("a", "b", has_more=flag), page("c", has_more=flag), page("b", "c", has_more=flag)]
    assert requested(*pages, page("d")) == ["1", "2", "3"]


def test_one_new_id_is_enough_to_continue() -> None:
    """New conversations move rows to the next page."""
    pages = page("a", "b", "c"), page("c", "d", "e"), page("e", "f", has_more=False)
    assert requested(*pages) == ["1", "2", "3"]


def test_false_flag_is_confirmed_if_the_page_may_have_been_cut() -> None:
    """A page as long as the longest: the server may have compared it with its own lower limit."""
    assert requested(page("a", "b", has_more=False), page("c", "d", has_more=False), page()) == [
        "1",
        "2",
        "3",
    ]
    assert requested(page("a", "b"), page("c", has_more=False)) == ["1", "2"]


def test_short_page_is_not_the_end() -> None:
    """A server may limit the page size."""
    assert requested(page("a"), page("b"), page("c")) == ["1", "2", "3", "…"]


def test_items_without_an_id_count_as_progress() -> None:
    """Their text distinguishes them."""
    odd = [RawPage((msgspec.Raw(b'{"n":%d}' % n),), (None,), True) for n in (1, 2, 2)]
    assert requested(*odd, page("d")) == ["1", "2", "3"]


def test_page_limit_raises_and_never_truncates() -> None:
    """A listing that ends at the limit is complete."""
    assert requested(page("a", "b"), page("c", has_more=False), max_pages=2) == ["1", "2"]
    with pytest.raises(VoiceOSContractError, match=r"page 2 still has has_more=true.*shorter interval"):
        requested(page("a"), page("b"), max_pages=2)


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from("abcdefgh"), max_size=4), st.sampled_from([True, False, None]))
    )
)
def test_paginator_always_ends(responses: list[tuple[list[str], bool | None]]) -> None:
    """With eight ids, no server can extend it beyond nine pages."""
    pages = [page(*ids, has_more=flag) for ids, flag in responses]
    assert len(requested(*pages)) <= 10


@pytest.mark.parametrize(
    ("keys", "flag"),
    [
        ('"has_more": true', True),
        ('"has_more" :\n false', False),
        ('"has_next": true', True),
        ('"has_next": false', False),
        ('"has_more": false, "has_next": true', False),
        ('"has_more": true, "has_next": false', True),
        ('"has_more": 1', None),
        ('"has_more": 0', None),
        ('"has_more": 57', None),
        ('"has_more": "false"', None),
        ('"has_more": null', None),
        ('"has_more": null, "has_next": false', None),
        ('"index": 1', None),
    ],
)
def test_only_a_boolean_flag_counts(keys: str, flag: Flag) -> None:
    """It is `has_more`, or else `has_next`; an integer is a total that the documentation names wrongly."""
    assert parsed(f'{{"items": [], {keys}}}').has_more is flag


def test_conversations_are_kept_as_sent() -> None:
    """Bytes and order are equal, with both copies of a repeated id."""
    items = ('{"id": "a", "n": 1.50}', '{ "n":2,"id":"b"}', '{"id": "a", "n": 0.1e1}')
    body = f'{{"items": [{", ".join(items)}], "has_more": true}}'
    for raw in (parsed(body), split(body)):
        assert tuple(bytes(item).decode() for item in raw.items) == items
        assert raw.ids == ("a", "b", "a")


def test_documented_conversation_is_decoded_at_once() -> None:
    """Others on the page do not matter, and the order stays."""
    plain, odd = '{"id": "a", "status": "ended"}', '{"id": "b", "status": 7}'
    assert [
        isinstance(item, ConversationStruct) for item in parsed(f'{{"items": [{plain}, {plain}]}}').items
    ] == [
        True,
        True,
    ]
    mixed = parsed(f'{{"items": [{plain}, {odd}, {plain}]}}')
    assert [isinstance(item, ConversationStruct) for item in mixed.items] == [True, False, True]
    assert mixed.ids == ("a", "b", "a")
    assert not any(isinstance(item, ConversationStruct) for item in split(f'{{"items": [{plain}]}}').items)


@pytest.mark.parametrize(
    "item",
    [
        '{"id": "a", "x": null}',
        '{"id": ""}',
        '{"id": "a", "started_at": 1717433882}',
        '{"id": "a", "phone_call": {"provider": "twilio", "sip": true}}',
        '{"id": "a", "phone_call": {}}',
        '{"id": "a", "cost_breakdown": {"agent": {}}}',
        '{"id": "a", "cost_breakdown": {"voice": {"characters": 1.0}}}',
        '{"id": "a", "messages": [null]}',
        '{"id": "a", "messages": {"role": "agent"}}',
    ],
)
def test_conversation_with_deviations_stays_text(item: str) -> None:
    """An undocumented key, another type or an empty object needs the fallback decoder."""
    (raw,) = parsed(f'{{"items": [{item}]}}').items
    assert bytes(raw).decode() == item


@pytest.mark.parametrize(
    "item", ["{}", '{"id": null}', '{"id": 7}', '{"id": ""}', '{"id": ["a"]}', "null", "[]"]
)
def test_item_without_a_usable_id_has_none(item: str) -> None:
    """Other items of its page are read."""
    assert parsed(f'{{"items": [{{"id": "a"}}, {item}]}}').ids == ("a", None)


NOT_JSON = {
    "empty": (b"", "it is empty"),
    "a login page": (b"<html><title>Sign in</title></html>", "it is HTML or XML"),
    "cut": (b'{"items": [{"id": "a"}', "it ends too early, at byte 22"),
    "cut in a string": (b'{"items": [{"id": "a', "it ends too early, at byte 20"),
    "a flag without a value": (b'{"items": [], "has_more": }', "invalid character at byte 26"),
    "a declared charset that it is not in": (b'{"items": "\xff', "invalid UTF-8 at byte 11"),
    "UTF-16 without a mark": ('{"items": []}'.encode("utf-16-le"), "expected '\"' at byte 1"),
    "something after its end": (b'{"items": []} {"items": []}', "trailing characters at byte 15"),
    "single quotes": (b"{'items': []}", "expected '\"' at byte 1"),
    "brackets without end": (b'{"items": ' + b"[" * 50_000, "it is nested too deeply"),
}


@pytest.mark.parametrize(("body", "fault"), NOT_JSON.values(), ids=NOT_JSON.keys())
def test_body_that_is_not_json_is_rejected_without_quoting_it(body: bytes, fault: str) -> None:
    """The error gives cause, position, type and size; it is retryable."""
    with pytest.raises(VoiceOSResponseError) as caught:
        parsed(body, **{"content-type": "text/html", "x-request-id": "req_1"})
    assert str(caught.value) == (
        f"GET /conversations: 200, but the body is not JSON: {fault} (text/html, {len(body):,} bytes) "
        "(request id req_1)."
    )
    assert caught.value.retryable


FAULTY = {
    "NaN": (b'{"id": "b", "cost": NaN}', "NaN at byte 20"),
    "Infinity": (b'{"id": "b", "cost": -Infinity}', "-Infinity at byte 20"),
    "invalid UTF-8": (b'{"id": "b", "x": "\xff"}', "invalid UTF-8 at byte 18"),
    "half a pair in UTF-8": (b'{"id": "b", "x": "\xed\xa0\x80"}', "invalid UTF-8 at byte 18"),
    "a long way to write NUL": (b'{"id": "b", "x": "\xc0\x80"}', "invalid UTF-8 at byte 18"),
    "a raw control character": (b'{"id": "\x01"}', "an unescaped control character at byte 8"),
    "a bad escape": (b'{"id": "\\q"}', "invalid escaped character at byte 9"),
    "nested too deeply": (
        b'{"id": "b", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        "it is nested too deeply",
    ),
    "a number that is none": (b'{"id": "b", "x": 01}', "invalid number at byte 18"),
    "a trailing comma": (b'{"id": "b",}', "trailing comma in object at byte 11"),
}


@pytest.mark.parametrize("parse", [parse_page, split_page])
@pytest.mark.parametrize(("item", "fault"), FAULTY.values(), ids=FAULTY.keys())
@pytest.mark.parametrize("cut", [slice(0, 3), slice(1, 3), slice(0, 2)], ids=["in between", "first", "last"])
def test_malformed_conversation_does_not_affect_others(
    parse: Any, item: bytes, fault: str, cut: slice
) -> None:
    """It has no id and is rejected with the cause."""
    items = [b'{"id": "a, ]}", "x": "\\ud83d"}', item, b'{"id": "c", "n": [1, {}]}'][cut]
    body = b' {"index": 1, "items" : [ ' + b" ,\n".join(items) + b' ], "has_more": true} '
    page = parse(*exchange(body))
    expected = ["a, ]}", None, "c"][cut]
    assert list(page.ids) == expected
    assert (page.has_more, page.replaced) == (True, 1 if "a, ]}" in expected else 0)
    assert bytes(page.items[expected.index(None)]) == item
    shown = decoded_page(split_page(*exchange(body)))
    assert [conversation.id for conversation in shown.conversations] == [id_ for id_ in expected if id_]
    assert [(rejected.reason, rejected.raw) for rejected in shown.rejected] == [(f"not JSON: {fault}", item)]


def test_malformed_conversation_becomes_no_row() -> None:
    """Every decoder of the page rejects it."""
    body = b'{"items": [{"id": "a"}, {"id": "b", "uri": NaN}, {"id": "c"}], "has_more": false}'
    decoded = Decoder(Interval(DAY, DAY + timedelta(days=1)), DAY).decode(parse_page(*exchange(body)).items)
    assert decoded.rows["conversations"].batch.column("id").to_pylist() == ["a", "c"]
    assert [rejected.reason for rejected in decoded.rejected] == ["not JSON: NaN at byte 19"]


@example(b"-")
@given(st.binary(max_size=60) | st.text('{}[],:"\\ai ', max_size=60).map(str.encode))
def test_no_body_breaks_the_search_for_a_fault(noise: bytes) -> None:
    """Any bytes are read or rejected."""
    for body in (noise, b'{"items": [{"id": "a"}, ' + noise + b'], "has_more": true}'):
        with contextlib.suppress(VoiceOSResponseError):
            page = parsed(body)
            assert len(page.items) == len(page.ids)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_is_accepted(encoding: str) -> None:
    """RFC 8259 allows ignoring it; it identifies UTF-16 and UTF-32."""
    assert parsed('{"items": [{"id": "é"}], "has_more": false}'.encode(encoding)).ids == ("é",)


def test_declared_charset_is_used() -> None:
    """The body is not UTF-8."""
    body = '{"items": [{"id": "é"}], "has_more": false}'.encode("latin-1")
    assert parsed(body, **{"content-type": "application/json; charset=iso-8859-1"}).ids == ("é",)


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "7"])
def test_page_must_be_an_object(body: str) -> None:
    """The contract does not allow a plain list."""
    with pytest.raises(VoiceOSResponseError, match="the body is not a JSON object"):
        parsed(body)


@pytest.mark.parametrize("items", ["null", "[]"])
@pytest.mark.parametrize("flag", [True, False])
def test_empty_page_is_data_whatever_its_flag(items: str, flag: Flag) -> None:
    """Null counts as an empty list; the caller interprets a true flag."""
    page = parsed(f'{{"items": {items}, "has_more": {json.dumps(flag)}}}')
    assert (page.items, page.ids, page.has_more) == ((), (), flag)


@pytest.mark.parametrize("items", ["{}", '"a"', "7", "true"])
def test_items_must_be_a_list(items: str) -> None:
    """Anything else never counts as the end."""
    with pytest.raises(VoiceOSResponseError, match="'items' is not a list"):
        parsed(f'{{"items": {items}, "has_more": false}}')


def test_page_without_items_names_its_keys() -> None:
    """An error object with status 200 can be recognized."""
    with pytest.raises(VoiceOSResponseError, match=r"no 'items' \(its keys: error, code\)"):
        parsed('{"error": "no", "code": 7}')
    with pytest.raises(VoiceOSResponseError, match=r"no 'items' \(its keys: none\)"):
        parsed("{}")


def test_keys_with_content_are_not_repeated() -> None:
    """Phone numbers or a million names may be keys, and stay out of the log."""
    with pytest.raises(VoiceOSResponseError, match="its keys: none") as caught:
        parsed('{"+14155550142": {}, "4155550142": {}, "0b0e6c1e-6a55": {}}')
    assert "4155550142" not in str(caught.value)
    with pytest.raises(VoiceOSResponseError) as caught:
        parsed(json.dumps({f"key{n}": n for n in range(10_000)}))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("escaped", "text", "replaced"),
    [
        (r"\ud83d", "\ufffd", 1),
        (r"\uDE00", "\ufffd", 1),
        (r"half \ud83d of", "half \ufffd of", 1),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600", 1),
        (r"\ud83d\u0041", "\ufffdA", 1),
        (r"\ude00\ud83d", "\ufffd\ufffd", 2),
        (r"\\ud83d \ud83d", "\\ud83d \ufffd", 1),
        (r"\\\ud83d", "\\\ufffd", 1),
        (r"\u0000", "\ufffd", 1),
        (r"a\u0000\u0000b", "a\ufffd\ufffdb", 2),
        (r"\ud83d\u0000", "\ufffd\ufffd", 2),
        (r"\\u0000", "\\u0000", 0),
        (r"\u00000", "\ufffd0", 1),
        (r"\u0001", "\x01", 0),
    ],
)
def test_lone_surrogate_and_nul_are_replaced_and_counted(escaped: str, text: str, replaced: int) -> None:
    """The page is kept."""
    raw = parsed(f'{{"items": [{{"id": "a", "x": "{escaped}"}}]}}')
    assert json.loads(bytes(raw.items[0]))["x"] == text
    assert raw.replaced == replaced


@pytest.mark.parametrize("half", [r"\ud83d", r"\uDE00", r"\u0000"])
@pytest.mark.parametrize(
    "content",
    [
        '"uri": "{}"',
        '"messages": [{{"role": "user", "content": "{}"}}]',
        '"agent_config": {{"prompt": "{}"}}',
        '"phone_call": {{"to_number": "{}"}}',
    ],
)
def test_replaced_character_may_be_anywhere(half: str, content: str) -> None:
    """Its conversation still counts as documented."""
    body = f'{{"items": [{{"id": "a", {content.format(half)}}}, {{"id": "b"}}]}}'
    page = parsed(body)
    assert all(isinstance(item, ConversationStruct) for item in page.items)
    assert page.replaced == split(body).replaced == 1
    assert "\ufffd" in str(json.loads(msgspec.json.encode(page.items[0])))


def test_surrogate_pair_is_unchanged() -> None:
    """It is one character."""
    raw = parsed(r'{"items": [{"id": "a", "x": "\ud83d\ude00"}]}')
    assert (json.loads(bytes(raw.items[0]))["x"], raw.replaced) == ("\U0001f600", 0)


@given(st.text(st.characters(exclude_categories=[]) | st.sampled_from("\ud83d\ude00\\u\0")))
def test_only_unstorable_characters_are_replaced(text: str) -> None:
    """These are lone surrogates and NUL, in any text."""
    body, replaced = replace_unstorable(json.dumps(text).encode())
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    lone = [0xD800 <= ord(character) <= 0xDFFF or character == "\0" for character in paired]
    assert replaced == sum(lone)
    assert json.loads(body) == "".join(
        "\ufffd" if is_lone else character for character, is_lone in zip(paired, lone, strict=True)
    )


@pytest.mark.parametrize("before", range(9))
def test_nul_is_found_at_any_position(before: int) -> None:
    """The number of preceding bytes is random."""
    spaces = " " * before
    raw = parsed(f'{spaces}{{"items": [{{"id": "a", "uri": "\\u0000"}}]}}')
    assert (raw.items[0].uri, raw.replaced) == ("\ufffd", 1)


@pytest.mark.parametrize("text", ["u000", r"\\u0000", r"\\\\u0000", "u00000000"])
def test_escaped_backslash_before_u0000_is_unchanged(text: str) -> None:
    """It escapes nothing after it."""
    (item,) = (page := parsed(f'{{"items": [{{"id": "a", "uri": "{text}"}}]}}')).items
    assert (item.uri, page.replaced) == (json.loads(f'"{text}"'), 0)


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
@pytest.mark.parametrize(
    "place", [b'"uri":"%b"', b'"agent_config":{"prompt":"%b"}', b'"cost_breakdown":{"total":"%b"}']
)
def test_invalid_utf_8_is_never_a_documented_conversation(broken: bytes, place: bytes) -> None:
    """It may be a truncated sequence, half a pair or an overlong NUL, in a field that is decoded later."""
    page = parsed(b'{"items":[{"id":"a",%b}]}' % (place % broken))
    assert page.ids == (None,)
    assert not isinstance(page.items[0], ConversationStruct)
