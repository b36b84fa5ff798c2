"""`voiceos schema` and `voiceos ddl`: the tables of an export, and the statements that create them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.cli.data_contract import odcs_yaml
from voiceos_provider.cli.options import list_option
from voiceos_provider.cli.output import as_json, console, print_json
from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load import sql
from voiceos_provider.load.sql import DIALECTS

if TYPE_CHECKING:
    from voiceos_provider.transform import Table

_OTHER_NAMES = {"postgresql": "postgres", "pg": "postgres", "mariadb": "mysql", "spark": "databricks"}


class _Dialect(click.Choice[str]):
    """A choice that suggests the dialect for another name of the database."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in DIALECTS:
            return str(value)
        name = str(value).lower()
        close: Sequence[str] = get_close_matches(name, DIALECTS, n=1)
        suggestion = _OTHER_NAMES.get(name) or (close[0] if close else None)
        hint = f"did you mean {suggestion}?" if suggestion else f"choose from {', '.join(DIALECTS)}."
        raise click.BadParameter(f"{value!r} is not a dialect; {hint}", ctx, param)


@click.command(short_help="Show the tables and their columns.")
@list_option("--tables", "Tables to show.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--odcs", is_flag=True, help="Print a data contract (Open Data Contract Standard, YAML).")
@as_json
def schema(*, tables: tuple[str, ...], markdown: bool, odcs: bool, as_json: bool) -> None:
    """Show the tables that an export writes, with their keys and columns."""
    from voiceos_provider.transform import choose_tables

    if markdown + odcs + as_json > 1:
        raise VoiceOSValueError("Use one of --json, --markdown and --odcs.")
    chosen = choose_tables(tables or None)
    if as_json:
        print_json([_described(table) for table in chosen])
        return
    if odcs:
        click.echo(odcs_yaml(chosen), nl=False)
        return
    text = "\n".join(_markdown(table) for table in chosen)
    if markdown:
        click.echo(text)
        return

    from rich.markdown import Markdown

    console().print(Markdown(text))


@click.command(short_help="Print CREATE TABLE statements for a database.")
@click.argument("dialect", type=_Dialect(list(DIALECTS)), metavar="DIALECT")
@click.option("--schema", "namespace", help="Schema to create the tables in. [default: the current one]")
@click.option("--table-prefix", default="", help="Prefix of each table's name.")
@list_option("--tables", "Tables to create.")
@click.option("--rejected", is_flag=True, help="Also the table that an export with max_bad_records needs.")
def ddl(
    *, dialect: str, namespace: str | None, table_prefix: str, tables: tuple[str, ...], rejected: bool
) -> None:
    """Print the statements that create the tables in a database.

    DIALECT is one of {dialects}.
    """
    from voiceos_provider.transform import choose_tables

    click.echo(
        sql.ddl(
            dialect,
            schema=namespace,
            table_prefix=table_prefix,
            tables=choose_tables(tables or None),
            rejected=rejected,
        )
    )


ddl.help = (ddl.help or "").replace("{dialects}", ", ".join(DIALECTS))


def _described(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "description": table.description,
        "key": list(table.key),
        "columns": [
            {
                "name": column.name,
                "type": str(column.kind.arrow),
                "kind": column.kind.name,
                "nullable": column.nullable,
                "sent_as": ".".join(column.path) or None,
                "personal": column.pii,
                "documented_values": sorted(column.documented_values) or None,
                "description": column.description,
            }
            for column in table.columns
        ],
    }


def _markdown(table: Table) -> str:
    lines = [
        f"## {table.name}\n\n{table.description} Key: {', '.join(f'`{name}`' for name in table.key)}.\n",
        "| column | type | null | |",
        "|---|---|---|---|",
        *(
            f"| `{c.name}` | {c.kind.arrow} | {'yes' if c.nullable else 'no'} | {c.description} |"
            for c in table.columns
        ),
    ]
    return "\n".join(lines) + "\n"
