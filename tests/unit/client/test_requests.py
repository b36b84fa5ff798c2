"""Requests as the contract specifies them."""

from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest

from voiceos_provider.client import STATUSES, ClientConfig
from voiceos_provider.client.requests import Listing, health, one_conversation, recording
from voiceos_provider.exceptions import VoiceOSValueError


def test_page_request_has_the_documented_parameters() -> None:
    """Instants are in UTC with a Z, pages count from 1, and omitted filters are not sent."""
    listing = Listing(
        "ended",
        datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 11, 23, 0, 0, 0, 1, tzinfo=UTC),
        50,
    )
    assert dict(listing.page(3).params) == {
        "status": "ended",
        "created_after": "2026-11-22T00:00:00.000000Z",
        "created_before": "2026-11-23T00:00:00.000001Z",
        "index": "3",
        "limit": "50",
    }
    assert dict(Listing().page(1).params) == {"index": "1", "limit": "100"}


def test_request_is_named_without_its_query() -> None:
    """Messages show method and path."""
    assert str(Listing("ended").page(1)) == "GET /conversations"
    assert str(recording("a b")) == "GET /conversations/a%20b/recording"


def test_only_the_health_check_is_unauthenticated() -> None:
    """All other requests have the token."""
    assert not health().authenticated
    assert Listing().page(1).authenticated
    assert one_conversation("a").authenticated


def test_timestamps_have_six_digits() -> None:
    """A server that compares texts would otherwise order `00:00:00Z` after `00:00:00.5Z`."""
    bounds = [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)]
    bounds += [bounds[1] + timedelta(microseconds=step) for step in (1, 1_000, 500_000, 1_000_000)]
    sent = [dict(Listing(created_after=bound).page(1).params)["created_after"] for bound in bounds]
    assert sent == sorted(sent)
    assert {len(text) for text in sent} == {len("2026-11-22T00:00:00.000000Z")}


def test_empty_id_is_rejected() -> None:
    """It would list conversations."""
    for request in (one_conversation, recording):
        with pytest.raises(VoiceOSValueError, match="id is empty"):
            request("")


@pytest.mark.parametrize("id_", [".", ".."])
def test_id_of_dots_is_one_segment(id_: str) -> None:
    """The API may send it, and a plain dot segment would become another path."""
    path = one_conversation(id_).path
    assert path == f"/conversations/{id_.replace('.', '%2E')}"
    assert httpx.URL(f"https://api.example{path}").raw_path == path.encode()


def test_long_id_is_truncated_in_messages() -> None:
    """The request has all of it."""
    request = one_conversation("x" * 10_000)
    assert len(request.path) > 10_000
    assert len(str(request)) < 250


@pytest.mark.parametrize(
    "id_", ["../health", "\ud83d", "a/../../b", "a?limit=1", "a#b", "%2e%2e", "a\\..\\b"]
)
def test_any_other_id_is_one_segment(id_: str) -> None:
    """Slashes, question marks and percent signs are quoted."""
    segment = one_conversation(id_).path.removeprefix("/conversations/")
    assert not set(segment) & set("/?#\\")
    assert "%2e%2e" not in segment.lower().replace("%252e", "")


def test_unknown_status_is_rejected() -> None:
    """The message lists the known ones."""
    assert [Listing(status).status for status in STATUSES] == ["queued", "started", "ended"]
    with pytest.raises(VoiceOSValueError, match=r"status 'done' is not one of queued, started, ended"):
        Listing("done")


@pytest.mark.parametrize("name", ["created_after", "created_before"])
def test_bound_must_be_an_instant(name: str) -> None:
    """A naive or impossible time is rejected by the name of its parameter."""
    with pytest.raises(VoiceOSValueError, match=f"{name} 2026-11-22.* has no time zone"):
        Listing(**{name: datetime(2026, 11, 22)})  # type: ignore[arg-type]  # noqa: DTZ001
    with pytest.raises(VoiceOSValueError, match=f"{name} .* outside the years 1 to 9999"):
        Listing(**{name: datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))})  # type: ignore[arg-type]


def test_page_size_must_be_positive() -> None:
    """This applies to a listing and to the client."""
    with pytest.raises(VoiceOSValueError, match="page_size 0 is not positive"):
        Listing(page_size=0)
    with pytest.raises(VoiceOSValueError, match="page_size -1 is not positive"):
        ClientConfig(token="t", page_size=-1)


@pytest.mark.parametrize("token", ["", "a b", "a\n", "a\r\nX-Evil: 1", "tökén"])
def test_invalid_token_is_rejected_without_repeating_it(token: str) -> None:
    """No header can carry it, and nothing is sent."""
    with pytest.raises(VoiceOSValueError, match="token is empty, or holds") as caught:
        ClientConfig(token=token)
    assert not token or token not in str(caught.value)


def test_repr_of_the_settings_hides_the_token() -> None:
    """They may be logged."""
    assert "s3cr3t" not in repr(ClientConfig(token="s3cr3t"))


@pytest.mark.parametrize(
    "url", ["", "api.example", "ftp://api.example", "https://", "http://[::", "http://a:b"]
)
def test_base_url_must_be_valid(url: str) -> None:
    """The error comes from the configuration instead of httpx."""
    with pytest.raises(VoiceOSValueError, match="base URL is not valid"):
        ClientConfig(token="t", base_url=url)
