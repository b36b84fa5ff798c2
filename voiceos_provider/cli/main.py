"""Which commands does `voiceos` have, and with which code does it exit?

    0    done
    1    the API could not be read: no answer, an error of the server, a refusal; another try may succeed
    2    an option, an environment variable or a connection is wrong
    3    the token is missing, wrong, or not allowed to read conversations
    4    the API answers, and not as its contract says
    5    nothing was written: the target refused, or the export is more than was allowed
    130  interrupted

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
from voiceos_provider.cli.export import export
from voiceos_provider.cli.preview import preview
from voiceos_provider.cli.schema import schema
from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSError,
    VoiceOSExportError,
    VoiceOSResponseError,
    VoiceOSValueError,
)

DONE, UNREAD, USAGE, REFUSED, CONTRACT, UNWRITTEN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

_CODES: dict[type[VoiceOSError], int] = {
    VoiceOSValueError: USAGE,
    VoiceOSAuthError: REFUSED,
    VoiceOSResponseError: CONTRACT,
    VoiceOSExportError: UNWRITTEN,
    VoiceOSError: UNREAD,
}


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
if importlib.util.find_spec("voiceos_provider.targets.sql"):
    from voiceos_provider.cli.ddl import ddl

    voiceos.add_command(ddl)


def exit_code(error: VoiceOSError) -> int:
    """What a script may tell of an error."""
    return next(code for kind, code in _CODES.items() if isinstance(error, kind))


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
