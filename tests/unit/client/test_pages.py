"""Pages, however they are decoded, and the page numbers to request."""

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
    """Return the page in a body, after checking that both parsers agree on its ids and its flag."""
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


def test_pages_are_requested_until_the_flag_says_no() -> None:
    """Counted from 1."""
    pages = page("a", "b"), page("c", "d"), page("e", has_more=False), page("f")
    assert requested(*pages) == ["1", "2", "3"]


@pytest.mark.parametrize("flag", [True, None])
def test_an_empty_page_is_the_end_whatever_its_flag(flag: Flag) -> None:
    """Even if the flag promises more."""
    assert requested(page("a", has_more=flag), page(has_more=flag), page("b")) == ["1", "2"]


@pytest.mark.parametrize("flag", [True, None])
def test_a_page_without_an_unseen_id_is_the_end(flag: Flag) -> None:
    """A server that repeats a page, or any mixture of what came before, does not loop for ever."""
    pages = [page("a", "b", has_more=flag), page("c", has_more=flag), page("b", "c", has_more=flag)]
    assert requested(*pages, page("d")) == ["1", "2", "3"]


def test_one_new_id_is_enough_to_go_on() -> None:
    """While conversations are created, rows shift to the next page: a repeat is no end."""
    pages = page("a", "b", "c"), page("c", "d", "e"), page("e", "f", has_more=False)
    assert requested(*pages) == ["1", "2", "3"]


def test_a_false_flag_is_confirmed_where_the_page_may_have_been_cut_off() -> None:
    """A page as long as the longest: the server may have compared it with the limit that it clamped."""
    assert requested(page("a", "b", has_more=False), page("c", "d", has_more=False), page()) == [
        "1",
        "2",
        "3",
    ]
    assert requested(page("a", "b"), page("c", has_more=False)) == ["1", "2"]


def test_a_short_page_ends_nothing() -> None:
    """A server may clamp the page size; 1 of 100 is not the last."""
    assert requested(page("a"), page("b"), page("c")) == ["1", "2", "3", "…"]


def test_items_without_an_id_are_progress_too() -> None:
    """They are distinguished by their text."""
    odd = [RawPage((msgspec.Raw(b'{"n":%d}' % n),), (None,), True) for n in (1, 2, 2)]
    assert requested(*odd, page("d")) == ["1", "2", "3"]


def test_the_page_cap_raises_and_never_truncates() -> None:
    """A listing that goes on at the cap is an error; one that ends there is whole."""
    assert requested(page("a", "b"), page("c", has_more=False), max_pages=2) == ["1", "2"]
    with pytest.raises(VoiceOSContractError, match=r"page 2 still has has_more=true.*shorter interval"):
        requested(page("a"), page("b"), max_pages=2)


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from("abcdefgh"), max_size=4), st.sampled_from([True, False, None]))
    )
)
def test_the_paginator_always_ends(responses: list[tuple[list[str], bool | None]]) -> None:
    """With eight ids in the world, no server can keep it going for more than nine pages."""
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
def test_only_a_boolean_says_whether_there_is_more(keys: str, flag: Flag) -> None:
    """`has_more`, else `has_next`; an integer is the total that the vendor's page wrongly calls it, and no flag."""
    assert parsed(f'{{"items": [], {keys}}}').has_more is flag


def test_conversations_are_left_as_the_server_wrote_them() -> None:
    """To the byte, in order, both copies of a repeated id; whatever is not as documented, or is requested as text."""
    items = ('{"id": "a", "n": 1.50}', '{ "n":2,"id":"b"}', '{"id": "a", "n": 0.1e1}')
    body = f'{{"items": [{", ".join(items)}], "has_more": true}}'
    for raw in (parsed(body), split(body)):
        assert tuple(bytes(item).decode() for item in raw.items) == items
        assert raw.ids == ("a", "b", "a")


def test_what_is_exactly_as_documented_is_decoded_at_once() -> None:
    """Beside one that is not, too; their order stays."""
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
def test_what_is_not_exactly_as_documented_stays_text(item: str) -> None:
    """An unknown key, a value of another kind, an object without a value: each is looked at value by value."""
    (raw,) = parsed(f'{{"items": [{item}]}}').items
    assert bytes(raw).decode() == item


@pytest.mark.parametrize(
    "item", ["{}", '{"id": null}', '{"id": 7}', '{"id": ""}', '{"id": ["a"]}', "null", "[]"]
)
def test_an_item_without_a_usable_id_has_none(item: str) -> None:
    """It costs no other item of its page."""
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
def test_a_body_that_is_not_json_is_refused_with_the_cause_and_not_repeated(body: bytes, fault: str) -> None:
    """The error shows what is wrong where, the type and the size, and none of the body; a retry may help."""
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
def test_one_faulty_conversation_costs_no_other(parse: Any, item: bytes, fault: str, cut: slice) -> None:
    """It has no id and is rejected with the cause; those around it, and the flag, are read as ever."""
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


def test_a_faulty_conversation_becomes_no_row_and_costs_no_other() -> None:
    """Whatever decodes the page rejects it."""
    body = b'{"items": [{"id": "a"}, {"id": "b", "uri": NaN}, {"id": "c"}], "has_more": false}'
    decoded = Decoder(Interval(DAY, DAY + timedelta(days=1)), DAY).decode(parse_page(*exchange(body)).items)
    assert decoded.rows["conversations"].batch.column("id").to_pylist() == ["a", "c"]
    assert [rejected.reason for rejected in decoded.rejected] == ["not JSON: NaN at byte 19"]


@example(b"-")
@given(st.binary(max_size=60) | st.text('{}[],:"\\ai ', max_size=60).map(str.encode))
def test_no_body_breaks_the_search_for_a_fault(noise: bytes) -> None:
    """Whatever comes, the page is read or refused."""
    for body in (noise, b'{"items": [{"id": "a"}, ' + noise + b'], "has_more": true}'):
        with contextlib.suppress(VoiceOSResponseError):
            page = parsed(body)
            assert len(page.items) == len(page.ids)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_understood(encoding: str) -> None:
    """RFC 8259 allows to ignore it; it names UTF-16 and UTF-32 without doubt."""
    assert parsed('{"items": [{"id": "é"}], "has_more": false}'.encode(encoding)).ids == ("é",)


def test_a_declared_charset_is_understood() -> None:
    """Where the body is no UTF-8."""
    body = '{"items": [{"id": "é"}], "has_more": false}'.encode("latin-1")
    assert parsed(body, **{"content-type": "application/json; charset=iso-8859-1"}).ids == ("é",)


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "7"])
def test_a_page_must_be_an_object(body: str) -> None:
    """A bare list is not what the contract says."""
    with pytest.raises(VoiceOSResponseError, match="the body is not a JSON object"):
        parsed(body)


@pytest.mark.parametrize("items", ["null", "[]"])
@pytest.mark.parametrize("flag", [True, False])
def test_an_empty_page_is_data_whatever_its_flag(items: str, flag: Flag) -> None:
    """Null counts as an empty list; what a true flag means then, the caller decides."""
    page = parsed(f'{{"items": {items}, "has_more": {json.dumps(flag)}}}')
    assert (page.items, page.ids, page.has_more) == ((), (), flag)


@pytest.mark.parametrize("items", ["{}", '"a"', "7", "true"])
def test_items_must_be_a_list(items: str) -> None:
    """Anything else is never taken for the end."""
    with pytest.raises(VoiceOSResponseError, match="'items' is not a list"):
        parsed(f'{{"items": {items}, "has_more": false}}')


def test_a_page_without_items_names_the_keys_it_has() -> None:
    """So that an error object in a 200 can be recognised."""
    with pytest.raises(VoiceOSResponseError, match=r"no 'items' \(its keys: error, code\)"):
        parsed('{"error": "no", "code": 7}')
    with pytest.raises(VoiceOSResponseError, match=r"no 'items' \(its keys: none\)"):
        parsed("{}")


def test_keys_that_are_content_are_not_repeated() -> None:
    """An object keyed by phone numbers, or by a million names, does not end up in the log."""
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
def test_half_an_emoji_costs_itself(escaped: str, text: str, replaced: int) -> None:
    """A lone surrogate, cut off by a length limit, is replaced and counted, and so is NUL; the page is kept."""
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
def test_it_costs_nothing_wherever_it_stands(half: str, content: str) -> None:
    """Its conversation is still as documented, and so are the others of its page."""
    body = f'{{"items": [{{"id": "a", {content.format(half)}}}, {{"id": "b"}}]}}'
    page = parsed(body)
    assert all(isinstance(item, ConversationStruct) for item in page.items)
    assert page.replaced == split(body).replaced == 1
    assert "\ufffd" in str(json.loads(msgspec.json.encode(page.items[0])))


def test_a_whole_emoji_is_left_alone() -> None:
    """A pair is one character."""
    raw = parsed(r'{"items": [{"id": "a", "x": "\ud83d\ude00"}]}')
    assert (json.loads(bytes(raw.items[0]))["x"], raw.replaced) == ("\U0001f600", 0)


@given(st.text(st.characters(exclude_categories=[]) | st.sampled_from("\ud83d\ude00\\u\0")))
def test_what_is_replaced_is_just_what_no_store_can_hold(text: str) -> None:
    """Any text of any code points: the lone halves and NUL are replaced, all else is kept."""
    body, replaced = replace_unstorable(json.dumps(text).encode())
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    lone = [0xD800 <= ord(character) <= 0xDFFF or character == "\0" for character in paired]
    assert replaced == sum(lone)
    assert json.loads(body) == "".join(
        "\ufffd" if is_lone else character for character, is_lone in zip(paired, lone, strict=True)
    )


@pytest.mark.parametrize("before", range(9))
def test_nul_is_noticed_wherever_it_stands_on_a_page(before: int) -> None:
    """Whatever number of bytes comes before it."""
    spaces = " " * before
    raw = parsed(f'{spaces}{{"items": [{{"id": "a", "uri": "\\u0000"}}]}}')
    assert (raw.items[0].uri, raw.replaced) == ("\ufffd", 1)


@pytest.mark.parametrize("text", ["u000", r"\\u0000", r"\\\\u0000", "u00000000"])
def test_what_only_looks_like_nul_is_left_alone(text: str) -> None:
    """An escaped backslash escapes nothing after it."""
    (item,) = (page := parsed(f'{{"items": [{{"id": "a", "uri": "{text}"}}]}}')).items
    assert (item.uri, page.replaced) == (json.loads(f'"{text}"'), 0)


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
@pytest.mark.parametrize(
    "place", [b'"uri":"%b"', b'"agent_config":{"prompt":"%b"}', b'"cost_breakdown":{"total":"%b"}']
)
def test_bytes_that_are_no_text_are_never_a_documented_conversation(broken: bytes, place: bytes) -> None:
    """Also where they would only be decoded later: a cut sequence, half a pair, a long way to write NUL."""
    page = parsed(b'{"items":[{"id":"a",%b}]}' % (place % broken))
    assert page.ids == (None,)
    assert not isinstance(page.items[0], ConversationStruct)
