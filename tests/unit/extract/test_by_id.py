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
def test_each_conversation_has_its_own_page(workers: int) -> None:
    """The page of a conversation that is gone (404 or 410) is empty."""
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
def test_unreadable_conversation_does_not_stop_the_others(status: int) -> None:
    """It stays pending."""
    emulator = emulate()
    bad, *good = truth(emulator)[:5]
    emulator.set_conversation_status(bad, status)
    with connected(emulator) as client:
        pages = dict(read_each(client, [bad, *good], max_concurrency=2))
    assert (pages[bad].ids, pages[bad].unreadable) == ((), (bad,))
    assert [pages[id_].ids for id_ in good] == [(id_,) for id_ in good]


@pytest.mark.parametrize("body", [b"", b"<html><h1>404 Not Found</h1></html>", b"default backend - 404"])
def test_404_of_a_gateway_does_not_mean_gone(body: bytes) -> None:
    """The API's own 404 has a `detail`; a conversation that is gone is never requested again."""
    emulator = emulate()
    emulator.faults.add(Fault.body(body, content_type="text/html", status=404), on="conversation")
    ids = truth(emulator)[:5]
    with connected(emulator) as client:
        pages = dict(read_each(client, ids, max_concurrency=2))
    assert {id_: page.unreadable for id_, page in pages.items()} == {id_: (id_,) for id_ in ids}


def test_softly_deleted_conversation_is_read_by_its_id() -> None:
    """Listings omit it."""
    emulator = emulate()
    id_ = truth(emulator)[0]
    emulator.world.delete(id_, soft=True)
    with connected(emulator) as client:
        assert [page.ids for _, page in read_each(client, [id_], max_concurrency=1)] == [(id_,)]


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.unauthorized(), VoiceOSAuthError), (Fault.reset(), VoiceOSConnectionError)]
)
def test_failure_of_the_whole_server_is_an_error(fault: Fault, error: type[Exception]) -> None:
    """No existing conversation counts as gone."""
    emulator = emulate()
    emulator.faults.add(fault, on="conversation")
    with connected(emulator) as client, pytest.raises(error):
        list(read_each(client, truth(emulator)[:5], max_concurrency=2))


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"id": ""}', b'{"id": 5}', b"nonsense", b"\xff", b"[" * 100_000]
)
def test_body_that_is_not_a_conversation_is_a_retryable_error(body: bytes) -> None:
    """It has no id."""
    with pytest.raises(VoiceOSResponseError, match=r"not (JSON|a conversation with an id)"):
        parse_one(one_conversation("a"), Response(200, {}, body))


def test_unstorable_characters_of_one_conversation_are_replaced() -> None:
    """Pages do the same."""
    page = parse_one(one_conversation("a"), Response(200, {}, b'{"id": "a", "uri": "\\ud83d"}'))
    assert (page.ids, page.has_more, page.replaced) == (("a",), False, 1)
    assert decoded_page(page).conversations[0].uri == "\ufffd"


def test_outage_is_not_waited_out_for_each_conversation(caplog: pytest.LogCaptureFixture) -> None:
    """Each would occupy a worker for a minute; the others stay pending without a request."""
    emulator = emulate()
    emulator.faults.add(Fault.server_error(), on="conversation")
    ids = truth(emulator)[:100]
    with connected(emulator) as client:
        pages = dict(read_each(client, ids, max_concurrency=4))
    assert 10 <= len(pages) < 20
    assert all(page.unreadable for page in pages.values())
    assert "10 conversations in a row cannot be read; " in caplog.text


@pytest.mark.parametrize("status", [403, 500])
def test_conversations_that_always_fail_do_not_stop_the_others(status: int) -> None:
    """A refusal costs one short request, and only consecutive failures count."""
    emulator = emulate()
    ids = truth(emulator)[:60]
    bad = ids[:9] if status == 500 else ids[:40]
    for id_ in bad:
        emulator.set_conversation_status(id_, status)
    with connected(emulator) as client:
        pages = dict(read_each(client, ids, max_concurrency=4))
    assert {id_ for id_, page in pages.items() if page.unreadable} == set(bad)
    assert {id_ for id_, page in pages.items() if page.items} == {*ids} - {*bad}
