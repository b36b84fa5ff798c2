"""The client's configuration from an Airflow Connection."""

from __future__ import annotations

import ipaddress
import json
import logging
import ssl
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voiceos_provider.client import BASE_URL, ClientConfig, Retry
from voiceos_provider.exceptions import VoiceOSValueError

log = logging.getLogger(__name__)


class ConnectionLike(Protocol):
    """The fields of a Connection that are read."""

    host: str | None
    schema: str | None
    port: int | None
    password: str | None


class Extras(BaseModel):
    """The extras that are read, by name; the form in `get_provider_info` shows the same ones."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    page_size: int | None = Field(default=None, ge=1, le=1000)
    requests_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    request_timeout: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    connect_timeout: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    max_attempts: int | None = Field(default=None, ge=1, le=20)
    retry_deadline: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    ca_bundle: str | None = None
    allow_http: bool | None = None
    allow_private_recordings: bool | None = None
    phone_hash_key: str | None = Field(default=None, repr=False)


def require_type(conn_id: str, conn_type: str | None) -> None:
    """Refuse another system's Connection, whose password would be sent to VoiceOS.

    A Connection without a type, or of type Generic, is accepted, because not every deployment offers the type VoiceOS.

    :raises VoiceOSValueError: if it has another type
    """
    if (conn_type or "").strip().lower() not in ("", "generic", "voiceos"):
        raise VoiceOSValueError(
            f"Connection {conn_id!r} has the type {conn_type!r}. Choose the type VoiceOS, or name another connection "
            "in voiceos_conn_id."
        )


def client_config(conn_id: str, connection: ConnectionLike, extras: Extras) -> ClientConfig:
    """Return the client's configuration from the fields of a Connection.

    :param connection: the token is its password, the base URL its host
    :raises VoiceOSValueError: if a field is missing or wrong; the message names it and the cure
    """
    retry = {"max_attempts": extras.max_attempts, "deadline": extras.retry_deadline}
    settings = {
        "page_size": extras.page_size,
        "requests_per_second": extras.requests_per_second,
        "request_timeout": extras.request_timeout,
        "connect_timeout": extras.connect_timeout,
        "allow_private_recordings": extras.allow_private_recordings,
        "verify": _trust(conn_id, extras.ca_bundle) if extras.ca_bundle else None,
    }
    return ClientConfig(
        token=_token(conn_id, connection.password),
        base_url=_base_url(conn_id, connection, allow_http=bool(extras.allow_http)),
        retry=Retry(**_given(retry)),
        **_given(settings),
    )


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def read_extras(conn_id: str, extra: object, *, text: str | None = None) -> Extras:
    """Return the extras of a Connection, checked.

    :param extra: the extras as Airflow decodes them: JSON of any kind, None for ``null``
    :param text: the extras as they are stored; Airflow treats text that it cannot decode as no extras
    :raises VoiceOSValueError: if one is wrong; the message names it
    """
    if not isinstance(extra, dict | None) or (not extra and not _is_json(text)):
        raise VoiceOSValueError(
            f'Connection {conn_id!r}: write the extras as a JSON object, such as {{"page_size": 100}}.'
        )
    extra = extra or {}
    if unknown := sorted(set(extra) - set(Extras.model_fields)):
        log.warning(
            "Connection %r has unknown extras, which are ignored: %s. Known are %s.",
            conn_id,
            ", ".join(unknown),
            ", ".join(Extras.model_fields),
        )
    # A form sends an empty field as an empty text.
    try:
        return Extras.model_validate({name: value for name, value in extra.items() if value != ""})
    except ValidationError as error:
        found = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_url=False))
        raise VoiceOSValueError(f"Connection {conn_id!r} has a wrong extra. {found}.") from None


def _is_json(text: str | None) -> bool:
    try:
        json.loads(text or "null")
    except (TypeError, ValueError):
        return False
    return True


def _token(conn_id: str, password: str | None) -> str:
    token = (password or "").strip()
    if token.lower().startswith("bearer "):
        token = token[len("bearer ") :].strip()
    if not token:
        raise VoiceOSValueError(f"Connection {conn_id!r} has no API token. Set it in the Password field.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise VoiceOSValueError(
            f"Connection {conn_id!r}: paste the API token into the Password field again. It holds a space, a line "
            "break or another character that no token has."
        )
    return token


def _base_url(conn_id: str, connection: ConnectionLike, *, allow_http: bool) -> str:
    host = (connection.host or "").strip()
    if not host:
        return BASE_URL
    scheme = (connection.schema or "").strip().lower() or "https"
    if scheme not in ("http", "https"):
        raise VoiceOSValueError(
            f"Connection {conn_id!r}: write the whole base URL into the host, such as {BASE_URL}. The schema "
            f"{connection.schema!r} is neither http nor https."
        )
    wrong = f"Connection {conn_id!r}: write the host like {BASE_URL}. {_shown(host)!r}"
    try:
        parts = urlsplit(_with_scheme(host, scheme))
        port = parts.port or connection.port
        httpx.URL(parts.geturl())
    except (ValueError, httpx.InvalidURL):
        raise VoiceOSValueError(f"{wrong} is not a base URL.") from None
    name = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not name or any(character.isspace() for character in host):
        raise VoiceOSValueError(f"{wrong} is not a base URL.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise VoiceOSValueError(f"{wrong} has a user, a query or a fragment.")
    if parts.scheme == "http" and not allow_http and not _is_loopback(name):
        raise VoiceOSValueError(
            f'Connection {conn_id!r}: use https, or set the extra {{"allow_http": true}}. Plain http to {name} would '
            "send the token unencrypted."
        )
    shown_name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown_name}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _with_scheme(host: str, scheme: str) -> str:
    """Return the host as a URL. Airflow takes the brackets off the IPv6 host of a connection's URI."""
    before, _, rest = host.rpartition("://")
    name, slash, path = rest.partition("/")
    if isinstance(_address(name), ipaddress.IPv6Address):
        name = f"[{name}]"
    return f"{before or scheme}://{name}{slash}{path}"


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _shown(host: str) -> str:
    """Return the host without a password or query, for messages."""
    before, at, after = host.rpartition("@")
    return f"***@{after}" if at and before else host.partition("?")[0]


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _trust(conn_id: str, ca_bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise VoiceOSValueError(
            f"Connection {conn_id!r}: the extra ca_bundle {ca_bundle!r} is not a readable file of CA certificates "
            f"({error})."
        ) from None
