"""`voiceos coverage`: which intervals a target holds, and what is missing."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.cli.export import open_root
from voiceos_provider.cli.options import get_airflow_connection, refuse_options, storage_conn_id
from voiceos_provider.cli.output import as_json, console, log_to_stderr, print_json, verbose
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.load.coverage import Coverage, Export
    from voiceos_provider.load.sql.destination import SqlDestination

_SHOWN = 20


@click.command(short_help="Show which intervals are exported, and what is missing.")
@click.argument("path", required=False)
@storage_conn_id
@click.option("--sql-conn-id", help="Airflow connection of the database, in place of PATH.")
@click.option("--schema", help="Schema of the tables. [default: the connection's own]")
@click.option("--table-prefix", default="", help="Prefix of the names of the tables.")
@click.option("--interval-start", help="Start of the range that must be covered, ISO 8601 with an offset.")
@click.option("--interval-end", help="Its end, exclusive. [default: the end of the last interval]")
@click.option(
    "--max-age",
    type=click.FloatRange(0),
    metavar="HOURS",
    help="Age of the last interval at which the target is stale. [default: twice its length]",
)
@as_json
@verbose
def coverage(
    *,
    path: str | None,
    storage_conn_id: str | None,
    sql_conn_id: str | None,
    schema: str | None,
    table_prefix: str,
    interval_start: str | None,
    interval_end: str | None,
    max_age: float | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Show which intervals are exported, with gaps, overlaps, unusual days and schema drift.

    The exit code is 1 if there is a gap.

    PATH is a directory or URL that an export wrote to; its manifests are read. With --sql-conn-id, the table of
    conversations is read. An interval without conversations leaves no rows there, and is a gap.
    """
    from voiceos_provider.load.coverage import compute_coverage, required_range

    if (path is None) == (sql_conn_id is None):
        raise VoiceOSValueError("Name either a PATH or --sql-conn-id.")
    if path is None:
        refuse_options(("storage_conn_id",), "does not apply to a database.")
    else:
        refuse_options(("schema", "table_prefix"), "does not apply to files.")
    with log_to_stderr(verbose=verbose), redirect_stdout(sys.stderr):  # Airflow 2 logs to standard output
        exports = (
            _of_path(path, storage_conn_id)
            if path is not None
            else open_sql_tables(str(sql_conn_id), schema, table_prefix).exports()
        )
    if not exports:
        raise VoiceOSExportError(f"No export found in {path or sql_conn_id}.")
    (found,) = compute_coverage(
        exports,
        now=datetime.now(UTC),
        required=required_range(exports, interval_start, interval_end),
        max_age=None if max_age is None else timedelta(hours=max_age),
    )
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    return 1 if found.gaps else 0


def _of_path(path: str, storage_conn_id: str | None) -> list[Export]:
    from voiceos_provider.load.files.manifests import Manifests
    from voiceos_provider.load.files.store import Store

    return Manifests(Store(open_root(path, storage_conn_id))).exports()


def open_sql_tables(sql_conn_id: str, schema: str | None, table_prefix: str) -> SqlDestination:
    """Return the tables in the database of an Airflow connection.

    :raises VoiceOSValueError: if there is no such connection
    """
    get_airflow_connection(sql_conn_id)
    from voiceos_provider.utils.databases import open_tables

    return open_tables(sql_conn_id, schema=schema, table_prefix=table_prefix)


def _print(found: Coverage) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    facts: dict[str, Any] = {
        "covered": f"{found.interval}, {found.exports:,} intervals",
        "last export": f"{found.last_exported_at:%Y-%m-%d %H:%M} UTC" + (" (stale)" if found.stale else ""),
        "conversations": f"{found.rows:,}",
        "pending when exported": f"{found.pending:,}",
        "late arrivals": f"{found.carried:,}",
        "rejected": f"{found.rejected:,}",
        "requests": f"{found.requests:,}",
        "bytes": f"{found.bytes:,}",
        "cost": "not known" if found.cost is None else f"${found.cost:,.2f}",
    }
    summary = Table(show_header=False, title=Text(found.target), title_justify="left")
    for name, value in facts.items():
        summary.add_row(name, Text(value))
    out.print(summary)
    findings = [
        *(("gap", str(each), "") for each in found.gaps),
        *(("overlap", str(each), "") for each in found.overlaps),
        *(
            ("unusual day", str(day.day), f"{day.rows:,.0f} conversations, usually {day.usual:,.0f}")
            for day in found.anomalies
        ),
        *(
            (f"drift: {each.kind}", each.name, f"{each.count:,} times, first on {each.first_seen:%Y-%m-%d}")
            for each in found.drift
        ),
    ]
    if not findings:
        out.print("No gap, overlap, unusual day or schema drift.")
        return
    table = Table("finding", "where", "details")
    for finding in findings[:_SHOWN]:
        table.add_row(*map(Text, finding))
    out.print(table)
    if len(findings) > _SHOWN:
        out.print(f"{len(findings) - _SHOWN:,} more; --json lists all.")
