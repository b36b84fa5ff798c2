"""What do the first rows of a table look like?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.cli.connecting import Access, api_options, quiet_log
from voiceos_provider.cli.printing import as_json, say_json, say_rows, verbose
from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.interval import Interval
    from voiceos_provider.transform import Table

_NARROW = {
    "conversations": (
        "id", "type", "status", "started_at", "duration_seconds", "ended_reason", "total_cost",
    ),
    "agent_configs": ("agent_config_hash", "language_model", "voice_provider", "voice_model", "max_duration_seconds"),
}  # fmt: skip
"""What fits on a screen of tables that do not."""


@click.command(short_help="Show the first rows of a table.")
@click.option("--table", "table_name", default="conversations", show_default=True, help="Which table.")
@click.option(
    "--rows", default=10, show_default=True, type=click.IntRange(1, 1_000), help="How many at most."
)
@click.option("--columns", help="Only these columns, with commas between; all for every one.")
@click.option("--personal", is_flag=True, help="Also what tells of people: phone numbers, words, prompts.")
@click.option("--status", help="Only conversations in this state: queued, started or ended.")
@click.option("--day", help="Only those created on this day in UTC, like 2026-11-20.")
@click.option("--interval-start", help="Only those created from this instant on, ISO 8601 with an offset.")
@click.option("--interval-end", help="Only those created before this instant.")
@api_options
@as_json
@verbose
def preview(
    *,
    access: Access,
    table_name: str,
    rows: int,
    columns: str | None,
    personal: bool,
    status: str | None,
    day: str | None,
    interval_start: str | None,
    interval_end: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show the first rows of a table, as an export would write them, in the order of the server.

    Without --day or an interval they come from the beginning of the API's listing. Columns that tell of people,
    and the one that holds unknown keys, are hidden unless --personal is given or they are named in --columns.
    """
    from voiceos_provider.cli import windows
    from voiceos_provider.transform import choose_tables

    (table,) = choose_tables([table_name])
    names = _columns(table, columns, personal=personal, every=as_json)
    now = datetime.now(UTC)
    asked = day is not None or interval_start is not None or interval_end is not None
    interval = windows.chosen(day, interval_start, interval_end, now=now) if asked else None
    with quiet_log(verbose=verbose):
        found = _first_rows(access, table, names, rows=rows, status=status, interval=interval, now=now)
    if as_json:
        say_json(found)
    elif found:
        say_rows(found, names)
    else:
        click.echo(
            "No rows." if asked else "No rows: this account has no conversations, or none in that state."
        )


def _columns(table: Table, chosen: str | None, *, personal: bool, every: bool) -> list[str]:
    """The columns to show.

    :raises VoiceOSValueError: if one does not exist
    """
    if chosen is None or chosen.strip() == "all":
        narrow = () if every or chosen is not None else _NARROW.get(table.name, ())
        return [
            column.name
            for column in table.columns
            if (personal or not (column.pii or column.name == "extra"))
            and (not narrow or column.name in narrow or (personal and column.pii))
        ]
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    if unknown := [name for name in names if name not in table.schema.names]:
        raise VoiceOSValueError(
            f"--columns: {table.name} has no {unknown[0]!r}; it has {', '.join(table.schema.names)}."
        )
    return names


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
    with VoiceOSClient(access.settings) as client:
        for page in client.list_raw(
            status=status,
            created_after=interval.created_after if interval else None,
            created_before=interval.created_before if interval else None,
            page_size=min(rows, access.settings.page_size),
        ):
            found += plain_rows(decoder.decode(page.items).rows[table.name].batch.select(names))
            if len(found) >= rows:
                break
    return found[:rows]
