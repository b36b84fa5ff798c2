"""How does a command show what it found, to people and to scripts?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

_WIDEST_TABLE = 9

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Log what is done to standard error.")


def say_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2))


def console() -> Console:
    """Standard output, as wide as it is; where nobody looks, wide enough for a row."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def say_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as a table; or one below the other, if they are too wide for one."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    if len(columns) <= _WIDEST_TABLE:
        table = Table(*columns)
        for row in rows:
            table.add_row(*(Text(_shown(row[name])) for name in columns))
        out.print(table)
        return
    for number, row in enumerate(rows, start=1):
        table = Table(show_header=False, title=f"row {number}", title_justify="left")
        for name in columns:
            table.add_row(name, Text(_shown(row[name])))
        out.print(table)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
