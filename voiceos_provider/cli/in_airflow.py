"""How do the commands of `voiceos` become commands of `airflow`, with a Connection for the token?

Airflow imports this at the start of each of its commands, so what is heavy is imported when a command runs.
"""

from __future__ import annotations

import inspect
import os
import sys
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.cli.connecting import Access, option_names
from voiceos_provider.cli.ddl import ddl
from voiceos_provider.cli.doctor import doctor
from voiceos_provider.cli.export import export
from voiceos_provider.cli.preview import preview
from voiceos_provider.cli.schema import schema
from voiceos_provider.exceptions import VoiceOSError, VoiceOSValueError

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

_READING = (doctor, preview, export)
"""The commands that ask the API."""


def get_commands() -> list[CLICommand]:
    """`airflow voiceos ...`; named in the provider's description."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    actions = [
        ActionCommand(
            name=str(command.name),
            help=command.short_help or "",
            description=" ".join((command.help or "").split()),
            func=partial(_run, command),
            args=_arguments(command),
        )
        for command in (*_READING, schema, ddl)
    ]
    return [
        GroupCommand(
            name="voiceos",
            help="Check a VoiceOS connection, look at conversations, export them",
            subcommands=actions,
        )
    ]


def _arguments(command: click.Command) -> list[Any]:
    from airflow.cli.cli_config import Arg as UntypedArg

    Arg: Any = UntypedArg

    arguments = [_argument(parameter) for parameter in _own(command)]
    if command in _READING:
        arguments.append(
            Arg(("--conn-id",), default="voiceos_default", help="The Connection of the VoiceOS API.")
        )
    if command is export:
        arguments.append(Arg(("--storage-conn-id",), help="The Connection of the store, if it needs one."))
    return arguments


def _own(command: click.Command) -> list[click.Parameter]:
    """The command's parameters; how to reach the API is said by the Connection."""
    return [parameter for parameter in command.params if parameter.name not in option_names()]


def _argument(parameter: click.Parameter) -> Any:
    from airflow.cli.cli_config import Arg as UntypedArg

    Arg: Any = UntypedArg

    if not isinstance(parameter, click.Option):
        return Arg((str(parameter.name),), help=parameter.make_metavar(click.Context(export)))
    flags = tuple(parameter.opts)
    text = (parameter.help or "").replace("%", "%%")
    if parameter.is_flag:
        return Arg(flags, dest=parameter.name, action="store_true", help=text)
    if parameter.multiple:
        return Arg(flags, dest=parameter.name, action="append", help=text)
    return Arg(flags, dest=parameter.name, help=text)


def _run(command: click.Command, arguments: Namespace) -> None:
    """Run a command with the Connection that was named, and exit as `voiceos` does."""
    from airflow.providers.common.compat.sdk import AirflowException

    from voiceos_provider.cli.exits import USAGE, exit_code

    # As Airflow's own commands do: without it, only tasks may look connections up in the database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        code = _export(arguments) if command is export else _invoke(command, arguments)
    except VoiceOSError as error:
        code = _complain(error, exit_code(error))
    except click.ClickException as error:
        code = _complain(error.format_message(), USAGE)
    except AirflowException as error:
        known = error.__cause__
        code = _complain(known or error, exit_code(known) if isinstance(known, VoiceOSError) else USAGE)
    raise SystemExit(code)


def _invoke(command: click.Command, arguments: Namespace) -> int:
    words: list[str] = []
    for parameter in _own(command):
        value = getattr(arguments, str(parameter.name))
        if isinstance(value, bool):
            words += parameter.opts[:1] if value else []
        else:
            for item in value if isinstance(value, list) else [value]:
                name = parameter.opts[:1] if isinstance(parameter, click.Option) else []
                words += [*name, item] if item is not None else []
    access = _access(arguments.conn_id) if command in _READING else None
    returned = command.main(words, f"airflow voiceos {command.name}", standalone_mode=False, obj=access)
    return returned if isinstance(returned, int) else 0


def _access(conn_id: str) -> Access:
    from voiceos_provider.hooks.voiceos import VoiceOSHook

    with VoiceOSHook(conn_id) as hook:
        return Access(hook.get_conn().config)


def _export(arguments: Namespace) -> int:
    """The operator itself, outside of any DAG."""
    from voiceos_provider.cli import windows
    from voiceos_provider.cli.export import pairs, show
    from voiceos_provider.cli.printing import say_json
    from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

    interval = windows.chosen(
        arguments.day, arguments.interval_start, arguments.interval_end, now=datetime.now(UTC)
    )
    operator = VoiceOSToObjectStorageOperator(
        task_id="voiceos_export",
        path=arguments.path if "://" in arguments.path else os.path.abspath(arguments.path),
        voiceos_conn_id=arguments.conn_id,
        storage_conn_id=arguments.storage_conn_id,
        interval_start=interval.start,
        interval_end=interval.end,
        status=arguments.status,
        tables=arguments.tables,
        redaction=pairs(arguments.redaction or ()),
        schema_drift=arguments.schema_drift or "keep",
        file_format=arguments.file_format or "parquet",
        compression=arguments.compression,
        max_bad_records=int(_number(arguments, "max_bad_records")),
        read_strategy=arguments.read_strategy or "windows",
        visibility_delay=timedelta(seconds=_number(arguments, "visibility_delay")),
        max_concurrency=int(_number(arguments, "max_concurrency")),
        carry_pending=arguments.carry_pending,
        max_age=timedelta(days=_number(arguments, "max_age")),
    )
    # Airflow lets nobody but its task runner call `execute` without a warning.
    receipt = inspect.unwrap(type(operator).execute)(operator, {})
    if arguments.as_json:
        say_json(receipt)
    else:
        show(receipt)
    return 0


def _number(arguments: Namespace, name: str) -> float:
    """What a number's option says, or its default: Airflow's parser hands over texts."""
    (option,) = (parameter for parameter in export.params if parameter.name == name)
    said = getattr(arguments, name)
    try:
        return float(option.default if said is None else said)  # type: ignore[arg-type]
    except ValueError:
        raise VoiceOSValueError(f"{option.opts[0]} {said!r} is not a number.") from None


def _complain(error: object, code: int) -> int:
    print(f"airflow voiceos: {' '.join(str(error).split())}", file=sys.stderr)
    return code
