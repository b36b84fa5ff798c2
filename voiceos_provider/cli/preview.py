"""`voiceos preview`: the first rows of a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.cli.options import Access, api_options, choose_interval, interval_options, list_option
from voiceos_provider.cli.output import as_json, log_to_stderr, print_json, print_rows, verbose
from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.interval import Interval
    from voiceos_provider.transform import Table

_DEFAULT_COLUMNS = {
    "conversations": (
        "id", "type", "status", "started_at", "duration_seconds", "ended_reason", "total_cost",
    ),
    "agent_configs": ("agent_config_hash", "language_model", "voice_provider", "voice_model", "max_duration_seconds"),
}  # fmt: skip
"""The columns to show of tables that are wider than a screen."""


@click.command(short_help="Show the first rows of a table.")
@click.option("--table", "table_name", default="conversations", show_default=True, help="Table to show.")
@click.option(
    "--rows", default=10, show_default=True, type=click.IntRange(1, 1_000), help="Maximum number of rows."
)
@list_option("--columns", "Columns to show, or all.")
@click.option("--personal", is_flag=True, help="Also show personal data: phone numbers, messages, prompts.")
@click.option("--status", help="Only conversations in this state: queued, started or ended.")
@interval_options(default="any")
@api_options
@as_json
@verbose
def preview(
    *,
    access: Access,
    table_name: str,
    rows: int,
    columns: tuple[str, ...],
    personal: bool,
    status: str | None,
    day: str | None,
    interval_start: str | None,
    interval_end: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show the first rows of a table as an export would write them, in the server's order.

    Without --day or an interval, the rows are those that the API lists first. Columns with personal data, and the
    column with undocumented fields, are hidden unless --personal is given or --columns names them.
    """
    from voiceos_provider.transform import choose_tables

    (table,) = choose_tables([table_name])
    shown = _columns(table, columns, personal=personal, every=as_json)
    now = datetime.now(UTC)
    bounded = day is not None or interval_start is not None or interval_end is not None
    interval = choose_interval(day, interval_start, interval_end, now=now) if bounded else None
    with log_to_stderr(verbose=verbose):
        found = _first_rows(access, table, shown, rows=rows, status=status, interval=interval, now=now)
    if as_json:
        print_json(found)
    elif found:
        print_rows(found, shown)
    else:
        click.echo("No rows." if bounded else "No rows: the account has no conversations in this state.")


def _columns(table: Table, names: tuple[str, ...], *, personal: bool, every: bool) -> list[str]:
    """Return the columns to show.

    :raises VoiceOSValueError: if one does not exist
    """
    if names in ((), ("all",)):
        narrow = () if every or names else _DEFAULT_COLUMNS.get(table.name, ())
        return [
            column.name
            for column in table.columns
            if (personal or not (column.pii or column.name == "extra"))
            and (not narrow or column.name in narrow or (personal and column.pii))
        ]
    if unknown := [name for name in names if name not in table.schema.names]:
        raise VoiceOSValueError(
            f"--columns: {table.name} has no {unknown[0]!r}; it has {', '.join(table.schema.names)}."
        )
    return list(names)


def _first_rows(
    access: Access,
    table: Table,
    names: list[str],
    *,
    rows: int,
    status: str | None,
    interval: Interval | None,
    now: datetime,
) -> list[dict[str, Any]]:
    from voiceos_provider.client import VoiceOSClient
    from voiceos_provider.interval import Interval
    from voiceos_provider.load.memory import plain_rows
    from voiceos_provider.transform import Decoder

    window = interval or Interval(datetime.min.replace(tzinfo=UTC), now)
    decoder = Decoder(window, now)
    found: list[dict[str, Any]] = []
    with VoiceOSClient(access.config) as client:
        for page in client.list_raw(
            status=status,
            created_after=interval.start if interval else None,
            created_before=interval.end if interval else None,
            page_size=min(rows, access.config.page_size),
        ):
            found += plain_rows(decoder.decode(page.items).rows[table.name].batch.select(names))
            if len(found) >= rows:
                break
    return found[:rows]
