"""Any text that a caller can put into a conversation takes linear time.

The CPU time of a text is compared with that of one eight times as long: linear work takes 8 times as long, quadratic
work 64 times.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.decoding import as_page, as_text, decoded
from voiceos_provider.transform import Redaction
from voiceos_provider.transform.redaction import e164
from voiceos_provider.transform.schema_drift import safe_name

TEXTS: dict[str, Callable[[int], str]] = {
    "letters and digits after a URL": lambda n: "https://a.example/?q=1 " + "0a1b" * n,
    "one long word": lambda n: "a" * 4 * n,
    "colons": lambda n: ":" * 4 * n,
    "schemes": lambda n: "a://" * n,
    "schemes in words": lambda n: "a://b@ " * n,
    "at signs": lambda n: "https://" + "@" * 4 * n,
    "user information": lambda n: "https://" + "u:" * 2 * n,
    "parameters": lambda n: "https://a/?" + "token=1&" * n,
    "parameters without values": lambda n: "https://a/?" + "token&" * n,
    "one long parameter": lambda n: "https://a/?" + "token_" * n + "=1",
    "question marks": lambda n: "https://a/" + "?" * 4 * n,
    "percents": lambda n: "https://a/?" + "%41" * n + "=1",
    "prefixes of keys": lambda n: "sk-" * n,
    "underscored prefixes": lambda n: "sk_" * n,
    "GitHub prefixes": lambda n: "ghp_" * n,
    "Slack prefixes": lambda n: "xoxb-xoxb " * n,
    "AWS prefixes": lambda n: "AKIA" * n,
    "Twilio prefixes": lambda n: "SKAC" * n,
    "JWT prefixes": lambda n: "eyJ" * n,
    "JWT prefixes with points": lambda n: "eyJaaaaaaaa." * n,
    "JWT prefixes with dashes": lambda n: "-eyJ" * n,
    "SendGrid prefixes": lambda n: "SG.aaaaaaaaaaaaaaaa-" * n,
    "authorization": lambda n: "Bearer " * n,
    "authorization and spaces": lambda n: "Bearer" + " " * 4 * n,
    "private keys": lambda n: "-----BEGIN PRIVATE KEY-----" * n,
    "ends of private keys": lambda n: "-----BEGIN PRIVATE KEY-----" + "-----END " * n,
    "dashes": lambda n: "-" * 4 * n,
    "digits": lambda n: "1" * 4 * n + "a",
    "digits and spaces": lambda n: "1 " * 2 * n + "1a",
    "digits and wide spaces": lambda n: ("1" + " " * 40) * (n // 10) + "1a",
    "plus signs": lambda n: "+1 " * n + "a",
    "parentheses": lambda n: "(" * 4 * n + "1",
    "phone numbers": lambda n: "+1 415 555 0142, " * n,
    "brackets": lambda n: '"[{' * n,
    "backslashes": lambda n: "\\" * 4 * n,
    "NULs": lambda n: "\x00" * n,
    "camel case": lambda n: "aA" * 2 * n,
}
SIZE, FACTOR = 400, 8


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU time of the faster of two runs."""
    times = []
    for _ in range(2):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def assert_linear(work: Callable[[Any], Any], make: Callable[[int], Any]) -> None:
    """Raise if the time grows much faster than the input."""
    short, long = make(SIZE), make(SIZE * FACTOR)
    work(short)
    # Below some milliseconds the clock and the fixed cost of a call decide.
    assert seconds(lambda: work(long)) < 24 * max(seconds(lambda: work(short)), 0.005)


REDACTIONS = [Redaction(), Redaction("hash", "drop", "drop", "hash", "k" * 16)]


def conversation(text: str) -> str:
    """Return a conversation with this text in every text field."""
    return json.dumps(
        {
            "id": text,
            "uri": text,
            "status": text,
            "phone_call": {"from_number": text, "to_number": None, "provider": text},
            "messages": [{"role": text, "content": text}],
            "agent_config": {
                "prompt": text,
                "metadata": {text: text},
                "webhooks": [{"url": text, "method": text}],
            },
        }
    )


def conversation_with_more(text: str) -> str:
    """Return the same with undocumented fields, for the fallback decoder."""
    more = {
        "x": {text: [text, {text: text}]},
        text: text,
        "started_at": text,
        "cost_breakdown": {"total": text},
    }
    message = {"role": text, "content": text, "at": text, text: text}
    return json.dumps(json.loads(conversation(text)) | more | {"messages": [message, text]})


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("redaction", REDACTIONS, ids=["keep", "redact"])
def test_conversation_is_decoded_in_linear_time(name: str, redaction: Redaction) -> None:
    """Both decoders run; the fallback decoder gets the text in undocumented fields as well."""
    assert_linear(
        lambda item: decoded([as_page(item)], redaction=redaction), lambda n: conversation(TEXTS[name](n))
    )
    assert_linear(
        lambda item: decoded([as_text(item)], redaction=redaction),
        lambda n: conversation_with_more(TEXTS[name](n)),
    )


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("function", [e164, safe_name])
def test_text_is_processed_in_linear_time(name: str, function: Callable[[str], Any]) -> None:
    """Each function that gets a single text is measured."""
    assert_linear(function, TEXTS[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda n: {f"+1415555{n:07}": 1 for n in range(n)},
        lambda n: {"*" * 3 + "1" * (n % 50) + str(n): 1 for n in range(n)} | {"+14155550142": 1},
        lambda n: [{"api_key": "x", "headers": {"a": "b"}}] * n,
        lambda n: {f"https://a.example/?token={n}": f"sk_live_{n:020}" for n in range(n)},
    ],
    ids=["phone numbers as keys", "masks as keys", "credentials", "URLs as keys"],
)
@pytest.mark.parametrize("redaction", REDACTIONS, ids=["keep", "redact"])
def test_object_is_redacted_in_linear_time(make: Callable[[int], Any], redaction: Redaction) -> None:
    """It has many keys in metadata and in an undocumented field."""
    assert_linear(
        lambda item: decoded([as_text(item)], redaction=redaction),
        lambda n: json.dumps({"id": "a", "x": make(n), "agent_config": {"metadata": make(n)}}),
    )
