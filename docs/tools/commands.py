"""Write docs/commands.md from the help of the commands themselves."""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import click

from voiceos_provider.cli import exits, main
from voiceos_provider.emulator.__main__ import main as emulator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "commands.md"


def reference() -> str:
    """The page of all commands."""
    codes = re.findall(r"^(\d+) +(.*)$", exits.__doc__ or "", re.MULTILINE)
    parts = [
        "# The `voiceos` command",
        "<!-- written by `python -m docs.tools.commands --write`, checked by a test -->",
        "It comes with the provider and needs no running Airflow. In Airflow 3.2 and later `doctor`, `preview`,\n"
        "`export`, `schema` and `ddl` are also commands of `airflow voiceos`, with `--conn-id` in place of the\n"
        "options that say where the API is.",
        "What was asked for goes to standard output; progress, warnings and errors go to standard error, each error\n"
        "on one line.",
        "| exit code | |\n|---|---|\n" + "\n".join(f"| {code} | {meaning} |" for code, meaning in codes),
        *(_section(name, command) for name, command in sorted(main.voiceos.commands.items())),
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
