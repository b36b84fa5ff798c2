"""Connections in every form in which Airflow passes them, valid and invalid."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.get_provider_info import get_provider_info
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.utils.connection_fields import Extras, client_config, read_extras


@dataclass
class Fields:
    host: str | None = None
    schema: str | None = None
    port: int | None = None
    password: str | None = "secret-token"


def settings(extra: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Return the configuration from a connection with these fields."""
    extras = read_extras("voiceos_default", extra or {})
    return client_config("voiceos_default", Fields(**fields), extras)


def refusal(extra: dict[str, Any] | None = None, **fields: Any) -> str:
    """Return the message of the error for a connection."""
    with pytest.raises(VoiceOSValueError) as caught:
        settings(extra, **fields)
    return str(caught.value)


def configured(connect: Any, conn_type: str | None = "voiceos", **fields: Any) -> Any:
    """Return the configuration from a connection as Airflow reads it from its own JSON form."""
    hook = VoiceOSHook(connect(conn_type=conn_type, **fields))
    try:
        return hook.get_conn().config
    finally:
        hook.close()


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("voiceos://:token@", "https://api.voiceos.io"),
        ("voiceos://:token@/", "https://api.voiceos.io"),
        ("voiceos://:token@api.example.com", "https://api.example.com"),
        ("voiceos://:token@api.example.com:8443/", "https://api.example.com:8443"),
        ("voiceos://:token@api.example.com:8443/https", "https://api.example.com:8443"),
        ("voiceos://:token@127.0.0.1:8321/http", "http://127.0.0.1:8321"),
        ("voiceos://:token@[::1]:8321/http", "http://[::1]:8321"),
        ("voiceos://:token@[2001:db8::7]", "https://[2001:db8::7]"),
        ("voiceos://:token@https%3A%2F%2Fapi.example.com%2Fvoiceos", "https://api.example.com/voiceos"),
        ("voiceos://:token@https%3A%2F%2Fapi.example.com:8443/", "https://api.example.com:8443"),
        ("voiceos://https://user:token@api.example.com:8443/", "https://api.example.com:8443"),
        ("voiceos://http://user:token@[::1]:8321/", "http://[::1]:8321"),
        ("VOICEOS://:token@api.example.com", "https://api.example.com"),
        ("voiceos://:token@api.example.com/?allow_http=true&page_size=20", "https://api.example.com"),
        (
            "voiceos://:token@api.example.com/?__extra__=%7B%22page_size%22%3A+20%7D",
            "https://api.example.com",
        ),
        ("generic://:token@api.example.com", "https://api.example.com"),
    ],
)
def test_connection_as_a_uri(monkeypatch: pytest.MonkeyPatch, uri: str, url: str) -> None:
    """It comes from an environment variable or a secrets backend, and Airflow parses it."""
    monkeypatch.setenv("AIRFLOW_CONN_VOICEOS_DEFAULT", uri)
    with VoiceOSHook() as hook:
        config = hook.get_conn().config
    assert (config.base_url, config.token) == (url, "token")
    assert config.page_size == (20 if "page_size" in uri else 100)


@pytest.mark.parametrize("conn_type", ["voiceos", "VoiceOS", "VOICEOS", "generic", "Generic", ""])
def test_type_may_have_the_spelling_of_the_form(connect: Any, conn_type: str) -> None:
    """JSON keeps it; a URI has it in lower case."""
    assert configured(connect, conn_type, password="token").base_url == "https://api.voiceos.io"


def test_another_type_is_rejected_by_name(connect: Any) -> None:
    """Its password is not for VoiceOS."""
    with pytest.raises(VoiceOSValueError, match=r"has the type 'http'\. Choose the type VoiceOS, or"):
        configured(connect, "http", password="token")


@pytest.mark.parametrize("extra", [None, "", {}, "{}", '{"page_size": null}', {"page_size": ""}])
def test_missing_extras_have_many_spellings(connect: Any, extra: Any) -> None:
    """They depend on how the connection was added."""
    assert configured(connect, password="token", extra=extra).page_size == 100


@pytest.mark.parametrize("extra", ["null", " null "])
def test_null_means_no_extras(extra: str) -> None:
    """Terraform's `jsonencode(null)` writes it; Airflow 3.1 rejects it earlier."""
    assert read_extras("voiceos_default", json.loads(extra), text=extra).page_size is None


@pytest.mark.parametrize("extra", ["[]", "[1]", '"text"', "7", "true", "{'page_size': 20}", "page_size=20"])
def test_extras_that_are_not_an_object_are_rejected(extra: str) -> None:
    """There is no TypeError and no silent default. Airflow rejects some when it stores them."""
    connection = SimpleNamespace(conn_id="voiceos_default", extra=extra)
    try:
        decoded = json.loads(extra)
    except ValueError:
        decoded = {}  # as `Connection.extra_dejson` does
    with pytest.raises(
        VoiceOSValueError, match=r'write the extras as a JSON object, such as \{"page_size": 100\}'
    ):
        read_extras(connection.conn_id, decoded, text=connection.extra)


@pytest.mark.parametrize("schema", ["v1", "api", "ftp"])
def test_schema_that_is_not_a_scheme_is_rejected(schema: str) -> None:
    """It is the path of a URI such as `voiceos://api.example.com/v1`."""
    assert "write the whole base URL into the host" in refusal(host="api.example.com", schema=schema)


def test_token_is_the_only_required_field() -> None:
    """Requests go to the public API by default."""
    assert settings().base_url == "https://api.voiceos.io"
    assert settings().token == "secret-token"


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://api.example.com/"}, "https://api.example.com"),
        ({"host": "api.example.com"}, "https://api.example.com"),
        ({"host": "https://api.example.com/voiceos/"}, "https://api.example.com/voiceos"),
        ({"host": "api.example.com", "port": 8443}, "https://api.example.com:8443"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8321}, "http://127.0.0.1:8321"),
        ({"host": "http://localhost:8321"}, "http://localhost:8321"),
        ({"host": "http://[::1]:8321"}, "http://[::1]:8321"),
        ({"host": " https://api.example.com "}, "https://api.example.com"),
        ({"host": "::1", "schema": "http", "port": 8321}, "http://[::1]:8321"),
        ({"host": "[::1]", "schema": "HTTP", "port": 8321}, "http://[::1]:8321"),
        ({"host": "2001:db8::7"}, "https://[2001:db8::7]"),
        ({"host": "https://2001:db8::7/voiceos"}, "https://[2001:db8::7]/voiceos"),
    ],
)
def test_host_may_have_many_forms(fields: dict[str, Any], url: str) -> None:
    """Scheme, port and trailing slash are optional; the default scheme is https."""
    assert settings(**fields).base_url == url


def test_pasted_header_is_accepted() -> None:
    """Spaces around the token and `Bearer` are removed."""
    assert settings(password=" Bearer secret-token\n").token == "secret-token"


def test_missing_password_is_reported_with_its_field() -> None:
    """The message names the connection."""
    assert (
        refusal(password=None)
        == "Connection 'voiceos_default' has no API token. Set it in the Password field."
    )
    assert "no API token" in refusal(password="   ")


def test_invalid_token_is_not_repeated() -> None:
    """It contains a line break."""
    message = refusal(password="secret\ntoken")
    assert "line break" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "host",
    [
        "ftp://api.example.com",
        "https://",
        "not a url",
        "https://a:b:c",
        "http:///x",
        "https://[::1",
        "https://\u00e9..com",
    ],
)
def test_host_that_is_not_a_url_is_named(host: str) -> None:
    """The message shows a valid one."""
    message = refusal(host=host)
    assert f"write the host like https://api.voiceos.io. {host!r} is not a base URL." in message


def test_credentials_in_the_host_are_rejected_and_hidden() -> None:
    """The message does not repeat the password."""
    message = refusal(host="https://user:hunter2@api.example.com")
    assert "has a user" in message
    assert "hunter2" not in message


def test_plain_http_is_rejected_unless_the_connection_allows_it() -> None:
    """The token is not sent unencrypted by accident."""
    message = refusal(host="http://api.example.com")
    assert "Plain http to api.example.com would send the token unencrypted" in message
    assert '{"allow_http": true}' in message
    assert settings({"allow_http": True}, host="http://api.example.com").base_url == "http://api.example.com"


def test_every_extra_reaches_the_client() -> None:
    """Each changes the setting of its name; texts of the form are read as numbers."""
    found = settings(
        {
            "page_size": "250",
            "request_timeout": 5,
            "connect_timeout": "2.5",
            "max_attempts": 3,
            "retry_deadline": 30,
        }
    )
    assert found.page_size == 250
    assert (found.request_timeout, found.connect_timeout) == (5, 2.5)
    assert (found.retry.max_attempts, found.retry.deadline) == (3, 30)


def test_empty_fields_of_the_form_have_the_default() -> None:
    """The form sends an empty text or null."""
    assert settings({"page_size": "", "max_attempts": None}).page_size == 100


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"page_size": 0}, "page_size: Input should be greater than or equal to 1"),
        ({"page_size": "many"}, "page_size: Input should be a valid integer"),
        ({"request_timeout": -1}, "request_timeout: Input should be greater than or equal to 1"),
        ({"allow_http": "perhaps"}, "allow_http: Input should be a valid boolean"),
    ],
)
def test_wrong_extra_is_named(extra: dict[str, Any], said: str) -> None:
    """The message has the connection, the extra and the reason."""
    message = refusal(extra)
    assert message.startswith("Connection 'voiceos_default' has a wrong extra.")
    assert said in message


def test_missing_ca_bundle_is_named(tmp_path: Any) -> None:
    """The error comes before any request."""
    assert "the extra ca_bundle" in refusal({"ca_bundle": str(tmp_path / "absent.pem")})


def test_unknown_extras_are_warned_about_without_values(caplog: pytest.LogCaptureFixture) -> None:
    """The warning has only their names."""
    with caplog.at_level(logging.WARNING):
        settings({"X-Api-Key": "hunter2", "page_size": 10})
    assert "are ignored: X-Api-Key" in caplog.text
    assert "hunter2" not in caplog.text


def test_form_shows_the_extras_that_are_read() -> None:
    """Their limits are equal."""
    info: Any = get_provider_info()
    declared = info["connection-types"][0]["conn-fields"]
    read = Extras.model_json_schema()["properties"]
    assert set(declared) == set(read)
    for name, field in declared.items():
        number = next(choice for choice in read[name]["anyOf"] if choice["type"] != "null")
        assert field["schema"]["type"] == [number["type"], "null"], name
        for bound in ("minimum", "maximum"):
            assert field["schema"].get(bound) == number.get(bound), (name, bound)


def test_form_shows_the_defaults_of_the_client() -> None:
    """Each is compared."""
    info: Any = get_provider_info()
    shown = {
        name: field["schema"].get("default")
        for name, field in info["connection-types"][0]["conn-fields"].items()
    }
    found = settings()
    assert shown["page_size"] == found.page_size
    assert shown["request_timeout"] == found.request_timeout
    assert shown["connect_timeout"] == found.connect_timeout
    assert shown["max_attempts"] == found.retry.max_attempts
    assert shown["retry_deadline"] == found.retry.deadline
