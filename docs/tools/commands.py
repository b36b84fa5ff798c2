"""docs/commands.md, from the help of the commands themselves."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import click

from voiceos_provider.cli.main import voiceos
from voiceos_provider.cli.output import EXIT_CODES
from voiceos_provider.emulator.__main__ import main as emulator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "commands.md"


def reference() -> str:
    """Return the page of all commands."""
    parts = [
        "# The `voiceos` command",
        "<!-- written by `python -m docs.tools.commands --write`, checked by a test -->",
        "The command comes with the provider and needs no running Airflow. `doctor`, `preview` and `export` take the\n"
        "token from `VOICEOS_TOKEN`, a file or a prompt, or with `--conn-id` from an Airflow connection.",
        "Results go to standard output. Progress, warnings and errors go to standard error, each on one line.",
        "| exit code | |\n|---|---|\n"
        + "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
        *(_section(name, command) for name, command in sorted(voiceos.commands.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _section(name: str, command: click.Command) -> str:
    path = f"voiceos {name}"
    if name == "emulator":
        with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
            emulator(["--help"], prog=path)
        text = printed.getvalue()
    else:
        text = command.get_help(
            click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
        )
    return f"## {path}\n\n```text\n{text.rstrip()}\n```"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    if "--write" in sys.argv:
        PAGE.write_text(reference())
    elif not PAGE.exists() or PAGE.read_text() != reference():
        raise SystemExit(
            "docs/commands.md does not show the commands there are; run: python -m docs.tools.commands --write"
        )
