"""Retries: transient failures are retried; permanent ones are raised with the number of attempts."""

import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.exceptions import (
    VoiceOSAPIError,
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSConnectionError,
    VoiceOSNotFoundError,
    VoiceOSRateLimitError,
    VoiceOSResponseError,
    VoiceOSResponseTooLargeError,
    VoiceOSServerError,
)

Connect = Callable[..., Any]
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

PASSING = [
    Fault.server_error(),
    Fault.server_error(502, html=True),
    Fault.server_error(503),
    Fault.server_error(503, retry_after="1"),
    Fault.server_error(504, html=True),
    Fault.server_error(529),
    Fault.body(b"", status=408),
    Fault.body(b"", status=425),
    Fault.rate_limit(),
    Fault.rate_limit("1"),
    Fault.rate_limit("soon"),
    Fault.rate_limit("-1"),
    Fault.body(b""),
    Fault.body(b"<html>Sign in</html>", content_type="text/html"),
    Fault.body(b'{"error": "overloaded"}'),
    Fault.body(b'{"items": {}}'),
    Fault.body(b'{"items": [{"id": "a", "x": NaN}'),
    Fault.body(b'{"items": [{"id": "\xff"}'),
    Fault.body(b'\xef\xbb\xbf{"items": ['),
    Fault.body(b'{"items": ' + b"[" * 100_000),
    Fault.items_missing(),
    Fault.cut_body(500),
    Fault.cut_body(0),
    Fault.truncated_gzip(),
    Fault.reset(),
    Fault.reset(500),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
def test_transient_failure_is_retried(
    connect: Connect, emulator: Emulator, world: World, fault: Fault
) -> None:
    """Sending, reading, decompressing and parsing are one attempt."""
    emulator.faults.add(fault, at=[2, 3])
    assert connect(emulator).ids() == world.ids()[::-1]
    assert [request.query["index"] for request in emulator.requests] == ["1", "2", "2", "2", "3"]


LASTING = [
    (Fault.unauthorized(), VoiceOSAuthError),
    (Fault.unauthorized(403), VoiceOSAuthError),
    (Fault.body(b'{"detail": "Not Found"}', status=404), VoiceOSNotFoundError),
    (Fault.body(b"{}", status=400), VoiceOSBadRequestError),
    (Fault.body(b"{}", status=422), VoiceOSBadRequestError),
    (Fault.body(b"{}", status=410), VoiceOSBadRequestError),
    (Fault.redirect("https://elsewhere.example/conversations"), VoiceOSBadRequestError),
]


@pytest.mark.parametrize(("fault", "kind"), LASTING)
@pytest.mark.parametrize(
    "besides", [None, Fault.truncated_gzip(), Fault.cut_body(1)], ids=lambda b: b and b.name
)
def test_permanent_failure_is_not_retried(
    connect: Connect,
    emulator: Emulator,
    time: Any,
    fault: Fault,
    kind: type[VoiceOSAPIError],
    besides: Fault | None,
) -> None:
    """The status decides, even if the body that explains it does not arrive."""
    emulator.faults.add(fault)
    if besides is not None:
        emulator.faults.add(besides)
    with pytest.raises(kind) as caught:
        connect(emulator).ids()
    assert type(caught.value) is kind
    assert caught.value.status_code is not None
    assert "Gave up" not in str(caught.value)
    assert len(emulator.requests) == 1
    assert time.waits == []


def test_error_quotes_the_reason_of_the_api(connect: Connect, emulator: Emulator, world: World) -> None:
    """It names each parameter and the request's id."""
    returned = json.dumps({"detail": [{"loc": ["query", "limit"], "msg": "too large", "type": "x"}]})
    emulator.faults.add(Fault.body(returned.encode(), status=422))
    with pytest.raises(
        VoiceOSBadRequestError, match=r"^GET /conversations: 422: query\.limit: too large \(request id"
    ):
        connect(emulator).ids()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.server_error(), VoiceOSServerError),
        (Fault.reset(), VoiceOSConnectionError),
        (Fault.truncated_gzip(), VoiceOSConnectionError),
        (Fault.body(b"<html>", content_type="text/html"), VoiceOSResponseError),
    ],
)
def test_ten_failures_end_the_request(
    connect: Connect, emulator: Emulator, time: Any, fault: Fault, kind: type[VoiceOSAPIError]
) -> None:
    """The error gives the attempts, the duration and the last failure."""
    emulator.faults.add(fault)
    with pytest.raises(kind, match=r"Gave up after 10 attempts in \d+ s\.$") as caught:
        connect(emulator).ids()
    assert type(caught.value) is kind
    assert len(emulator.requests) == 10
    assert len(time.waits) == 9
    assert all(0 <= wait <= min(30, 2**n) for n, wait in enumerate(time.waits))
    assert isinstance(caught.value.__cause__, kind)


def test_ten_minutes_of_429_are_tolerated(
    connect: Connect, emulator: Emulator, world: World, time: Any
) -> None:
    """Rate limiting counts against the deadline instead of the attempts."""
    emulator.faults.add(Fault.rate_limit("10"))
    emulator.before_list = lambda nth: emulator.faults.clear() if time.now >= 600 else None
    assert connect(emulator).ids() == world.ids()[::-1]
    assert 600 <= time.now <= 650
    assert len(time.waits) > 20


def test_429_between_failures_uses_no_attempt(connect: Connect, emulator: Emulator, world: World) -> None:
    """Five failures with any number of rate limits among them leave one attempt."""
    emulator.faults.add(Fault.rate_limit("1"), at=[1, 2, 3, 5, 7, 9, 11])
    emulator.faults.add(Fault.server_error(), at=[4, 6, 8, 10, 12])
    assert connect(emulator).ids() == world.ids()[::-1]


def test_endless_429_fails_at_the_deadline(connect: Connect, emulator: Emulator, time: Any) -> None:
    """The default is a quarter of an hour."""
    emulator.faults.add(Fault.rate_limit("10"))
    with pytest.raises(
        VoiceOSRateLimitError, match=r"429: Too Many Requests .*Gave up after \d\d attempts in 8\d\d s"
    ):
        connect(emulator).ids()
    assert 800 < time.now <= 900


def test_deadline_applies_to_each_request(
    connect: Connect, emulator: Emulator, world: World, time: Any
) -> None:
    """Three pages may take ten minutes each."""
    for first in (1, 4, 7):
        emulator.faults.add(Fault.rate_limit("300"), at=[first, first + 1])
    assert connect(emulator).ids() == world.ids()[::-1]
    assert time.now >= 1_800


@pytest.mark.parametrize("value", ["999999", format_datetime(NOON + timedelta(days=11), usegmt=True)])
def test_wait_beyond_the_deadline_fails_immediately(
    connect: Connect, world: World, time: Any, value: str
) -> None:
    """The error gives the requested eleven days."""
    emulator = Emulator(world, clock=lambda: NOON)
    emulator.faults.add(Fault.rate_limit(value))
    with pytest.raises(VoiceOSRateLimitError) as caught:
        connect(emulator).ids()
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 900_000
    assert time.waits == []


@pytest.mark.parametrize(
    ("value", "least"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (format_datetime(NOON + timedelta(seconds=40), usegmt=True), 40.0),
        (format_datetime(NOON - timedelta(seconds=40), usegmt=True), 0.0),
        ("-40", 0.0),
        ("a while", 0.0),
        (None, 0.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_sets_the_wait(
    connect: Connect, world: World, time: Any, value: str | None, least: float, status: int
) -> None:
    """It is a number of seconds or a date by the server's clock; invalid values are ignored."""
    emulator = Emulator(world, clock=lambda: NOON)  # may be years from the local clock
    fault = Fault.rate_limit(value) if status == 429 else Fault.server_error(503, retry_after=value)
    emulator.faults.add(fault, at=[1])
    connect(emulator).ids()
    (wait,) = time.waits
    assert least <= wait <= least + 0.5


def test_decompression_bomb_is_rejected_at_the_limit(connect: Connect, emulator: Emulator) -> None:
    """The client does not retry it."""
    emulator.faults.add(Fault.gzip_bomb(1 << 24))
    with pytest.raises(
        VoiceOSResponseTooLargeError, match=r"larger than 1,000,000 bytes\. Lower the page size"
    ):
        connect(emulator, max_body_bytes=1_000_000).ids()
    assert len(emulator.requests) == 1


def test_decompression_bomb_with_status_500_is_a_server_error(
    connect: Connect, emulator: Emulator, world: World
) -> None:
    """The body of an error is only its explanation."""
    emulator.faults.add(Fault.body(b"x" * 2_000_000, status=500), at=[1])
    assert connect(emulator, max_body_bytes=1_000_000).ids() == world.ids()[::-1]


def test_each_wait_is_one_log_line(
    connect: Connect, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the reason and the duration, without query, token or body."""
    emulator.faults.add(Fault.body(b'{"detail": "+14155550142 is busy"}', status=503), at=[1])
    with caplog.at_level(logging.DEBUG, logger="voiceos_provider"):
        connect(emulator).ids(status="ended")
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("voiceos_provider")]
    assert re.fullmatch(
        r"Attempt 1 of 10 failed: GET /conversations: 503: \[number\] is busy \(request id req_\w+\); "
        r"retrying in \d+\.\d s\.",
        line,
    )
    assert emulator.token not in line


def test_log_counts_the_attempts(
    connect: Connect, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Rate-limited attempts are named, and do not count against the limit."""
    emulator.faults.add(Fault.rate_limit("3"), at=[2])
    emulator.faults.add(Fault.server_error())
    with (
        caplog.at_level(logging.DEBUG, logger="voiceos_provider"),
        pytest.raises(VoiceOSServerError) as caught,
    ):
        connect(emulator, retry=Retry(max_attempts=3)).ids()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("voiceos_provider")]
    assert [line.partition(": GET")[0] for line in lines] == [
        "Attempt 1 of 3 failed",
        "Attempt was rate limited",
        "Attempt 2 of 3 failed",
    ]
    assert re.search(r"\. Gave up after 4 attempts in \d+ s\.$", str(caught.value))


def test_urls_stay_out_of_the_log_of_httpx(
    connect: Connect, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """At INFO httpx logs each URL with its query: ours are dropped, and those of other users stay."""
    # Airflow sets httpx to WARNING when it is imported; others do not.
    with caplog.at_level(logging.INFO, logger="httpx"):
        connect(emulator).ids(status="ended")
        with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200))) as theirs:
            theirs.get("https://theirs.example/?q=1")
    lines = [
        record.getMessage() for record in caplog.records if record.name.startswith(("httpx", "httpcore"))
    ]
    assert [line for line in lines if "theirs.example" in line] == lines
    assert len(lines) == 1


def test_log_filter_of_httpx_is_added_once() -> None:
    """The number of clients does not matter."""
    for _ in range(3):
        VoiceOSClient(ClientConfig(token="t", base_url="http://emulator")).close()
    assert len({id(item) for item in logging.getLogger("httpx").filters}) == len(
        logging.getLogger("httpx").filters
    )


@pytest.mark.parametrize(
    "fault",
    [
        Fault.body(b'{"detail": "Bearer emulator-token of +14155550142"}', status=401),
        Fault.body(b'{"emulator-token": "+14155550142"}'),
        Fault.body(b"emulator-token +14155550142", content_type="text/plain"),
        Fault.body(b'{"items": "emulator-token +14155550142"}'),
        Fault.redirect("https://u:emulator-token@elsewhere.example/14155550142?token=emulator-token"),
    ],
)
def test_no_error_shows_token_number_or_body(connect: Connect, emulator: Emulator, fault: Fault) -> None:
    """The server may repeat them, and the error may be printed in any way."""
    emulator.faults.add(fault)
    with pytest.raises(VoiceOSAPIError) as caught:
        connect(emulator, retry=Retry(max_attempts=1)).ids(status="ended")
    for text in (str(caught.value), repr(caught.value), repr(caught.value.__cause__)):
        assert "emulator-token" not in text
        assert "4155550142" not in text
        assert "status=" not in text
    assert str(caught.value).startswith("GET /conversations: ")
