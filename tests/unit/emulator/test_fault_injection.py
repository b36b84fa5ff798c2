"""Faults, and how a client sees them."""

from __future__ import annotations

import time
import zlib
from datetime import datetime
from typing import Any

import httpx
import pytest

from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.emulator.faults import ARGUMENTS, parse_fault


def test_a_rate_limit_may_have_retry_after(emulator: Emulator, send: Any) -> None:
    """`Retry-After` is sent unchanged."""
    emulator.faults.add(Fault.rate_limit(retry_after="2"), at=[1])
    emulator.faults.add(Fault.rate_limit(retry_after="soon"), at=[2])
    emulator.faults.add(Fault.rate_limit(), at=[3])
    responses = [send("/conversations") for _ in range(4)]
    assert [response.status_code for response in responses] == [429, 429, 429, 200]
    assert [response.headers.get("Retry-After") for response in responses] == ["2", "soon", None, None]
    assert [request.status for request in emulator.requests] == [429, 429, 429, 200]


@pytest.mark.parametrize(
    ("fault", "content_type", "body"),
    [
        (Fault.server_error(), "text/plain; charset=utf-8", "Internal Server Error"),
        (Fault.server_error(503), "text/plain; charset=utf-8", ""),
        (Fault.server_error(502, html=True), "text/html", "<h1>Bad Gateway</h1>"),
    ],
)
def test_a_server_error_has_no_json(
    emulator: Emulator, send: Any, fault: Fault, content_type: str, body: str
) -> None:
    """The application's is plain text, a proxy's is HTML or empty."""
    emulator.faults.add(fault)
    response = send("/conversations")
    assert response.status_code >= 500
    assert response.headers["Content-Type"] == content_type
    assert body in response.text
    assert response.headers["X-Request-ID"]


def test_the_right_token_may_be_refused(emulator: Emulator, send: Any) -> None:
    """This happens after a rotation of the token."""
    emulator.faults.add(Fault.unauthorized(), at=[1])
    emulator.faults.add(Fault.unauthorized(403), at=[2])
    assert [send("/conversations").status_code for _ in range(3)] == [401, 403, 200]


def test_a_redirect_has_a_location(emulator: Emulator, send: Any) -> None:
    """The client is sent to another host, with nothing in the body."""
    emulator.faults.add(Fault.redirect("http://169.254.169.254/latest"))
    response = send("/conversations")
    assert (response.status_code, response.headers["Location"]) == (307, "http://169.254.169.254/latest")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'{"items": [{"id": "a", "x": NaN}], "index": 1, "has_more": false}', "application/json"),
        (b'{"error": "try again"}', "application/json"),
        (b"<html>Please sign in</html>", "text/html"),
        (b"\xff\xfe", "application/json"),
        (b"", "application/json"),
    ],
)
def test_a_response_may_have_any_body(
    emulator: Emulator, send: Any, content: bytes, content_type: str
) -> None:
    """The body is sent byte for byte."""
    emulator.faults.add(Fault.body(content, content_type=content_type))
    response = send("/conversations")
    assert response.status_code == 200
    assert response.content == content
    assert response.headers["Content-Type"] == content_type


def test_a_cut_body_is_a_protocol_error(emulator: Emulator, send: Any) -> None:
    """The length promises more than comes before the connection is closed."""
    emulator.faults.add(Fault.cut_body(after_bytes=1_000), at=[1])
    with pytest.raises(httpx.RemoteProtocolError, match=r"received 1000 bytes, expected \d{6}"):
        send("/conversations")
    assert send("/conversations").status_code == 200


def test_a_body_cut_after_its_end_is_whole(emulator: Emulator, send: Any) -> None:
    """A body that is complete when the connection closes is valid."""
    emulator.faults.add(Fault.cut_body(after_bytes=10**9))
    assert len(send("/conversations").json()["items"]) == 100
    assert len(send("/conversations").json()["items"]) == 100


@pytest.mark.parametrize("fault", [Fault.reset(), Fault.reset(after_bytes=100_000)])
def test_a_reset_is_a_read_error(emulator: Emulator, send: Any, fault: Fault) -> None:
    """The reset happens before the response or within its body."""
    emulator.faults.add(fault, at=[1])
    with pytest.raises(httpx.ReadError):
        send("/conversations")
    assert send("/conversations").status_code == 200


def test_a_truncated_gzip_stream_looks_whole_by_its_length(emulator: Emulator, send: Any) -> None:
    """Without an error from httpx, the content is not valid JSON."""
    emulator.faults.add(Fault.truncated_gzip(), at=[1])
    response = send("/conversations", headers={"Accept-Encoding": "identity"})
    assert response.status_code == 200
    assert response.headers["Content-Encoding"] == "gzip"
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|unexpected end of data"):
        response.json()


def test_a_gzip_bomb_is_small_until_it_is_inflated(emulator: Emulator, send: Any) -> None:
    """The inflated body has the requested size and is valid."""
    emulator.faults.add(Fault.gzip_bomb(inflated_bytes=30_000_000))
    response = send("/conversations")
    assert int(response.headers["Content-Length"]) < 40_000
    assert len(response.content) == 30_000_000
    assert response.json() == {"items": [], "index": 1, "has_more": False}


def test_a_gzip_bomb_arrives_in_chunks(emulator: Emulator) -> None:
    """A client that streams with a limit can stop early."""
    emulator.faults.add(Fault.gzip_bomb(inflated_bytes=200_000_000))
    headers = {"Authorization": "Bearer emulator-token"}
    with (
        httpx.Client(transport=emulator.transport(), base_url="http://emulator", headers=headers) as client,
        client.stream("GET", "/conversations") as response,
    ):
        first = next(response.iter_raw())
    assert len(first) <= 65_536
    assert len(zlib.decompressobj(31).decompress(first, 1_000_000)) == 1_000_000


def test_a_slow_response_is_late(emulator: Emulator, send: Any) -> None:
    """The delay is at least the given time."""
    emulator.faults.add(Fault.slow(0.03), at=[1])
    began = time.monotonic()
    assert send("/conversations", params={"limit": 1}).status_code == 200
    assert time.monotonic() - began >= 0.03


def test_a_slow_response_exceeds_the_read_timeout(emulator: Emulator, send: Any) -> None:
    """The client raises its own timeout."""
    emulator.faults.add(Fault.slow(30), at=[1])
    with pytest.raises(httpx.ReadTimeout):
        send("/conversations", timeout=httpx.Timeout(5, read=0.03))


@pytest.mark.parametrize("fault", [Fault.drip_headers(5_000), Fault.drip_body(100_000)])
def test_a_dripping_response_exceeds_no_read_timeout(emulator: Emulator, send: Any, fault: Fault) -> None:
    """Only a limit on the whole attempt ends a slow response."""
    emulator.faults.add(fault)
    began = time.monotonic()
    response = send("/conversations", params={"limit": 1}, timeout=2)
    assert len(response.json()["items"]) == 1
    assert time.monotonic() - began >= 0.03


def test_waiting_can_be_replaced(world: World, long_after: datetime, connect: Any) -> None:
    """A replacement for waiting makes an hour pass at once."""
    waits: list[float] = []
    emulator = Emulator(world, clock=lambda: long_after, latency=3_600, sleep=waits.append)
    emulator.faults.add(Fault.slow(60))
    assert connect(emulator)("/conversations", timeout=None).status_code == 200
    assert sum(waits) == 3_660


def test_a_repeated_page_is_the_one_before(emulator: Emulator, send: Any) -> None:
    """The first page repeats itself."""
    pages = [send("/conversations", params={"index": index}).json() for index in (1, 2)]
    emulator.faults.add(Fault.repeat_page())
    repeated = [send("/conversations", params={"index": index}).json() for index in (1, 2, 3)]
    assert repeated == [pages[0], pages[0], pages[1]]


def test_a_clamped_index_repeats_the_last_page(emulator: Emulator, send: Any) -> None:
    """There is no empty page beyond the end."""
    emulator.faults.add(Fault.clamp_index())
    assert send("/conversations", params={"index": 3}).json()["index"] == 3
    last = send("/conversations", params={"index": 8}).json()
    assert send("/conversations", params={"index": 50}).json() == last
    assert (last["index"], len(last["items"])) == (8, 30)


def test_ignored_filters_list_everything(emulator: Emulator, send: Any, world: World) -> None:
    """Window and status have no effect."""
    emulator.faults.add(Fault.ignore_window())
    page = send(
        "/conversations", params={"created_before": "2020-01-01T00:00:00Z", "status": "queued"}
    ).json()
    assert [item["id"] for item in page["items"]] == world.ids()[::-1][:100]


@pytest.mark.parametrize("bound", ["created_after", "created_before"])
def test_one_bound_may_be_ignored(emulator: Emulator, send: Any, world: World, bound: Any) -> None:
    """The other bound and the status still apply."""
    emulator.faults.add(Fault.ignore_window(bound))
    middle = world.created_at(world.ids()[365])
    window = {"created_after": middle, "created_before": middle}
    bounds = {name: instant.isoformat().replace("+00:00", "Z") for name, instant in window.items()}
    page = send("/conversations", params={**bounds, "limit": 1_000, "status": "ended"}).json()
    listed = {item["id"] for item in page["items"]}
    del window[bound]
    assert listed | {world.ids()[365]} >= set(world.ids(**window, status="ended", now=emulator._clock()))
    assert 0 < len(listed) < 400
    assert all(item["status"] == "ended" for item in page["items"])
    with pytest.raises(ValueError, match="not a bound"):
        Fault.ignore_window("limit")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "rest"),
    [
        (Fault.flag_missing(), {"index": 1}),
        (Fault.flag_legacy(), {"index": 1, "has_next": True}),
        (Fault.flag_integer(), {"index": 1, "has_more": 730}),
        (Fault.flag_integer(1), {"index": 1, "has_more": 1}),
    ],
)
def test_a_flag_may_be_missing_renamed_or_an_integer(
    emulator: Emulator, send: Any, fault: Fault, rest: dict[str, Any]
) -> None:
    """The items are not affected."""
    emulator.faults.add(fault)
    page = send("/conversations").json()
    assert len(page.pop("items")) == 100
    assert page == rest
    assert type(page.get("has_more")) is type(rest.get("has_more"))


def test_items_may_be_missing(emulator: Emulator, send: Any) -> None:
    """The flag stays true."""
    emulator.faults.add(Fault.items_missing())
    assert send("/conversations").json() == {"index": 1, "has_more": True}


def test_faults_of_different_kinds_combine(emulator: Emulator, send: Any) -> None:
    """A clamped index without a flag could make a client loop forever."""
    emulator.faults.add(Fault.clamp_index())
    emulator.faults.add(Fault.flag_missing())
    emulator.faults.add(Fault.slow(0.001))
    page = send("/conversations", params={"index": 99}).json()
    assert list(page) == ["items", "index"]
    assert page["index"] == 8


def test_faults_apply_to_the_given_requests(emulator: Emulator, send: Any, world: World) -> None:
    """Requests are counted for each endpoint."""
    id = world.ids(status="ended")[0]
    emulator.faults.add(Fault.rate_limit(), at=[2])
    emulator.faults.add(Fault.server_error(), at=[1], on="conversation")
    paths = ["/conversations", "/", f"/conversations/{id}", "/conversations", f"/conversations/{id}"]
    assert [send(path).status_code for path in paths] == [200, 200, 500, 429, 200]
    emulator.faults.add(Fault.server_error())
    assert send("/conversations").status_code == 500
    emulator.faults.clear()
    assert send("/conversations").status_code == 200


def test_probability_is_seeded(world: World, long_after: datetime, connect: Any) -> None:
    """The same seed affects the same requests, in proportion to the probability."""
    runs = []
    for seed in (1, 1, 2):
        emulator = Emulator(world, clock=lambda: long_after, seed=seed)
        emulator.faults.add(Fault.server_error(503), probability=0.3)
        send = connect(emulator)
        runs.append([send("/conversations?limit=1").status_code for _ in range(80)])
    assert runs[0] == runs[1] != runs[2]
    assert 10 < runs[0].count(503) < 40


def test_a_fault_has_either_numbers_or_a_probability(emulator: Emulator) -> None:
    """Both together are an error."""
    with pytest.raises(ValueError, match="not both"):
        emulator.faults.add(Fault.reset(), at=[1], probability=0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        emulator.faults.add(Fault.reset(), probability=5)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_fault_can_be_parsed(name: str) -> None:
    """Names may have dashes or underscores."""
    takes = {None: "", "ignore_window": ":created_after"}
    argument = takes.get(ARGUMENTS[name] and name, ":403")
    fault, probability = parse_fault(f"{name.replace('_', '-')}{argument}@0.25")
    assert (fault.name, probability) == (name, 0.25)


def test_every_constructor_can_be_parsed() -> None:
    """Every constructor has a name on the command line."""
    made = {name for name, value in vars(Fault).items() if isinstance(value, classmethod)}
    assert made == set(ARGUMENTS)


@pytest.mark.parametrize(
    "text",
    ["", "reset", "reset@", "reset@2", "nothing@0.5", "slow@0.5", "slow:fast@0.5", "repeat_page:1@0.5", "@1"],
)
def test_an_invalid_fault_is_refused(text: str) -> None:
    """The error names the reason."""
    with pytest.raises(ValueError, match=r"name among|not a probability|between 0 and 1|argument"):
        parse_fault(text)
