"""Which statements make the tables in a database?"""

from __future__ import annotations

import importlib

import click


@click.command(short_help="Print CREATE TABLE statements for a database.")
@click.argument("dialect")
@click.option("--schema", help="The database's schema to make them in. [default: the one that is current]")
@click.option("--table-prefix", default="", help="What each table's name begins with.")
@click.option("--table", "tables", multiple=True, help="Only this table; may be given again.")
@click.option("--rejected", is_flag=True, help="Also the table that an export with max_bad_records needs.")
def ddl(
    *, dialect: str, schema: str | None, table_prefix: str, tables: tuple[str, ...], rejected: bool
) -> None:
    """Print the statements that make the tables in a database of this DIALECT, such as postgres."""
    from voiceos_provider.transform import choose_tables

    statements = importlib.import_module("voiceos_provider.load.sql").ddl
    click.echo(
        statements(
            dialect,
            schema=schema,
            table_prefix=table_prefix,
            tables=choose_tables(tables or None),
            rejected=rejected,
        )
    )
