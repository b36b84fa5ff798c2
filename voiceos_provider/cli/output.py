"""Output of the commands: results on standard output, log and errors on standard error, exit codes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSError,
    VoiceOSExportError,
    VoiceOSResponseError,
    VoiceOSValueError,
)

if TYPE_CHECKING:
    from rich.console import Console

EXIT_CODES = {
    0: "success",
    1: "the API could not be read: no response, a server error, a rate limit; running again may succeed. "
    "Of coverage: there is a gap",
    2: "an option, an environment variable or a connection is wrong",
    3: "the token is missing, wrong, or not allowed to read conversations",
    4: "the API does not respond as its contract says",
    5: "nothing was written: the destination refused, or the export exceeds a limit",
    130: "interrupted",
}

_CODES: dict[type[VoiceOSError], int] = {
    VoiceOSValueError: 2,
    VoiceOSAuthError: 3,
    VoiceOSBadRequestError: 4,
    VoiceOSResponseError: 4,
    VoiceOSExportError: 5,
    VoiceOSError: 1,
}

_LOCATIONS = {
    "in the connection's password field": "in VOICEOS_TOKEN or --token-file",
    "in the Password field": "in VOICEOS_TOKEN or --token-file",
    "into the Password field": "into VOICEOS_TOKEN or --token-file",
    "in the connection's host field": "in --base-url",
    "write the host like": "write --base-url like",
    "the connection's ca_bundle": "--ca-bundle",
    'the extra {"allow_http": true}': "--allow-http",
    "the extra ca_bundle": "--ca-bundle",
    "has a wrong extra. ": "wrong option: ",
    "this worker": "this machine",
}
"""Places of an Airflow connection in messages, and where a command takes the same value from."""

_MAX_COLUMNS_OF_TABLE = 9

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Log each step to standard error.")


def exit_code(error: VoiceOSError) -> int:
    """Return the exit code for an error."""
    return next(code for kind, code in _CODES.items() if isinstance(error, kind))


def for_terminal(message: str) -> str:
    """Return a message on one line, with a command's options in place of the fields of an Airflow connection."""
    context = click.get_current_context(silent=True)
    if context is None or not context.find_root().obj:  # the id of an Airflow connection
        for field, option in _LOCATIONS.items():
            message = message.replace(field, option)
    return " ".join(message.split())


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2))


def console() -> Console:
    """Return standard output; where it is not a terminal, wide enough for a row."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


@cache
def _error_console(_stream: Any) -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def error_console() -> Console:
    """Return standard error, the same object for the log and the progress bar, so that they do not overlap."""
    return _error_console(sys.stderr)


@contextmanager
def log_to_stderr(*, verbose: bool) -> Iterator[None]:
    """Print the provider's warnings, among them each failed attempt, to standard error.

    :param verbose: also print messages of level INFO
    """
    handler = _Handler()
    log = logging.getLogger("voiceos_provider")
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


class _Handler(logging.Handler):
    """Print each record on one line."""

    def emit(self, record: logging.LogRecord) -> None:
        error_console().print(f"{record.levelname}: {for_terminal(record.getMessage())}")


@contextmanager
def progress(description: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on standard error if it is a terminal; yield a function that changes its text."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return

    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=error_console(), transient=True) as bar:
        task = bar.add_task(description)
        yield lambda text: bar.update(task, description=text)


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as one table, or each as a table of its own if they have many columns."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    if len(columns) <= _MAX_COLUMNS_OF_TABLE:
        table = Table(*columns)
        for row in rows:
            table.add_row(*(Text(_text(row[name])) for name in columns))
        out.print(table)
        return
    for number, row in enumerate(rows, start=1):
        table = Table(show_header=False, title=f"row {number}", title_justify="left")
        for name in columns:
            table.add_row(name, Text(_text(row[name])))
        out.print(table)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
