"""Masking of credentials by the name of their key, by their format, and in URLs."""

import json
import random
import string
from collections.abc import Callable
from typing import Any

import pytest

from voiceos_provider.transform import TABLES
from voiceos_provider.transform.credentials import MASK, is_credential_name, mask_credentials

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
def test_key_that_names_a_credential_masks_its_value(key: str) -> None:
    """Its spelling does not matter, and the key itself stays."""
    assert is_credential_name(key)
    assert mask_credentials({key: "s3cr3t"}) == {key: MASK}
    assert mask_credentials([{"a": [{key: "s3cr3t"}]}]) == [{"a": [{key: MASK}]}]
    assert mask_credentials({key: ["s3cr3t", "", 7]}) == {key: [MASK, "", 7]}


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_key_that_only_resembles_one_masks_nothing(key: str) -> None:
    """`credential_id` identifies a key, and token counts are numbers."""
    assert not is_credential_name(key)
    assert mask_credentials({key: "kept"}) == {key: "kept"}


def test_no_column_is_masked_by_the_name_of_its_key() -> None:
    """Documented fields do not count as credentials."""
    assert not [
        column.name
        for table in TABLES
        for column in table.columns
        for step in column.path
        if is_credential_name(step)
    ]


def test_null_and_empty_text_are_not_masked() -> None:
    """They show that no credential was configured."""
    assert mask_credentials({"token": None, "secret": "", "headers": None}) == {
        "token": None,
        "secret": "",
        "headers": None,
    }
    assert mask_credentials({"headers": {}}) == {"headers": {}}


def test_schema_of_a_parameter_named_token_is_not_masked() -> None:
    """A tool's JSON schema is configuration."""
    schema = {
        "properties": {"token": {"type": "string", "description": "The caller's token."}},
        "required": ["token"],
    }
    assert mask_credentials(schema) == schema


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
def test_every_header_is_masked(key: str, headers: Any, masked: Any) -> None:
    """Headers may hold secrets under any name and in any structure."""
    assert mask_credentials({"webhooks": [{key: headers}]}) == {"webhooks": [{key: masked}]}


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://hooks.example.com/voiceos", "https://hooks.example.com/voiceos"),
        ("https://user:s3cr3t@example.com/a?b=c", "https://***@example.com/a?b=c"),
        ("https://s3cr3t@example.com", "https://***@example.com"),
        ("HTTPS://x.example/?access_token=s3cr3t&page=2", "HTTPS://x.example/?access_token=***&page=2"),
        ("postgresql://user:s3cr3t@db.example/x", "postgresql://***@db.example/x"),
        ("wss://x.example/?token=s3cr3t", "wss://x.example/?token=***"),
        ("see https://u:s3cr3t@a.example and https://b.example/?sig=s3cr3t.", None),
        ("https://[s3cr3t@broken", "https://***@broken"),
        ("jdbc:postgresql://u:s3cr3t@db.example/x", "jdbc:postgresql://***@db.example/x"),
        (
            "https://x.example/?next=https://y.example/?token=s3cr3t&a=%20",
            "https://x.example/?next=https://y.example/?token=***&a=%20",
        ),
        (
            "https://x.example/?next=https://u:s3cr3t@y.example/",
            "https://x.example/?next=https://***@y.example/",
        ),
        ("https://x.example/?api%5Fkey=s3cr3t;x", "https://x.example/?api%5Fkey=***"),
        ("https://x.example/?token=&page=2", "https://x.example/?token=&page=2"),
        ("https://example.com/?page=a%20b&x=%C3%A9", "https://example.com/?page=a%20b&x=%C3%A9"),
        ("mail me @home, what? no://", "mail me @home, what? no://"),
    ],
)
def test_secrets_in_a_url_are_masked(url: str, safe: str | None) -> None:
    """These are user, password and credentials in the query; other URLs are unchanged."""
    shown = mask_credentials({"text": [url]})["text"][0]
    assert "s3cr3t" not in shown
    assert safe is None or shown == safe


def test_argument_is_not_changed() -> None:
    """The result is a copy."""
    value = {"a": [{"token": "s3cr3t", "headers": {"x": "y"}}]}
    before = json.loads(json.dumps(value))
    mask_credentials(value)
    assert value == before


def test_nesting_may_exceed_the_recursion_limit() -> None:
    """JSON of ten thousand levels is masked."""
    value: Any = {"token": "s3cr3t"}
    for n in range(10_000):
        value = [value] if n % 2 else {"a": value}
    masked = mask_credentials(value)
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
    """Neither a column nor `extra` nor a rejected record holds it."""
    result = read(place.format(key=key))
    assert "s3cr3t" not in str(result.tables)
    assert "s3cr3t" not in str(result.decoded.drift)
    assert "s3cr3t" not in str(result.decoded.rejected)
    assert len(result.rows) + len(result.decoded.rejected) == 1


def test_credential_may_have_any_type() -> None:
    """Numbers and values in an object of credentials are masked; a price per token is not."""
    sent = {
        "password": 123456,
        "credentials": {"user": "u", "pass": "p"},
        "price_per_token": 2,
        "secret": True,
    }
    assert mask_credentials(sent) == {
        "password": MASK,
        "credentials": {"user": MASK, "pass": MASK},
        "price_per_token": 2,
        "secret": True,
    }


def test_parameter_named_token_stays_declared() -> None:
    """The declaration holds no credential."""
    sent = {"properties": {"token": {"type": "string", "description": "the ticket's"}}}
    assert mask_credentials(sent) == sent


def test_fragment_of_a_url_is_masked() -> None:
    """OAuth puts tokens there."""
    assert (
        mask_credentials("https://x.example/cb#access_token=abc&a=1")
        == f"https://x.example/cb#access_token={MASK}&a=1"
    )


def of_length(alphabet: str, length: int) -> str:
    """Return a text that looks random and is equal in every run, so that this file holds no real key."""
    return "".join(random.Random(length).choices(alphabet, k=length))


ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
SHAPES = [
    "sk-" + of_length(ALNUM, 48),
    "sk-live-" + of_length(ALNUM, 24),
    "sk-proj-" + of_length(ALNUM + "-_", 120),
    "sk-ant-api03-" + of_length(ALNUM + "-_", 93),
    "sk_live_" + of_length(ALNUM, 24),
    "rk_test_" + of_length(ALNUM, 24),
    "sk_" + of_length(HEX, 48),
    "gsk_" + of_length(ALNUM, 52),
    "xoxb-" + of_length(string.digits, 12) + "-" + of_length(ALNUM, 24),
    "xoxp-" + of_length(string.digits, 30),
    "xapp-1-" + of_length(ALNUM, 30),
    *("gh" + kind + "_" + of_length(ALNUM, 36) for kind in "pousr"),
    "github_pat_" + of_length(ALNUM + "_", 82),
    "glpat-" + of_length(ALNUM, 20),
    "npm_" + of_length(ALNUM, 36),
    "hf_" + of_length(string.ascii_letters, 34),
    "SG." + of_length(ALNUM, 22) + "." + of_length(ALNUM, 43),
    "AKIA" + of_length(string.ascii_uppercase + string.digits, 16),
    "ASIA" + of_length(string.ascii_uppercase + string.digits, 16),
    "AIza" + of_length(ALNUM + "-_", 35),
    "ya29." + of_length(ALNUM + "-_", 60),
    "GOCSPX-" + of_length(ALNUM, 28),
    "SK" + of_length(HEX, 32),
    "AC" + of_length(HEX, 32),
    ".".join("eyJ" * (n < 2) + of_length(ALNUM + "-_", 40) for n in range(3)),
    "Bearer " + of_length(ALNUM, 32),
    "Basic " + of_length(ALNUM, 24) + "==",
    "-----BEGIN PRIVATE KEY-----\n" + of_length(ALNUM + "\n", 200) + "\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\n" + of_length(ALNUM, 64),
]


@pytest.mark.parametrize("secret", SHAPES, ids=lambda secret: secret[:12])
def test_value_in_the_format_of_a_credential_is_masked(read: Callable[..., Any], secret: str) -> None:
    """It may be alone or within a text, under any key of a configuration or an undocumented field."""
    hidden = {"openai": secret, "note": [f"use {secret}, please"]}
    sent = {
        "id": "a",
        "notes": hidden,
        "messages": [{"role": "tool", "result": hidden}, secret],
        "agent_config": {"prompt": f"key: {secret}", "metadata": hidden, "voice": hidden, "x": hidden},
    }
    result = read(
        json.dumps(sent), json.dumps(sent | {"id": None}), json.dumps({"id": "b", "messages": hidden})
    )
    tail = secret[-12:]
    assert tail not in str(result.tables)
    assert tail not in str(result.decoded.rejected)
    assert json.loads(result.configs[0]["agent_config"])["metadata"] == {
        "openai": MASK,
        "note": [f"use {MASK}" + ("" if secret.startswith("-----BEGIN RSA") else ", please")],
    }


@pytest.mark.parametrize(
    "text",
    [
        "sk-SK",
        "a risk-assessment-framework-for-banks",
        "task_management_version_number_2",
        "sk_learn_model_version_number",
        "AKIA and ASIA",
        "Basic understanding of electronics",
        "the bearer of bad news",
        "eyJust saying",
        "CA0b0e6c1e9d2f4a5b8c7d6e5f4a3b2c1d",
        "5d41402abc4b2a76b9719d911017c592",
        "ghp_short",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_other_texts_are_kept(text: str) -> None:
    """These are words, call ids, checksums and certificates."""
    assert mask_credentials({"x": text}) == {"x": text}


def test_credential_in_an_undocumented_name_or_value_is_not_logged(
    read: Callable[..., Any],
) -> None:
    """It may be a valid identifier."""
    secret = "sk_live_" + of_length(ALNUM, 24)
    sent = {"id": "a", secret: 1, "type": secret, "agent_config": {secret: 1, "voice": {"provider": secret}}}
    assert secret not in str(read(json.dumps(sent)).decoded.drift)
