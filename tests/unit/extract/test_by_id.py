"""Conversations requested by their ids."""

import pytest

from tests.unit.extract.test_reader import connected, emulate, truth
from voiceos_provider.client.pages import decoded_page, parse_one
from voiceos_provider.client.requests import one_conversation
from voiceos_provider.client.responses import Response
from voiceos_provider.emulator import Fault
from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSConnectionError, VoiceOSResponseError
from voiceos_provider.extract.by_id import read_each


@pytest.mark.parametrize("workers", [1, 4])
def test_each_conversation_is_on_a_page_of_its_own_and_one_that_is_gone_on_an_empty_one(workers: int) -> None:
    """Gone is 404 or 410."""
    emulator = emulate()
    ids = truth(emulator)[:30]
    gone = ids[::10]
    emulator.set_conversation_status(gone[0], 410)
    for id_ in gone[1:]:
        emulator.world.delete(id_)
    with connected(emulator) as client:
        pages = dict(read_each(client, iter(ids), max_concurrency=workers))
    assert {id_: page.ids for id_, page in pages.items()} == {
        id_: () if id_ in gone else (id_,) for id_ in ids
    }
    assert not any(page.unreadable for page in pages.values())


@pytest.mark.parametrize("status", [403, 500, 503])
def test_one_that_the_server_cannot_return_is_unreadable_and_the_others_are_read(status: int) -> None:
    """It stays pending."""
    emulator = emulate()
    bad, *good = truth(emulator)[:5]
    emulator.set_conversation_status(bad, status)
    with connected(emulator) as client:
        pages = dict(read_each(client, [bad, *good], max_concurrency=2))
    assert (pages[bad].ids, pages[bad].unreadable) == ((), (bad,))
    assert [pages[id_].ids for id_ in good] == [(id_,) for id_ in good]


@pytest.mark.parametrize("body", [b"", b"<html><h1>404 Not Found</h1></html>", b"default backend - 404"])
def test_what_a_gateway_cannot_find_is_not_gone(body: bytes) -> None:
    """What is gone is never requested again; a 404 of the API's own has a `detail`."""
    emulator = emulate()
    emulator.faults.add(Fault.body(body, content_type="text/html", status=404), on="conversation")
    ids = truth(emulator)[:5]
    with connected(emulator) as client:
        pages = dict(read_each(client, ids, max_concurrency=2))
    assert {id_: page.unreadable for id_, page in pages.items()} == {id_: (id_,) for id_ in ids}


def test_a_softly_deleted_conversation_is_still_read_by_its_id() -> None:
    """Listings do not show it any more."""
    emulator = emulate()
    id_ = truth(emulator)[0]
    emulator.world.delete(id_, soft=True)
    with connected(emulator) as client:
        assert [page.ids for _, page in read_each(client, [id_], max_concurrency=1)] == [(id_,)]


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.unauthorized(), VoiceOSAuthError), (Fault.reset(), VoiceOSConnectionError)]
)
def test_a_failure_of_the_whole_server_is_an_error(fault: Fault, error: type[Exception]) -> None:
    """Nothing that exists is taken for gone."""
    emulator = emulate()
    emulator.faults.add(fault, on="conversation")
    with connected(emulator) as client, pytest.raises(error):
        list(read_each(client, truth(emulator)[:5], max_concurrency=2))


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"id": ""}', b'{"id": 5}', b"nonsense", b"\xff", b"[" * 100_000]
)
def test_a_body_that_is_no_conversation_is_a_retryable_error(body: bytes) -> None:
    """A response without an id says nothing."""
    with pytest.raises(VoiceOSResponseError, match=r"not (JSON|a conversation with an id)"):
        parse_one(one_conversation("a"), Response(200, {}, body))


def test_unstorable_characters_of_one_conversation_are_replaced() -> None:
    """As on any page."""
    page = parse_one(one_conversation("a"), Response(200, {}, b'{"id": "a", "uri": "\\ud83d"}'))
    assert (page.ids, page.has_more, page.replaced) == (("a",), False, 1)
    assert decoded_page(page).conversations[0].uri == "\ufffd"


def test_an_outage_is_not_waited_out_for_each_conversation(caplog: pytest.LogCaptureFixture) -> None:
    """It would hold a worker for a minute each; the others stay pending without a request."""
    emulator = emulate()
    emulator.faults.add(Fault.server_error(), on="conversation")
    ids = truth(emulator)[:100]
    with connected(emulator) as client:
        pages = dict(read_each(client, ids, max_concurrency=4))
    assert 10 <= len(pages) < 20
    assert all(page.unreadable for page in pages.values())
    assert "10 conversations in a row cannot be read; " in caplog.text


@pytest.mark.parametrize("status", [403, 500])
def test_some_that_always_fail_do_not_keep_the_others_from_being_read(status: int) -> None:
    """A refusal costs one short request; failures count only in a row."""
    emulator = emulate()
    ids = truth(emulator)[:60]
    bad = ids[:9] if status == 500 else ids[:40]
    for id_ in bad:
        emulator.set_conversation_status(id_, status)
    with connected(emulator) as client:
        pages = dict(read_each(client, ids, max_concurrency=4))
    assert {id_ for id_, page in pages.items() if page.unreadable} == set(bad)
    assert {id_ for id_, page in pages.items() if page.items} == {*ids} - {*bad}
