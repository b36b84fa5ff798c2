"""How does a command learn where the API is, and with which token?

The token never comes from an option: everybody on a machine can read its commands in `ps`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voiceos_provider.client import ClientConfig

F = TypeVar("F", bound=Callable[..., Any])

NAME = "this command"
"""What stands in messages where in Airflow the Connection's id would."""

_KINDS: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT, "string": click.STRING}


@dataclass(frozen=True, slots=True)
class Access:
    """The API as a command reaches it.

    :param settings: where it is, the token, and how much patience to have
    :param phone_hash_key: the key of phone numbers' hashes, if there is one
    """

    settings: ClientConfig
    phone_hash_key: str | None = field(default=None, repr=False)


@dataclass
class _Fields:
    host: str | None
    password: str | None
    schema: str | None = None
    port: int | None = None


def api_options(command: F) -> F:
    """Give a command the options that reach the API; it is called with an `access`."""

    @functools.wraps(command)
    def with_access(
        *, base_url: str | None, token_file: TextIO | None, phone_hash_key_file: TextIO | None, **options: Any
    ) -> Any:
        extras = {name: options.pop(name) for name in _extras()}
        given = click.get_current_context().obj
        if isinstance(given, Access):
            return command(access=given, **options)
        key = _secret(phone_hash_key_file, "VOICEOS_PHONE_HASH_KEY")
        return command(access=_access(base_url, token_file, {**extras, "phone_hash_key": key}), **options)

    decorated: Any = with_access
    for name, declared in reversed(_extras().items()):
        decorated = _option(name, declared)(decorated)
    decorated = click.option(
        "--phone-hash-key-file",
        type=click.File(),
        help="File with the secret that phone numbers are hashed with. [default: what VOICEOS_PHONE_HASH_KEY holds]",
    )(decorated)
    decorated = click.option(
        "--token-file",
        type=click.File(),
        help="File that holds the API token; - for standard input. [default: what VOICEOS_TOKEN holds, or a prompt]",
    )(decorated)
    decorated = click.option(
        "--base-url",
        envvar="VOICEOS_BASE_URL",
        show_envvar=True,
        help="Where the API is, if it is not the public one.",
    )(decorated)
    wrapped: F = decorated
    return wrapped


def option_names() -> set[str]:
    """The parameters that `api_options` adds."""
    return {"base_url", "token_file", "phone_hash_key_file", *_extras()}


@contextmanager
def quiet_log(*, verbose: bool) -> Iterator[None]:
    """Let warnings of the provider through to standard error, and with `verbose` what it does."""
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False)
    log = logging.getLogger("voiceos_provider")
    before, handed_on = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        log.propagate = handed_on


def _extras() -> dict[str, Any]:
    """The connection's extras that may be options: all but the secret one."""
    info: Any = get_provider_info()
    fields = info["connection-types"][0]["conn-fields"]
    return {name: item for name, item in fields.items() if item["schema"].get("format") != "password"}


def _option(name: str, declared: dict[str, Any]) -> Callable[[Any], Any]:
    schema = declared["schema"]
    spelled = f"--{name.replace('_', '-')}"
    if schema["type"][0] == "boolean":
        return click.option(spelled, is_flag=True, default=None, help=declared["description"])
    default = f" [default: {schema['default']}]" if "default" in schema else ""
    return click.option(spelled, type=_KINDS[schema["type"][0]], help=declared["description"] + default)


def _access(base_url: str | None, token_file: TextIO | None, extras: dict[str, Any]) -> Access:
    from voiceos_provider.utils.connection_fields import client_config, read_extras

    token = _secret(token_file, "VOICEOS_TOKEN")
    if not token and sys.stdin.isatty():
        token = click.prompt("API token", hide_input=True, err=True)
    if not token:
        raise VoiceOSValueError("There is no API token; put it into VOICEOS_TOKEN, or name a --token-file.")
    known = read_extras(NAME, {name: value for name, value in extras.items() if value is not None})
    settings = client_config(NAME, _Fields(host=base_url, password=token), known)
    return Access(settings, known.phone_hash_key)


def _secret(file: TextIO | None, variable: str) -> str | None:
    import os

    secret = file.read() if file is not None else os.environ.get(variable)
    return (secret or "").strip() or None
