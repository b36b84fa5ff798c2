"""Errors for HTTP statuses."""

import json
import pickle
from typing import Any

import pytest

from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response, malformed, not_json, raise_for_status
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSNotFoundError,
    VoiceOSRateLimitError,
    VoiceOSServerError,
)

REQUEST = Listing("ended").page(1)
TOKEN = "tok_3141592653"


def error(status: int, detail: Any = None, *, body: bytes = b"", **headers: str) -> VoiceOSAPIError:
    """Return the error for a response."""
    content = body or (b"" if detail is None else json.dumps({"detail": detail}).encode())
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(VoiceOSAPIError) as caught:
        raise_for_status(REQUEST, Response(status, lower, content, TOKEN))
    return caught.value


CLASSES = {
    301: VoiceOSBadRequestError,
    304: VoiceOSBadRequestError,
    400: VoiceOSBadRequestError,
    401: VoiceOSAuthError,
    403: VoiceOSAuthError,
    404: VoiceOSNotFoundError,
    405: VoiceOSBadRequestError,
    408: VoiceOSServerError,
    422: VoiceOSBadRequestError,
    425: VoiceOSServerError,
    429: VoiceOSRateLimitError,
    500: VoiceOSServerError,
    502: VoiceOSServerError,
    503: VoiceOSServerError,
    504: VoiceOSServerError,
    529: VoiceOSServerError,
}


@pytest.mark.parametrize(("status", "kind"), CLASSES.items())
def test_each_status_has_its_class(status: int, kind: type[VoiceOSAPIError]) -> None:
    """Only transient ones are retryable: 408, 425, 429 and 5xx."""
    found = error(status)
    assert type(found) is kind
    assert found.status_code == status
    assert found.retryable == (status in (408, 425, 429) or status >= 500)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_success_raises_nothing(status: int) -> None:
    """Its body is checked elsewhere."""
    raise_for_status(REQUEST, Response(status, {}))


def test_503_with_retry_after_is_a_rate_limit() -> None:
    """It does not count as a failure."""
    limited = error(503, retry_after="7")
    assert isinstance(limited, VoiceOSRateLimitError)
    assert limited.retry_after == 7.0
    assert isinstance(error(503, retry_after="nonsense"), VoiceOSServerError)


def test_error_describes_request_and_response() -> None:
    """It has method, path without query, status, the API's message, request id and remedy."""
    found = error(401, "Not authenticated.", x_request_id="req_1")
    assert str(found) == (
        "GET /conversations: 401: Not authenticated (request id req_1). "
        "Check the token in the connection's password field."
    )
    assert found.request_id == "req_1"


@pytest.mark.parametrize("name", ["x_request_id", "x_correlation_id", "request_id", "cf_ray"])
def test_request_id_has_many_names(name: str) -> None:
    """Servers and proxies use different headers."""
    assert error(500, **{name: "abc"}).request_id == "abc"


DETAILS = [
    (
        [{"loc": ["query", "limit"], "msg": "value is not a valid integer", "type": "type_error.integer"}],
        "query.limit: value is not a valid integer",
    ),
    ([{"loc": ["a"], "msg": "x"}, {"loc": ["b", 0], "msg": "y"}], "a: x; b.0: y"),
    (["plain", {"msg": "no place"}, {"loc": "text", "msg": "odd place"}], "plain; no place; odd place"),
    ("Not Found", "Not Found"),
    ("two\n lines\t", "two lines"),
    ("x" * 600, "x" * 500 + "…"),
]


@pytest.mark.parametrize(("detail", "shown"), DETAILS)
def test_detail_of_the_api_is_shown(detail: Any, shown: str) -> None:
    """It is a list or a text, shown on one line and truncated if long."""
    assert str(error(422, detail)) == f"GET /conversations: 422: {shown}."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Internal Server Error",
        b"<html>Bad Gateway</html>",
        b"[]",
        b"{}",
        b'{"detail": null}',
        b'{"detail": {"phone": "+14155550142"}}',
        b'{"detail": ',
        b'{"detail": "\xff"}',
        b'{"detail": ' + b"[" * 100_000,
        b'{"detail": ' + b"9" * 5_000 + b"}",
    ],
)
def test_body_without_a_detail_is_not_shown(body: bytes) -> None:
    """Plain text, HTML, an empty body and broken JSON explain nothing."""
    assert str(error(500, body=body)) == "GET /conversations: 500."


@pytest.mark.parametrize(
    "detail",
    [
        f"Bad token: Bearer {TOKEN}",
        f"{TOKEN}",
        [{"loc": ["header", TOKEN], "msg": f"{TOKEN}!"}],
        [TOKEN],
        "x" * 495 + TOKEN,
    ],
)
def test_token_that_the_server_echoes_is_masked(detail: Any) -> None:
    """Its position does not matter, even where the message is truncated."""
    found = error(401, detail, x_request_id=f"req-{TOKEN}", location=f"https://{TOKEN}.example")
    assert TOKEN not in str(found)
    assert TOKEN not in repr(found)
    assert TOKEN[:5] not in str(found)


@pytest.mark.parametrize(
    "number",
    [
        "+14155550142",
        "+1 (415) 555-0142",
        "+44 20 7946 0958",
        "(415) 555-0142",
        "(415)555-0142",
        "415-555-0142",
        "415.555.0142",
        "4155550142",
        "14155550142",
    ],
)
def test_phone_number_that_the_server_repeats_is_masked(number: str) -> None:
    """Numbers of callers stay out of logs."""
    shown = str(error(422, f"to_number {number} is not reachable"))
    assert shown == "GET /conversations: 422: to_number [number] is not reachable."


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://login.example.com/sso?next=/conversations&token=abc#x", "https://login.example.com"),
        ("https://user:pass@evil.example/", "https://evil.example"),
        ("/conversations/", "another path of the same host"),
        ("", "another path of the same host"),
        ("http://[broken", "an invalid URL"),
    ],
)
def test_redirect_is_an_error_with_its_host(location: str, where: str) -> None:
    """Path, query and user are hidden."""
    found = error(307, location=location)
    assert str(found) == f"GET /conversations: 307. It redirects to {where}; redirects are not followed."


NASTY = "r1\x1b[31m\r\nWARNING forged line\u202egnp\x85\x00"


def test_messages_have_no_control_characters_of_the_server() -> None:
    """Escape sequences, line breaks and reversed text are removed from request id, detail and redirect."""
    for found in (
        error(500, x_request_id=NASTY),
        error(422, NASTY),
        error(422, [{"loc": [NASTY], "msg": NASTY}]),
        error(302, location=f"https://{NASTY.replace(chr(13), '').replace(chr(10), '')}.example/"),
        malformed(REQUEST, Response(200, {"x-request-id": NASTY}), "the body is odd"),
        not_json(REQUEST, Response(200, {"content-type": NASTY}, b"<")),
    ):
        assert str(found).isprintable()
        assert (found.request_id or "").isprintable()
        assert found.detail.isprintable()


def test_long_request_id_is_truncated() -> None:
    """One header cannot fill the log."""
    assert len(str(error(500, x_request_id="x" * 10_000))) < 200


def test_detail_is_an_attribute_and_once_in_the_message() -> None:
    """Callers may use it, for example to narrow a window; it survives pickling."""
    found = error(422, [{"loc": ["query", "created_after"], "msg": "range must not exceed 31 days"}])
    assert found.detail == "query.created_after: range must not exceed 31 days"
    assert str(found).count("31 days") == repr(found).count("31 days") == 1
    assert pickle.loads(pickle.dumps(found)).detail == found.detail
    assert found.adding("More.").detail == found.detail
    assert error(504).status_code == 504


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("é".encode(), ""),
        ("\ufeffé".encode(), "application/json"),
        ("é".encode("utf-16"), "application/json"),
        ("é".encode("utf-32"), ""),
        ("é".encode("utf-16-be"), "application/json; charset=UTF-16BE"),
        ("é".encode("latin-1"), "application/json; charset=ISO-8859-1"),
        ("é".encode("cp1252"), 'application/json; charset="windows-1252"'),
        ("é".encode(), "application/json; charset=ISO-8859-1"),
    ],
)
def test_body_in_a_known_charset_is_decoded(body: bytes, content_type: str) -> None:
    """UTF-8 comes first, as RFC 8259 requires; then byte order mark and declared charset."""
    assert Response(200, {"content-type": content_type}, body).text == "é".encode()


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json; charset=klingon", "a/b; charset=punycode", "; charset=\x00", ";;;="],
)
def test_body_in_an_unknown_charset_is_unchanged(content_type: str) -> None:
    """The error names the invalid byte."""
    assert Response(200, {"content-type": content_type}, b"\xe9").text == b"\xe9"
    found = not_json(REQUEST, Response(200, {"content-type": content_type}, b'{"a": "\xe9"}'))
    assert "the body is not JSON: invalid UTF-8 at byte 7 (" in str(found)
