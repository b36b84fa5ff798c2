"""The `voiceos` command: check a connection, look at conversations, export them, without a DAG."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from voiceos_provider import __version__
from voiceos_provider.cli.coverage import coverage
from voiceos_provider.cli.doctor import doctor
from voiceos_provider.cli.erase import erase
from voiceos_provider.cli.export import clean, export
from voiceos_provider.cli.output import EXIT_CODES, exit_code, for_terminal
from voiceos_provider.cli.preview import preview
from voiceos_provider.cli.schema import ddl, schema
from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in EXIT_CODES.items())}.",
)
@click.version_option(__version__, prog_name="voiceos")
@click.pass_context
def voiceos(ctx: click.Context) -> None:
    """Check a VoiceOS connection, look at conversations, and export them from a terminal.

    The API token comes from the variable VOICEOS_TOKEN, a file, a prompt, or an Airflow connection.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@click.command(
    short_help="Serve the API on this machine, with invented conversations.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(*, arguments: tuple[str, ...]) -> int:
    """Serve the API on this machine, with the options of `python -m voiceos_provider.emulator`."""
    from voiceos_provider.emulator.__main__ import main

    return main(arguments, prog="voiceos emulator")


for _command in (doctor, preview, export, coverage, erase, clean, schema, ddl, emulator):
    voiceos.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        # As click's own `main`; the context is still open when an error is printed, which depends on the options.
        with voiceos.make_context(
            "voiceos", list(sys.argv[1:] if arguments is None else arguments)
        ) as context:
            try:
                returned = voiceos.invoke(context)
            except VoiceOSError as error:
                hint = " The token came from --token-file, VOICEOS_TOKEN or the prompt."
                hint = hint if isinstance(error, VoiceOSAuthError) and not context.obj else ""
                return _fail(f"{error}{hint}", exit_code(error))
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        command = getattr(error, "ctx", None)
        hint = f" See {command.command_path} --help." if command else ""
        return _fail(f"{error.format_message().rstrip('.')}.{hint}", 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; unpublished files are discarded.", 130)
    except BrokenPipeError:  # the reader, such as `head`, needs no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return returned if isinstance(returned, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"voiceos: {for_terminal(message)}", file=sys.stderr)
    return code
