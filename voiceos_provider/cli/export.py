"""How is an interval exported from a terminal?"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from voiceos_provider.cli.connecting import Access, api_options, quiet_log
from voiceos_provider.cli.printing import as_json, console, say_json, verbose
from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.client import RawPage


@click.command(short_help="Write conversations to files, as the operator does.")
@click.argument("path")
@click.option("--day", help="The day of creation to export, in UTC, like 2026-11-20. [default: yesterday]")
@click.option("--interval-start", help="First instant of creation time, ISO 8601 with an offset.")
@click.option("--interval-end", help="Its exclusive end, which must have passed.")
@click.option(
    "--status",
    multiple=True,
    help="Only conversations in this state: queued, started, ended; may be given again.",
)
@click.option("--tables", multiple=True, help="Only this table; may be given again. [default: all]")
@click.option(
    "--redaction",
    multiple=True,
    metavar="CLASS=CHOICE",
    help="What is kept of people, like phone_numbers=hash, messages=drop, prompts=drop; may be given again.",
)
@click.option(
    "--schema-drift",
    default="keep",
    show_default=True,
    help="What becomes of what the contract does not know: keep, or fail.",
)
@click.option("--file-format", default="parquet", show_default=True, help="parquet, jsonl or csv.")
@click.option("--compression", help="zstd, gzip, snappy or none. [default: zstd for parquet, else none]")
@click.option(
    "--max-bad-records",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Conversations without a usable id that may be set aside.",
)
@click.option(
    "--read-strategy",
    default="windows",
    show_default=True,
    help="windows: every conversation, once. pages: count pages, with the server's filter of one state.",
)
@click.option(
    "--visibility-delay",
    default=300.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds after the end of the interval before it is read, by the server's clock.",
)
@click.option(
    "--max-concurrency",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="Requests under way at a time.",
)
@click.option(
    "--carry-pending", is_flag=True, help="Also export what had not ended in earlier intervals, and has now."
)
@click.option(
    "--max-age",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Days after its interval for which that is asked.",
)
@api_options
@as_json
@verbose
def export(
    *,
    access: Access,
    path: str,
    day: str | None,
    interval_start: str | None,
    interval_end: str | None,
    status: tuple[str, ...],
    tables: tuple[str, ...],
    redaction: tuple[str, ...],
    schema_drift: str,
    file_format: str,
    compression: str | None,
    max_bad_records: int,
    read_strategy: str,
    visibility_delay: float,
    max_concurrency: int,
    carry_pending: bool,
    max_age: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Write the conversations created in an interval below PATH: whole files, or none.

    PATH is a folder, or a URL such as s3://bucket/voiceos. It is the same export as that of
    VoiceOSToObjectStorageOperator: the same files, under the same names, with the same manifest. A store's
    credentials are those that its own tools would use.
    """
    from voiceos_provider.cli import windows
    from voiceos_provider.client import VoiceOSClient
    from voiceos_provider.load.files.destination import FilesDestination
    from voiceos_provider.load.files.formats import Encoding
    from voiceos_provider.pipeline.interval_export import export_interval
    from voiceos_provider.transform import Redaction

    interval = windows.chosen(day, interval_start, interval_end, now=datetime.now(UTC))
    statuses = tuple(dict.fromkeys(status))
    kept = Redaction.choose(pairs(redaction), access.phone_hash_key)
    target = FilesDestination(
        open_root(path),
        interval=interval,
        encoding=Encoding.choose(file_format, compression),
        max_bad_records=max_bad_records,
    )
    with quiet_log(verbose=verbose), VoiceOSClient(access.settings) as client, _progress() as counted:
        receipt = export_interval(
            client,
            target,
            interval=interval,
            statuses=statuses,
            tables=tables or None,
            redaction=kept,
            schema_drift=schema_drift,
            read_strategy=read_strategy,
            visibility_delay=timedelta(seconds=visibility_delay),
            max_concurrency=max_concurrency,
            due=target.due(timedelta(days=max_age)) if carry_pending else None,
            watch=counted,
        )
    if as_json:
        say_json(receipt.as_dict())
    else:
        show(receipt.as_dict())


@dataclass(frozen=True, slots=True)
class Root:
    """A path on a filesystem: what a target needs to know of it."""

    fs: Any
    path: str


def open_root(path: str) -> Root:
    """The filesystem that a path or URL names, with the credentials that lie ready for it.

    :raises VoiceOSValueError: if there is no such filesystem, or its package is not installed
    """
    import os.path

    from fsspec.core import url_to_fs

    from voiceos_provider.load.files.layout import require_safe
    from voiceos_provider.load.files.store import cannot_open

    full = path if "://" in path else os.path.abspath(os.path.expanduser(path))
    require_safe(full)
    try:
        fs, root = url_to_fs(full)
    except (ImportError, ValueError) as error:
        raise cannot_open(path, error) from error
    return Root(fs, root)


def pairs(redaction: Iterable[str]) -> dict[str, str]:
    """What `--redaction` says.

    :raises VoiceOSValueError: if one is not written like `messages=drop`
    """
    chosen = {}
    for item in redaction:
        name, equals, choice = item.partition("=")
        if not equals:
            raise VoiceOSValueError(f"--redaction {item!r} is not CLASS=CHOICE; write it like messages=drop.")
        chosen[name.strip()] = choice.strip()
    return chosen


@contextmanager
def _progress() -> Iterator[Any]:
    """Show on standard error how far it is, if somebody looks; yields what counts the pages as they pass."""
    if not sys.stderr.isatty():
        yield iter
        return

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Asking for the first page")

        def counted(pages: Iterable[RawPage]) -> Iterator[RawPage]:
            listed = 0
            for number, page in enumerate(pages, start=1):
                listed += len(page.items)
                yield page
                rate = listed / max(bar.tasks[task].elapsed or 0, 0.001)
                bar.update(
                    task,
                    description=f"{listed:,} conversations on {number:,} pages, {rate:,.0f} a second",
                )
            bar.update(task, description=f"Writing {listed:,} conversations")

        yield counted


def show(receipt: dict[str, Any]) -> None:
    """Print a receipt for people."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    apart = {
        "filtered": "in other states",
        "pending": "that have not ended",
        "carried": "of earlier intervals",
        "duplicates": "listed twice",
        "rejected": "rejected",
    }
    out.print(
        f"{receipt['exported']:,} conversations created from {receipt['interval_start']} "
        f"to {receipt['interval_end']}"
        + "".join(f", {receipt[name]:,} {what}" for name, what in apart.items() if receipt[name]),
        soft_wrap=True,
    )
    table = Table("file", "rows", "bytes")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for file in receipt["files"]:
        table.add_row(Text(file["path"]), f"{file['rows']:,}", f"{file['bytes']:,}")
    out.print(table)
    out.print(f"Receipt: {receipt['manifest']}", soft_wrap=True)
