"""Responses to invalid requests, and headers of all responses."""

from __future__ import annotations

import email.utils
import io
import wave
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from voiceos_provider.emulator import Emulator, Fault, World


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("status=running", "status"),
        ("status=", "status"),
        ("status=ENDED", "status"),
        ("created_after=2026-11-22", "created_after"),
        ("created_before=2026-11-22", "created_before"),
        ("created_after=2026-11-22T00:00:00", "created_after"),
        ("created_after=2026-11-22T00:00:00+00:00", "created_after"),
        ("created_after=2026-11-22T00:00Z", "created_after"),
        ("created_after=2026-11-31T00:00:00Z", "created_after"),
        ("created_after=2026-11-22T24:00:01Z", "created_after"),
        ("created_after=0001-01-01T00:00:00%2B01:00", "created_after"),
        ("created_after=1795305600", "created_after"),
        ("created_before=", "created_before"),
        ("index=0", "index"),
        ("index=-1", "index"),
        ("index=1.0", "index"),
        ("index=one", "index"),
        ("index=", "index"),
        ("limit=0", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("limit=%D9%A1", "limit"),
    ],
)
def test_an_invalid_query_returns_422(send: Any, query: str, parameter: str) -> None:
    """The body names the parameter in the format of the API's framework."""
    response = send(f"/conversations?{query}")
    assert response.status_code == 422
    (problem,) = response.json()["detail"]
    assert list(problem) == ["loc", "msg", "type"]
    assert problem["loc"] == ["query", parameter]
    assert problem["msg"]


def test_all_problems_are_listed_together(send: Any) -> None:
    """One problem for each parameter."""
    detail = send("/conversations?status=x&created_after=y&limit=0").json()["detail"]
    assert [problem["loc"][1] for problem in detail] == ["status", "created_after", "limit"]


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        ("", "Not authenticated"),
        ("Bearer", "Not authenticated"),
        ("Basic ZW11bGF0b3I6dG9rZW4=", "Not authenticated"),
        ("Bearer another-token", "Invalid token"),
        ("Bearer emulator-token-and-more", "Invalid token"),
    ],
)
def test_only_the_right_token_is_accepted(send: Any, authorization: str, detail: str) -> None:
    """Every endpoint except the health check checks the token first."""
    for path in ("/conversations", "/conversations/some-id", "/conversations/some-id/recording"):
        response = send(path, headers={"Authorization": authorization}, params={"limit": 0})
        assert response.status_code == 401
        assert response.json() == {"detail": detail}


def test_health_needs_no_token(send: Any) -> None:
    """The health check is public."""
    assert send("/", headers={"Authorization": ""}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/unknown", "/v1/conversations", "/conversations/a/b", "/conversations/a/recording/c"]
)
def test_unknown_paths_are_not_found(send: Any, path: str) -> None:
    """The body is the same as for an unknown conversation."""
    for where in (path, "/conversations/9d4a2b64-77a1-4f5c-b0c2-5e6d0c9f8b03", "/conversations/9d4a"):
        response = send(where)
        assert response.status_code == 404
        assert response.json() == {"detail": "Not Found"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_not_allowed(send: Any, method: str) -> None:
    """Only GET is allowed, and the connection stays usable for the next request."""
    for path in ("/", "/conversations", "/conversations/some-id"):
        response = send(path, method=method, content=b"" if method == "HEAD" else b'{"a": 1}')
        assert response.status_code == 405
        assert response.headers["Allow"] == "GET"
        assert send("/").json() == {"status": "ok"}


def test_a_trailing_slash_redirects(send: Any) -> None:
    """The redirect keeps the query."""
    response = send("/conversations/?limit=3&created_after=2026-11-05T00%3A00%3A00Z")
    assert response.status_code == 307
    host = response.request.url.netloc.decode()
    assert response.headers["Location"] == (
        f"http://{host}/conversations?limit=3&created_after=2026-11-05T00%3A00%3A00Z"
    )


def test_a_recording_has_a_link_when_there_is_one(send: Any, world: World, long_after: datetime) -> None:
    """Other conversations have no recording and respond 404."""
    statuses = [send(f"/conversations/{id}/recording").status_code for id in world.ids(status="ended")[:60]]
    assert set(statuses) == {200, 404}
    recorded = world.ids(status="ended")[statuses.index(200)]
    link = send(f"/conversations/{recorded}/recording").json()
    assert list(link) == ["recording_url"]
    url = httpx.URL(link["recording_url"])
    assert url.path == f"/recordings/{recorded}.wav"
    stuck = world.ids(status="started") + world.ids(status="queued")
    assert all(send(f"/conversations/{id}/recording").status_code == 404 for id in stuck)


def test_every_response_has_an_id_and_a_date(send: Any, long_after: datetime) -> None:
    """Every response has its own request id, the server's date and a JSON content type."""
    seen = set()
    for path in ("/", "/conversations", "/conversations?limit=0", "/unknown"):
        headers = send(path).headers
        seen.add(headers["X-Request-ID"])
        assert email.utils.parsedate_to_datetime(headers["Date"]) == long_after
        assert headers["Content-Type"] == "application/json"
    assert len(seen) == 4


@pytest.mark.parametrize("offers", [False, True])
@pytest.mark.parametrize(
    ("accepts", "wants"),
    [("gzip, deflate", True), ("br;q=1.0, GZIP;q=0.5", True), ("identity", False), ("gzip;q=0", False)],
)
def test_gzip_needs_server_and_client(
    world: World, long_after: datetime, connect: Any, *, offers: bool, accepts: str, wants: bool
) -> None:
    """The content is the same with and without compression."""
    send = connect(Emulator(world, clock=lambda: long_after, gzip=offers))
    response = send("/conversations", headers={"Accept-Encoding": accepts})
    assert (response.headers.get("Content-Encoding") == "gzip") == (offers and wants)
    assert len(response.json()["items"]) == 100
    if offers and wants:
        assert int(response.headers["Content-Length"]) < len(response.content) / 3


def test_requests_are_recorded(emulator: Emulator, send: Any) -> None:
    """A record has method, path, query, headers and the status of the response."""
    send("/conversations", params={"limit": "3", "created_after": "2026-11-05T00:00:00Z"})
    send("/nowhere", method="POST", headers={"X-Mine": "1"})
    first, second = emulator.requests
    assert (first.method, first.path, first.status) == ("GET", "/conversations", 200)
    assert first.query == {"limit": "3", "created_after": "2026-11-05T00:00:00Z"}
    assert first.headers["authorization"] == "Bearer emulator-token"
    assert (second.method, second.path, second.query, second.status) == ("POST", "/nowhere", {}, 404)
    assert second.headers["x-mine"] == "1"


def test_recording_can_be_disabled(world: World, connect: Any) -> None:
    """A long-running emulator does not need the record."""
    emulator = Emulator(world, keep_requests=False)
    connect(emulator)("/")
    assert emulator.requests == []


def test_a_recording_is_a_valid_wav_file(world: World, long_after: datetime, connect: Any) -> None:
    """The link needs no token, and its content is the same in every process."""
    emulator = Emulator(world, clock=lambda: long_after, recording_bytes=5_001)
    send = connect(emulator)
    id = next(id for id in world.ids() if world.is_recorded(id, now=long_after))
    url = httpx.URL(send(f"/conversations/{id}/recording").json()["recording_url"])
    response = send(url.raw_path.decode(), headers={"Authorization": ""})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "audio/wav")
    assert response.content == emulator.recording(id)
    with wave.open(io.BytesIO(response.content)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, 8_000)
        assert audio.getnframes() == (5_001 - 44) // 2


def test_an_expired_or_forged_link_is_refused(world: World, long_after: datetime, connect: Any) -> None:
    """Also the link to a conversation that has been deleted."""
    now = [long_after]
    emulator = Emulator(world, clock=lambda: now[0], link_lasts=timedelta(minutes=5))
    send = connect(emulator)
    id, other = [id for id in world.ids() if world.is_recorded(id, now=long_after)][:2]
    link = httpx.URL(send(f"/conversations/{id}/recording").json()["recording_url"]).raw_path.decode()
    assert send(link).status_code == 200
    assert send(link.replace(id, other)).status_code == 403
    now[0] += timedelta(minutes=5)
    assert send(link).status_code == 403
    emulator.faults.add(Fault.expired_link(), on="recording")
    link = httpx.URL(send(f"/conversations/{id}/recording").json()["recording_url"]).raw_path.decode()
    assert send(link).status_code == 403
