"""The same calls with the blocking and the asyncio client, in process and over a port."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from voiceos_provider import __version__
from voiceos_provider.client import Retry
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSContractError,
    VoiceOSNotFoundError,
    VoiceOSResponseError,
    VoiceOSValueError,
)

Connect = Callable[..., Any]
EMPTY = '{"items": [], "has_more": false}'


def test_each_conversation_is_listed_once(connect: Connect, emulator: Emulator, world: World) -> None:
    """Pages follow the server's order until the flag ends them."""
    assert connect(emulator).ids() == world.ids()[::-1]
    assert [request.query for request in emulator.requests] == [
        {"index": str(index), "limit": "25"} for index in (1, 2, 3)
    ]


def test_requests_have_the_documented_headers(connect: Connect, emulator: Emulator) -> None:
    """They have the token, accepted types, cache control and the client's name."""
    connect(emulator).ids(page_size=100)
    request = emulator.requests[0]
    assert request.headers["authorization"] == f"Bearer {emulator.token}"
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "gzip"
    assert request.headers["cache-control"] == "no-cache"
    assert request.headers["user-agent"] == f"airflow-provider-voiceos/{__version__}"


def test_filters_are_sent_to_the_server(connect: Connect, emulator: Emulator, world: World) -> None:
    """Status, both bounds and the page size select the conversations."""
    after, before = world.start + timedelta(days=1), world.start + timedelta(days=3, microseconds=1)
    found = connect(emulator).ids(status="ended", created_after=after, created_before=before, page_size=7)
    assert sorted(found) == sorted(world.ids(status="ended", created_after=after, created_before=before))
    assert len(emulator.requests) == -(-len(found) // 7)
    assert emulator.requests[0].query == {
        "status": "ended",
        "created_after": "2026-11-02T00:00:00.000000Z",
        "created_before": "2026-11-04T00:00:00.000001Z",
        "index": "1",
        "limit": "7",
    }


def test_compressed_responses_are_the_same(connect: Connect, world: World) -> None:
    """The client requests gzip and decompresses it."""
    emulator = Emulator(world, gzip=True, clock=lambda: world.end)
    assert sorted(connect(emulator).ids()) == sorted(world.ids())


@pytest.mark.parametrize("max_limit", [1, 4, 24])
def test_clamped_page_size_loses_nothing(connect: Connect, world: World, max_limit: int) -> None:
    """A server may send fewer than requested; a short page is not the last one."""
    emulator = Emulator(world, max_limit=max_limit, clock=lambda: world.end)
    before = world.start + timedelta(days=1)
    assert sorted(connect(emulator).ids(created_before=before)) == sorted(world.ids(created_before=before))


FAULTY_FLAGS = [
    Fault.flag_legacy(),
    Fault.flag_missing(),
    Fault.flag_integer(),
    Fault.flag_integer(0),
    Fault.flag_integer(1),
]


@pytest.mark.parametrize("fault", FAULTY_FLAGS, ids=lambda fault: f"{fault.name} {fault.flag}")
def test_unreliable_flag_loses_nothing(
    connect: Connect, emulator: Emulator, world: World, fault: Fault
) -> None:
    """Pages are read to their end if the flag is old, missing or an integer."""
    emulator.faults.add(fault)
    assert connect(emulator).ids() == world.ids()[::-1]
    # The old name is a flag like the new one; without any, one more page shows the end.
    assert len(emulator.requests) == (3 if fault.name == "flag_legacy" else 4)


def test_server_that_clamps_the_index_does_not_cause_a_loop(
    connect: Connect, emulator: Emulator, world: World
) -> None:
    """It repeats its last page; without a reliable flag the repetition is the end."""
    emulator.faults.add(Fault.clamp_index())
    emulator.faults.add(Fault.flag_missing())
    found = connect(emulator).ids()
    assert set(found) == set(world.ids())
    assert len(emulator.requests) == 4


def test_server_that_repeats_pages_does_not_cause_a_loop(connect: Connect, scripted: Connect) -> None:
    """The repeated page is the end although its flag promises more; both copies are returned."""
    same = '{"items": [{"id": "a"}, {"id": "b"}], "has_more": true}'
    emulator = scripted(same, same, same)
    assert connect(emulator).ids() == ["a", "b", "a", "b"]
    assert len(emulator.requests) == 2


def test_repeated_id_yields_both_copies_in_order(connect: Connect, scripted: Connect) -> None:
    """Callers decide which copy counts."""
    emulator = scripted(
        '{"items": [{"id": "a", "status": "started"}, {"id": "b"}], "has_more": true}',
        '{"items": [{"id": "a", "status": "ended"}, {"id": "c"}, {"id": "c"}], "has_more": false}',
        EMPTY,
    )
    pages = connect(emulator).pages()
    copies = [(item.id, item.status) for page in pages for item in page.conversations]
    assert copies == [("a", "started"), ("b", None), ("a", "ended"), ("c", None), ("c", None)]


def test_empty_page_ends_the_listing_despite_its_flag(connect: Connect, scripted: Connect) -> None:
    """No further page is requested."""
    emulator = scripted('{"items": [{"id": "a"}], "has_more": true}', '{"items": [], "has_more": true}')
    assert connect(emulator).ids() == ["a"]
    assert len(emulator.requests) == 2


def test_endless_listing_is_an_error(connect: Connect, scripted: Connect) -> None:
    """The page limit raises and never truncates silently."""
    emulator = scripted(*(f'{{"items": [{{"id": "{n}"}}], "has_more": true}}' for n in range(9)))
    with pytest.raises(VoiceOSContractError, match=r"^GET /conversations: page 5 still has has_more=true"):
        connect(emulator, max_pages=5).ids()
    assert len(emulator.requests) == 5


def test_item_without_an_id_does_not_affect_others(connect: Connect, scripted: Connect) -> None:
    """It is set aside with the reason."""
    emulator = scripted('{"items": [{"id": "a"}, {"id": null}, 7, {"id": "b"}], "has_more": false}', EMPTY)
    page, _ = connect(emulator).pages()
    assert [conversation.id for conversation in page.conversations] == ["a", "b"]
    assert [json.loads(item.raw) for item in page.rejected] == [{"id": None}, 7]


def test_conversation_by_id_equals_the_listed_one(connect: Connect, emulator: Emulator, world: World) -> None:
    """Both have the same shape and values."""
    id_ = world.ids(status="ended")[0]
    caller = connect(emulator)
    found = caller.get(id_)
    listed = {item.id: item for page in caller.pages() for item in page.conversations}
    assert found == listed[id_]
    assert found.status == "ended"
    assert found.invalid_values == {}


def test_recording_is_a_link(connect: Connect, emulator: Emulator, world: World) -> None:
    """The conversation was recorded."""
    id_ = next(
        i for i in world.ids(status="ended") if world.is_recorded(i, now=world.end + timedelta(days=1))
    )
    url = connect(emulator).recording_url(id_)
    assert f"/recordings/{id_}.wav?expires=" in url
    assert emulator.requests[-1].path == f"/conversations/{id_}/recording"


@pytest.mark.parametrize("call", ["get", "recording_url"])
def test_missing_conversation_raises_not_found(connect: Connect, emulator: Emulator, call: str) -> None:
    """The client does not retry, and the message has the path."""
    with pytest.raises(
        VoiceOSNotFoundError, match=r"^GET /conversations/missing.*: 404: Not Found \(request id req_"
    ):
        getattr(connect(emulator), call)("missing")
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("call", ["get", "recording_url"])
def test_empty_id_is_not_sent(connect: Connect, emulator: Emulator, call: str) -> None:
    """It would be another request."""
    with pytest.raises(VoiceOSValueError, match="id is empty"):
        getattr(connect(emulator), call)("")
    assert emulator.requests == []


@pytest.mark.parametrize("call", ["get", "recording_url"])
def test_id_that_fits_no_url_is_a_bad_request(connect: Connect, emulator: Emulator, call: str) -> None:
    """It may come from the API, so it is not an argument error; it is neither sent nor retried."""
    with pytest.raises(VoiceOSBadRequestError, match=r"^GET /conversations/x+….*: 414: not sent") as caught:
        getattr(connect(emulator), call)("x" * 100_000)
    assert not caught.value.retryable
    assert len(str(caught.value)) < 400
    assert emulator.requests == []


@pytest.mark.parametrize("id_", [".", "..", "../..", "a/../..", "%2e%2e", "a?index=1", "a#b"])
def test_any_other_id_is_one_path_segment(connect: Connect, emulator: Emulator, id_: str) -> None:
    """Special characters are percent-encoded."""
    with pytest.raises(VoiceOSNotFoundError):
        connect(emulator).get(id_)
    assert emulator.requests[-1].path == f"/conversations/{id_}"
    assert emulator.requests[-1].query == {}


def test_health_check_sends_no_token(connect: Connect, emulator: Emulator) -> None:
    """It only checks that the API responds."""
    connect(emulator, token="wrong").check_health()
    assert emulator.requests[-1].path == "/"
    assert "authorization" not in emulator.requests[-1].headers


@pytest.mark.parametrize("path", ["/voiceos/v1", "/voiceos/v1/"])
def test_base_url_may_have_a_path(connect: Connect, emulator: Emulator, path: str) -> None:
    """An API may be behind a gateway; a slash at the end makes no difference."""
    with pytest.raises(VoiceOSNotFoundError, match=r"^GET /conversations: 404"):
        connect(emulator, path=path).ids()
    assert emulator.requests[-1].path == "/voiceos/v1/conversations"


def test_wrong_token_is_reported_and_hidden(connect: Connect, emulator: Emulator) -> None:
    """The message says to check it."""
    with pytest.raises(VoiceOSAuthError, match=r"401: Invalid token .*Check the token") as caught:
        connect(emulator, token="tok_wrong").ids()
    assert "tok_wrong" not in str(caught.value)


def test_opening_a_client_sends_nothing(connect: Connect, emulator: Emulator) -> None:
    """An invalid argument sends nothing either."""
    caller = connect(emulator)
    for bad in ({"status": "done"}, {"page_size": 0}):
        with pytest.raises(VoiceOSValueError):
            caller.ids(**bad)
    assert emulator.requests == []


def test_lone_surrogate_fails_neither_page_nor_conversation(connect: Connect, world: World) -> None:
    """It is replaced, and everything else is read."""
    emulator = Emulator(world)
    one = rb'{"id": "a", "ended_reason": "cut \ud83d"}'
    emulator.faults.add(Fault.body(b'{"items": [' + one + b'], "has_more": false}'), at=[1])
    emulator.faults.add(Fault.body(EMPTY.encode()), at=[2])
    emulator.faults.add(Fault.body(one), on="conversation")
    caller = connect(emulator)
    (listed,) = [conversation for page in caller.pages() for conversation in page.conversations]
    assert listed.ended_reason == caller.get("a").ended_reason == "cut \ufffd"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id": null}',
        b"<html>",
        b'{"id": "\xff"}',
        b'{"id": "a", "x": NaN}',
        b"[" * 200_000,
    ],
)
def test_malformed_conversation_is_rejected(connect: Connect, emulator: Emulator, body: bytes) -> None:
    """The error gives the reason after three attempts."""
    emulator.faults.add(Fault.body(body), on="conversation")
    with pytest.raises(
        VoiceOSResponseError,
        match=r"200, but the body is not (JSON|a conversation)\b.*Gave up after 3 attempts",
    ):
        connect(emulator, retry=Retry(max_attempts=3)).get("a")
    assert len(emulator.requests) == 3


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"recording_url": null}', b"<html>", b"[" * 200_000])
def test_recording_without_a_link_is_rejected(connect: Connect, emulator: Emulator, body: bytes) -> None:
    """The error gives the reason."""
    emulator.faults.add(Fault.body(body), on="recording")
    with pytest.raises(VoiceOSResponseError, match=r"200, but the body (has no 'recording_url'|is not JSON)"):
        connect(emulator).recording_url("a")
