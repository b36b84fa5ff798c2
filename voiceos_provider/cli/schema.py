"""Which tables and columns does an export write?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.cli.printing import as_json, console, say_json

if TYPE_CHECKING:
    from voiceos_provider.transform import Table


@click.command(short_help="Show the tables and their columns.")
@click.option("--table", "tables", multiple=True, help="Only this table; may be given again.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@as_json
def schema(*, tables: tuple[str, ...], markdown: bool, as_json: bool) -> None:
    """Show the tables that exports write, each with its key and its columns."""
    from voiceos_provider.transform import choose_tables

    chosen = choose_tables(tables or None)
    if as_json:
        say_json([_described(table) for table in chosen])
    elif markdown:
        click.echo("\n".join(_markdown(table) for table in chosen))
    else:
        _draw(chosen)


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


def _draw(tables: tuple[Table, ...]) -> None:
    import rich.table

    out = console()
    for table in tables:
        drawn = rich.table.Table(
            "column", "type", "null", "", title=f"{table.name}: {table.description}", title_justify="left"
        )
        for column in table.columns:
            name = f"[bold]{column.name}[/bold]" if column.name in table.key else column.name
            drawn.add_row(
                name, str(column.kind.arrow), "yes" if column.nullable else "no", column.description
            )
        out.print(drawn)
