"""What does an Airflow Connection say about the API?"""

from __future__ import annotations

import ipaddress
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
    """What is read of a Connection: nothing else of it ever reaches the API."""

    host: str | None
    schema: str | None
    port: int | None
    password: str | None


class Extras(BaseModel):
    """The extras that are read, by name. The form in `get_provider_info` shows the same ones."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    page_size: int | None = Field(default=None, ge=1, le=1000)
    requests_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    request_timeout: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    connect_timeout: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    max_attempts: int | None = Field(default=None, ge=1, le=20)
    retry_deadline: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    ca_bundle: str | None = None
    allow_http: bool | None = None
    phone_hash_key: str | None = Field(default=None, repr=False)


def require_type(conn_id: str, conn_type: str | None) -> None:
    """Refuse another system's Connection, whose password would be sent to VoiceOS.

    One without a type, or of the type Generic, is taken: not every deployment shows ours.

    :raises VoiceOSValueError: if it is of another type
    """
    if conn_type not in (None, "", "generic", "voiceos"):
        raise VoiceOSValueError(
            f"Connection {conn_id!r} is of the type {conn_type!r}; choose VoiceOS as its type, or name another one in "
            "voiceos_conn_id."
        )


def client_config(conn_id: str, connection: ConnectionLike, extras: Extras) -> ClientConfig:
    """Read a Connection.

    :param conn_id: its id, for messages
    :param connection: the token is its password, the base URL its host
    :param extras: its extras
    :raises VoiceOSValueError: if a field is missing or wrong; the message names it and the cure
    """
    retry = {"max_attempts": extras.max_attempts, "deadline": extras.retry_deadline}
    settings = {
        "page_size": extras.page_size,
        "requests_per_second": extras.requests_per_second,
        "request_timeout": extras.request_timeout,
        "connect_timeout": extras.connect_timeout,
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


def read_extras(conn_id: str, extra: dict[str, Any]) -> Extras:
    """The extras, checked.

    :raises VoiceOSValueError: if one is wrong; the message names it
    """
    if unknown := sorted(set(extra) - set(Extras.model_fields)):
        log.warning(
            "Connection %r has extras that VoiceOS does not know, and ignores: %s. It knows %s.",
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


def _token(conn_id: str, password: str | None) -> str:
    token = (password or "").strip()
    if token.lower().startswith("bearer "):
        token = token[len("bearer ") :].strip()
    if not token:
        raise VoiceOSValueError(f"Connection {conn_id!r} has no API token; put it in the password field.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise VoiceOSValueError(
            f"Connection {conn_id!r}: the API token holds a space, a line break or another character that no "
            "token has; paste it again into the password field."
        )
    return token


def _base_url(conn_id: str, connection: ConnectionLike, *, allow_http: bool) -> str:
    host = (connection.host or "").strip()
    if not host:
        return BASE_URL
    scheme = connection.schema if connection.schema in ("http", "https") else "https"
    wrong = f"Connection {conn_id!r}: the host {_shown(host)!r} is not a base URL"
    example = f"write it like {BASE_URL}"
    try:
        parts = urlsplit(host if "://" in host else f"{scheme}://{host}")
        port = parts.port or connection.port
        httpx.URL(parts.geturl())
    except (ValueError, httpx.InvalidURL):
        raise VoiceOSValueError(f"{wrong}; {example}.") from None
    name = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not name or any(character.isspace() for character in host):
        raise VoiceOSValueError(f"{wrong}; {example}.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise VoiceOSValueError(f"{wrong}: it has a user, a query or a fragment; {example}.")
    if parts.scheme == "http" and not allow_http and not _is_loopback(name):
        raise VoiceOSValueError(
            f"Connection {conn_id!r}: plain http to {name} would send the token unencrypted. Use https, or set the "
            'extra {"allow_http": true} if the network between is yours.'
        )
    shown_name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown_name}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _shown(host: str) -> str:
    """The host as a message may repeat it: whoever put a password in there should not read it in the log."""
    before, at, after = host.rpartition("@")
    return f"***@{after}" if at and before else host.partition("?")[0]


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _trust(conn_id: str, ca_bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise VoiceOSValueError(
            f"Connection {conn_id!r}: the extra ca_bundle {ca_bundle!r} is not a readable file of CA "
            f"certificates ({error})."
        ) from None
