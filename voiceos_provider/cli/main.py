"""Which commands does `voiceos` have?

What was asked for goes to standard output; progress, warnings and errors go to standard error, each error on a line.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

import click

from voiceos_provider import __version__
from voiceos_provider.cli.doctor import doctor
from voiceos_provider.cli.emulator import emulator
from voiceos_provider.cli.exits import DONE, INTERRUPTED, REFUSED, USAGE, exit_code
from voiceos_provider.cli.export import export
from voiceos_provider.cli.preview import preview
from voiceos_provider.cli.schema import schema
from voiceos_provider.exceptions import VoiceOSAuthError, VoiceOSError


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 the API could not be read; 2 an option is wrong; 3 the token is refused; "
    "4 the API breaks its contract; 5 nothing was written; 130 interrupted.",
)
@click.version_option(__version__, prog_name="voiceos")
@click.pass_context
def voiceos(ctx: click.Context) -> None:
    """VoiceOS conversations at a terminal: check a connection, look at the data, export it.

    The API token is read from VOICEOS_TOKEN, a file, or a prompt.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (doctor, preview, export, schema, emulator):
    voiceos.add_command(command)
if importlib.util.find_spec("voiceos_provider.load.sql"):
    from voiceos_provider.cli.ddl import ddl

    voiceos.add_command(ddl)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    try:
        returned = voiceos.main(
            None if arguments is None else list(arguments), "voiceos", standalone_mode=False
        )
    except VoiceOSAuthError as error:
        return _complain(f"{error} Here it comes from --token-file, VOICEOS_TOKEN or the prompt.", REFUSED)
    except VoiceOSError as error:
        return _complain(str(error), exit_code(error))
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" See {context.command_path} --help." if context else ""
        return _complain(f"{error.format_message().rstrip('.')}.{hint}", USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted; what was not published yet is discarded.", INTERRUPTED)
    except BrokenPipeError:  # whoever reads has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return returned if isinstance(returned, int) else DONE


def _complain(message: str, code: int) -> int:
    print(f"voiceos: {' '.join(message.split())}", file=sys.stderr)
    return code
