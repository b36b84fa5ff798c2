"""Which values look like credentials, and must not leave the decoder?"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from voiceos_provider.transform import TABLES
from voiceos_provider.transform.secrets import MASK, is_secret, without_secrets

SECRET_KEYS = [
    "auth",
    "jwt",
    "pass",
    "x-api-keys",
    "secrets",
    "api_key",
    "apiKey",
    "APIKey",
    "X-API-Key",
    "apikey",
    "openai.api_key",
    "token",
    "authToken",
    "accessToken",
    "access_token",
    "AccessToken",
    "x-hook-token",
    "authtoken",
    "password",
    "db_passwd",
    "pwd",
    "passphrase",
    "secret",
    "client_secret",
    "clientSecret",
    "secret_key",
    "secretKey",
    "signing_key",
    "private_key",
    "aws_secret_access_key",
    "encryption-key",
    "Authorization",
    "bearer",
    "credential",
    "credentials",
    "X-Amz-Signature",
    "sig",
    "Cookie",
    "webhook secret",
]
PLAIN_KEYS = [
    "credential_id",
    "input_tokens",
    "output_tokens",
    "max_tokens",
    "secretary",
    "tokens",
    "key",
    "keywords",
    "design",
    "token_count",
    "monkey",
    "signed_at",
    "x",
    "",
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_key_that_names_a_credential_hides_its_value(key: str) -> None:
    """In whatever spelling; the key itself stays, so that one sees what was configured."""
    assert is_secret(key)
    assert without_secrets({key: "s3cr3t"}) == {key: MASK}
    assert without_secrets([{"a": [{key: "s3cr3t"}]}]) == [{"a": [{key: MASK}]}]
    assert without_secrets({key: ["s3cr3t", "", 7]}) == {key: [MASK, "", 7]}


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_a_key_that_only_resembles_one_hides_nothing(key: str) -> None:
    """`credential_id` names a key and is none; token counts are numbers to work with."""
    assert not is_secret(key)
    assert without_secrets({key: "kept"}) == {key: "kept"}


def test_no_column_is_hidden_by_the_name_of_its_key() -> None:
    """Whatever the API documents is not mistaken for a credential."""
    assert not [
        column.name for table in TABLES for column in table.columns for step in column.path if is_secret(step)
    ]


def test_what_is_empty_is_shown_as_empty() -> None:
    """Null and an empty string say that no credential was given."""
    assert without_secrets({"token": None, "secret": "", "headers": None}) == {
        "token": None,
        "secret": "",
        "headers": None,
    }
    assert without_secrets({"headers": {}}) == {"headers": {}}


def test_a_description_of_a_credential_is_none() -> None:
    """A tool's parameter may be called token; its JSON schema is configuration, and stays readable."""
    schema = {
        "properties": {"token": {"type": "string", "description": "The caller's token."}},
        "required": ["token"],
    }
    assert without_secrets(schema) == schema


@pytest.mark.parametrize(
    ("headers", "masked"),
    [
        ({"x-hook-token": "s3cr3t", "X-Team": "a"}, {"x-hook-token": MASK, "X-Team": MASK}),
        ({"x": {"y": "s3cr3t"}, "z": 7}, {"x": MASK, "z": MASK}),
        ([["Authorization", "s3cr3t"]], MASK),
        ([{"name": "Authorization", "value": "s3cr3t"}], MASK),
        ("Authorization: s3cr3t", MASK),
    ],
)
@pytest.mark.parametrize("key", ["headers", "Headers", "requestHeaders", "extra_headers"])
def test_every_header_is_hidden(key: str, headers: Any, masked: Any) -> None:
    """Customers keep secrets there under names that nobody can know; in whatever shape they are sent."""
    assert without_secrets({"webhooks": [{key: headers}]}) == {"webhooks": [{key: masked}]}


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://hooks.example.com/voiceos", "https://hooks.example.com/voiceos"),
        ("https://user:s3cr3t@example.com/a?b=c", "https://***@example.com/a?b=c"),
        ("https://s3cr3t@example.com", "https://***@example.com"),
        ("HTTPS://x.example/?access_token=s3cr3t&page=2", "https://x.example/?access_token=***&page=2"),
        ("postgresql://user:s3cr3t@db.example/x", "postgresql://***@db.example/x"),
        ("wss://x.example/?token=s3cr3t", "wss://x.example/?token=***"),
        ("see https://u:s3cr3t@a.example and https://b.example/?sig=s3cr3t.", None),
        ("https://[broken@s3cr3t", "***"),
        ("https://example.com/?page=a%20b&x=%C3%A9", "https://example.com/?page=a%20b&x=%C3%A9"),
        ("mail me @home, what? no://", "mail me @home, what? no://"),
    ],
)
def test_the_secret_part_of_a_url_is_hidden(url: str, safe: str | None) -> None:
    """User, password and credentials in the query, wherever in a text; any other address is left as it is."""
    shown = without_secrets({"text": [url]})["text"][0]
    assert "s3cr3t" not in shown
    assert safe is None or shown == safe


def test_the_value_itself_is_not_changed() -> None:
    """What is returned is a copy."""
    value = {"a": [{"token": "s3cr3t", "headers": {"x": "y"}}]}
    before = json.loads(json.dumps(value))
    without_secrets(value)
    assert value == before


def test_nesting_may_be_deeper_than_calls_may() -> None:
    """JSON of ten thousand levels is masked to its ground."""
    value: Any = {"token": "s3cr3t"}
    for n in range(10_000):
        value = [value] if n % 2 else {"a": value}
    masked = without_secrets(value)
    for n in reversed(range(10_000)):
        masked = masked[0] if n % 2 else masked["a"]
    assert masked == {"token": MASK}


PLACES = [
    '{{"id":"a","cost_breakdown":{{"{key}":"s3cr3t"}}}}',
    '{{"id":"a","{key}":"s3cr3t"}}',
    '{{"id":"a","status":{{"{key}":"s3cr3t"}}}}',
    '{{"id":"a","phone_call":[{{"{key}":"s3cr3t"}}]}}',
    '{{"id":"a","agent_config":{{"{key}":"s3cr3t"}}}}',
    '{{"id":"a","agent_config":{{"webhooks":[{{"headers":{{"{key}":"s3cr3t"}}}}]}}}}',
    '{{"id":"a","agent_config":{{"language_model":{{"model":"https://x.example/?{key}=s3cr3t"}}}}}}',
    '{{"id":"a","agent_config":[{{"{key}":"s3cr3t"}}]}}',
    '{{"id":"a","messages":[{{"role":"tool","content":"","{key}":"s3cr3t"}}]}}',
    '{{"id":"a","messages":[{{"role":"agent","content":"https://x.example/?{key}=s3cr3t"}}]}}',
    '{{"id":"a","messages":[{{"role":"agent","content":"https:\\/\\/x.example/?{key}=s3cr3t"}}]}}',
    '{{"id":"a","messages":[{{"content":{{"{key}":"s3cr3t"}}}}]}}',
    '{{"id":"a","messages":[{{"role":"https://x.example/?{key}=s3cr3t","content":""}}]}}',
    '{{"id":"a","messages":{{"{key}":"s3cr3t"}}}}',
    '{{"id":"a","uri":"https://user:s3cr3t@x.example"}}',
    '{{"id":"a","uri":"https://x.example/?{key}=s3cr3t"}}',
    '{{"id":null,"{key}":"s3cr3t"}}',
    '{{"id":null,"agent_config":{{"webhooks":[{{"headers":{{"{key}":"s3cr3t"}}}}]}}}}',
    '[{{"{key}":"s3cr3t"}}]',
    '"https://x.example/?{key}=s3cr3t"',
    '{{"{key}":"s3cr3t", nothing that can be read',
]


@pytest.mark.parametrize("key", ["api_key", "X-Hook-Token", "clientSecret"])
@pytest.mark.parametrize("place", PLACES)
def test_no_credential_leaves_the_decoder(read: Callable[..., Any], place: str, key: str) -> None:
    """Neither in a column, nor in `extra`, nor in what is set aside; wherever the API put it."""
    result = read(place.format(key=key))
    assert "s3cr3t" not in str(result.tables)
    assert "s3cr3t" not in str(result.decoded.drift)
    assert "s3cr3t" not in str(result.decoded.rejected)
    assert len(result.rows) + len(result.decoded.rejected) == 1


def test_a_password_need_not_be_a_text() -> None:
    """A number is one, and so is what stands in an object of credentials; a price per token is none."""
    sent = {
        "password": 123456,
        "credentials": {"user": "u", "pass": "p"},
        "price_per_token": 2,
        "secret": True,
    }
    assert without_secrets(sent) == {
        "password": MASK,
        "credentials": {"user": MASK, "pass": MASK},
        "price_per_token": 2,
        "secret": True,
    }


def test_a_parameter_that_is_called_token_is_still_declared() -> None:
    """A tool says what it takes, which is no credential."""
    sent = {"properties": {"token": {"type": "string", "description": "the ticket's"}}}
    assert without_secrets(sent) == sent


def test_the_fragment_of_a_url_is_looked_at_too() -> None:
    """OAuth puts tokens there."""
    assert (
        without_secrets("https://x.example/cb#access_token=abc&a=1")
        == f"https://x.example/cb#access_token={MASK}&a=1"
    )
