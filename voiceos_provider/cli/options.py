"""Options that several commands share: where the API is, the token, the interval, lists of names.

No option takes the token itself: other users of a machine can read command lines.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from voiceos_provider.cli.output import for_terminal
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from voiceos_provider.client import ClientConfig
    from voiceos_provider.interval import Interval

F = TypeVar("F", bound=Callable[..., Any])

storage_conn_id = click.option(
    "--storage-conn-id", help="Airflow connection of the store. [default: the store's own credentials]"
)

_TYPES: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT, "string": click.STRING}


@dataclass(frozen=True, slots=True)
class Access:
    """How a command reaches the API.

    :param config: base URL, token, timeouts and retries
    :param phone_hash_key: the key for hashing phone numbers, or None
    """

    config: ClientConfig
    phone_hash_key: str | None = field(default=None, repr=False)


def api_options(command: F) -> F:
    """Add the options that reach the API, and call the command with an `access`.

    It is None if the command has the flag `--check-api`, and neither that nor `--conn-id` is set.
    """

    @functools.wraps(command)
    def with_access(
        *,
        conn_id: str | None,
        base_url: str | None,
        token_file: TextIO | None,
        phone_hash_key_file: TextIO | None,
        **options: Any,
    ) -> Any:
        extras = {name: options.pop(name) for name in _extras()}
        click.get_current_context().find_root().obj = conn_id
        access: Access | None = None
        others = ("base_url", "token_file", "phone_hash_key_file", *extras)
        if conn_id is not None:
            refuse_options(others, "cannot be used with --conn-id; the Airflow connection sets it.")
            access = _access_of_connection(conn_id)
        elif options.get("check_api", True):
            access = _access_of_options(base_url, token_file, extras, phone_hash_key_file)
        else:
            refuse_options(others, "needs --check-api.")
        return command(access=access, **options)

    decorators = [
        click.option(
            "--conn-id",
            help="Airflow connection of type VoiceOS, used in place of the options that follow.",
        ),
        click.option(
            "--base-url",
            envvar="VOICEOS_BASE_URL",
            show_envvar=True,
            help="URL of the API, with http:// or https://. [default: the public API]",
        ),
        click.option(
            "--token-file",
            type=click.File(),
            help="File with the API token; - for standard input. [default: the variable VOICEOS_TOKEN, or a prompt]",
        ),
        click.option(
            "--phone-hash-key-file",
            type=click.File(),
            help="File with the key for hashing phone numbers. [default: the variable VOICEOS_PHONE_HASH_KEY]",
        ),
        *(_option(name, declared) for name, declared in _extras().items()),
    ]
    return functools.reduce(
        lambda decorated, decorate: decorate(decorated), reversed(decorators), with_access
    )  # type: ignore[return-value]


def refuse_options(names: Iterable[str], reason: str) -> None:
    """Raise if one of some options is on the command line, because it would have no effect.

    :param names: names of the options' parameters
    :param reason: the end of the message, such as "does not apply to files."
    :raises VoiceOSValueError: for the first of them
    """
    # A variable of the environment, such as VOICEOS_BASE_URL, may be for other commands.
    context = click.get_current_context()
    for name in names:
        source = context.get_parameter_source(name)
        if source is click.core.ParameterSource.COMMANDLINE and context.params[name] not in (None, ""):
            raise VoiceOSValueError(f"--{name.replace('_', '-')} {reason}")


def interval_options(*, default: str) -> Callable[[F], F]:
    """Add `--day`, `--interval-start` and `--interval-end`.

    :param default: what the help says of a command without any of them
    """

    def decorate(command: F) -> F:
        for option in (
            click.option("--interval-end", help="End of the creation time, exclusive; it must have passed."),
            click.option("--interval-start", help="Start of the creation time, ISO 8601 with an offset."),
            click.option("--day", help=f"Day of creation in UTC, such as 2026-11-20. [default: {default}]"),
        ):
            command = option(command)
        return command

    return decorate


def list_option(name: str, help: str, **attributes: Any) -> Callable[[F], F]:
    """Return an option that takes several names: separated by commas, given repeatedly, or both."""

    def split(_context: click.Context, _parameter: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
        names = (part.strip() for value in values for part in value.split(","))
        return tuple(dict.fromkeys(part for part in names if part))

    return click.option(
        name, multiple=True, callback=split, help=f"{help} Comma-separated or repeated.", **attributes
    )


def choose_interval(day: str | None, start: str | None, end: str | None, *, now: datetime) -> Interval:
    """Return the interval of the options: a day in UTC, or two bounds; by default yesterday.

    :raises VoiceOSValueError: if both are given, or one bound is missing or unreadable
    """
    from voiceos_provider.interval import Interval

    if start is None and end is None:
        midnight = _midnight(day, now)
        return Interval(midnight, midnight + timedelta(days=1))
    if day is not None:
        raise VoiceOSValueError("--day sets both bounds; leave out --interval-start and --interval-end.")
    if start is None or end is None:
        missing = "--interval-start" if start is None else "--interval-end"
        raise VoiceOSValueError(f"{missing} is missing; --interval-start and --interval-end go together.")
    return Interval.parse(start, end)


def _midnight(day: str | None, now: datetime) -> datetime:
    if day is None:
        return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise VoiceOSValueError(f"--day {day!r} is not a date; write it like 2026-11-20.") from None


def _extras() -> dict[str, Any]:
    """Return the connection's extra fields that are options: not the secret one, nor that of recordings.

    No command downloads a recording.
    """
    info: Any = get_provider_info()
    fields = info["connection-types"][0]["conn-fields"]
    return {
        name: item
        for name, item in fields.items()
        if item["schema"].get("format") != "password" and name != "allow_private_recordings"
    }


def _option(name: str, declared: dict[str, Any]) -> Callable[[Any], Any]:
    schema = declared["schema"]
    flag = f"--{name.replace('_', '-')}"
    if schema["type"][0] == "boolean":
        return click.option(flag, is_flag=True, default=None, help=declared["description"])
    default = f" [default: {schema['default']}]" if "default" in schema else ""
    return click.option(flag, type=_TYPES[schema["type"][0]], help=declared["description"] + default)


def _access_of_options(
    base_url: str | None,
    token_file: TextIO | None,
    extras: dict[str, Any],
    phone_hash_key_file: TextIO | None,
) -> Access:
    token = _secret(token_file, "VOICEOS_TOKEN")
    if not token and sys.stdin.isatty():
        token = click.prompt("API token", hide_input=True, err=True)
    if not token:
        raise VoiceOSValueError("No API token. Set VOICEOS_TOKEN, or use --token-file.")
    key = _secret(phone_hash_key_file, "VOICEOS_PHONE_HASH_KEY")
    given = {name: value for name, value in {**extras, "phone_hash_key": key}.items() if value is not None}
    try:
        return _access("", SimpleNamespace(host=base_url, password=token, schema=None, port=None), given)
    except VoiceOSValueError as error:
        message = for_terminal(str(error).removeprefix("Connection ''").removeprefix(":").strip())
        raise VoiceOSValueError(message[:1].upper() + message[1:]) from None


def _access_of_connection(conn_id: str) -> Access:
    from voiceos_provider.utils.connection_fields import require_type

    connection = get_airflow_connection(conn_id)
    require_type(conn_id, connection.conn_type)
    return _access(conn_id, connection, connection.extra_dejson, text=connection.extra)


def _access(conn_id: str, connection: Any, extra: object, *, text: str | None = None) -> Access:
    from voiceos_provider.utils.connection_fields import client_config, read_extras

    extras = read_extras(conn_id, extra, text=text)
    return Access(client_config(conn_id, connection, extras), extras.phone_hash_key)


def get_airflow_connection(conn_id: str) -> Any:
    """Return an Airflow connection, from wherever this machine's Airflow looks connections up.

    :raises VoiceOSValueError: if there is no Airflow, or no such connection
    """
    # As Airflow's own commands do: otherwise only tasks may read connections from the database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    with redirect_stdout(sys.stderr):  # Airflow logs to standard output, which is for the result
        try:
            from airflow.providers.common.compat.sdk import AirflowException, BaseHook
        except ModuleNotFoundError as error:
            raise VoiceOSValueError(
                f"Airflow connections need Airflow, which cannot be imported here: {error}."
            ) from None
        try:
            return BaseHook.get_connection(conn_id)
        except AirflowException:
            raise VoiceOSValueError(
                f"No Airflow connection {conn_id!r}. Add it, or check AIRFLOW_HOME; `airflow connections list` shows "
                "those there are."
            ) from None


def _secret(file: TextIO | None, variable: str) -> str | None:
    secret = file.read() if file is not None else os.environ.get(variable)
    return (secret or "").strip() or None
