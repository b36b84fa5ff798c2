"""`voiceos export` and `voiceos clean`: write an interval to files, and remove work directories of killed exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from voiceos_provider.cli.options import (
    Access,
    api_options,
    choose_interval,
    get_airflow_connection,
    interval_options,
    list_option,
    refuse_options,
    storage_conn_id,
)
from voiceos_provider.cli.output import as_json, log_to_stderr, print_json, progress, verbose
from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.client import RawPage
    from voiceos_provider.load.destination import Destination
    from voiceos_provider.load.lake.table import Lake


_FILE_OPTIONS = ("file_format", "compression", "layout", "target_file_bytes", "replace_existing")
_option = partial(click.option, show_default=True)


@click.command(short_help="Write conversations to files, as the operator does.")
@click.argument("path")
@interval_options(default="yesterday")
@list_option("--status", "Only conversations in these states: queued, started, ended.")
@list_option("--tables", "Only these tables. [default: all]")
@list_option(
    "--redaction",
    "What to do with personal data, such as phone_numbers=hash, messages=drop, prompts=drop.",
    metavar="CLASS=CHOICE",
)
@_option(
    "--schema-drift", default="keep", help="What to do with undocumented fields and values: keep or fail."
)
@_option("--file-format", default="parquet", help="parquet, jsonl or csv.")
@click.option("--compression", help="zstd, gzip, snappy or none. [default: zstd for parquet, otherwise none]")
@_option(
    "--layout", default="flat", help="flat, or hive: a folder such as dt=2026-11-20 for each day in UTC."
)
@click.option(
    "--target-file-bytes",
    type=click.IntRange(1_000_000),
    help="Size at which a file ends and a further one begins. [default: one file]",
)
@_option(
    "--max-bad-records",
    default=0,
    type=click.IntRange(0),
    help="Maximum number of conversations without a usable id, which are set aside.",
)
@_option(
    "--read-strategy",
    default="windows",
    help="windows: exact. pages: count pages, which lets the server filter by one state.",
)
@_option(
    "--visibility-delay",
    default=300.0,
    type=click.FloatRange(0),
    help="Seconds between the end of the interval and the first request, by the slower of the server's and this "
    "machine's clock.",
)
@_option(
    "--max-concurrency", default=4, type=click.IntRange(1), help="Maximum number of concurrent requests."
)
@click.option(
    "--carry-pending",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Also export conversations of intervals up to this many days earlier that have ended since.",
)
@click.option(
    "--replace-existing",
    is_flag=True,
    help="Replace the files of an interval that was exported with other options.",
)
@storage_conn_id
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
    tables: tuple[str, ...],
    redaction: tuple[str, ...],
    carry_pending: float | None,
    file_format: str,
    compression: str | None,
    layout: Any,
    target_file_bytes: int | None,
    replace_existing: bool,
    storage_conn_id: str | None,
    as_json: bool,
    verbose: bool,
    **others: Any,
) -> None:
    """Write the conversations created in an interval to files below PATH: all of them, or none.

    PATH is a directory, or a URL such as s3://bucket/voiceos. The files, their names and the manifest are those of
    VoiceOSToObjectStorageOperator. With delta: before PATH, such as delta:s3://bucket/lake, rows are merged into the
    Delta Lake tables of VoiceOSToDeltaLakeOperator; with iceberg: before the name of a catalog in PyIceberg's
    configuration, or before a local directory such as iceberg:./lake, into those of VoiceOSToIcebergOperator. The
    options of files do not apply to tables.
    """
    from voiceos_provider.client import VoiceOSClient
    from voiceos_provider.load.files.destination import FilesDestination
    from voiceos_provider.load.files.formats import Encoding
    from voiceos_provider.load.lake.destination import LakeDestination
    from voiceos_provider.load.plan import check_write_disposition
    from voiceos_provider.options import ExportOptions
    from voiceos_provider.pipeline.run import run_export

    options = ExportOptions.parse(
        choose_interval(day, interval_start, interval_end, now=datetime.now(UTC)),
        tables=tables or None,
        redaction=pairs(redaction),
        phone_hash_key=access.phone_hash_key,
        carry_pending=None if carry_pending is None else timedelta(days=carry_pending),
        **others,
    )
    destination: Destination
    if path.startswith(("delta:", "iceberg:")):
        refuse_options(_FILE_OPTIONS, "does not apply to tables.")
    if path.startswith("delta:"):
        delta = delta_lake(path.removeprefix("delta:"), storage_conn_id)
        destination = LakeDestination(delta, write_disposition=check_write_disposition("merge", options))
    elif path.startswith("iceberg:"):
        refuse_options(("storage_conn_id",), "does not apply to Iceberg.")
        iceberg = iceberg_lake(path.removeprefix("iceberg:"))
        destination = LakeDestination(iceberg, write_disposition=check_write_disposition("merge", options))
    else:
        destination = FilesDestination(
            open_root(path, storage_conn_id),
            encoding=Encoding.choose(file_format, compression),
            layout=layout,
            target_file_bytes=target_file_bytes,
            replace_existing=replace_existing,
        )
    with log_to_stderr(verbose=verbose), VoiceOSClient(access.config) as client, _counting() as counted:
        receipt = run_export(client, destination, options, observe=counted)
    if as_json:
        print_json(receipt.as_dict())
    else:
        click.echo("\n".join([f"Conversations created in {options.interval}:", *receipt.log_lines()]))


def delta_lake(path: str, storage_conn_id: str | None, *, table_prefix: str = "") -> Lake:
    """Return the Delta Lake tables below a path or URL.

    :raises VoiceOSValueError: if the package is not installed
    """
    import os.path
    from importlib.util import find_spec

    from voiceos_provider.load.files.layout import require_safe
    from voiceos_provider.load.lake.delta import DeltaLake

    if find_spec("deltalake") is None:
        raise VoiceOSValueError(
            "delta: needs the package deltalake; pip install 'airflow-provider-voiceos[delta]'."
        )
    full = path if "://" in path else os.path.abspath(os.path.expanduser(path))
    require_safe(full)
    if storage_conn_id is None:
        return DeltaLake(full, table_prefix=table_prefix)
    get_airflow_connection(storage_conn_id)
    from voiceos_provider.utils.storage import delta_storage_options

    options = partial(delta_storage_options, full, storage_conn_id)
    return DeltaLake(full, table_prefix=table_prefix, storage_options=options)


def iceberg_lake(
    catalog: str, *, namespace: str = "voiceos", table_prefix: str = "", must_exist: bool = False
) -> Lake:
    """Return the Iceberg tables of a catalog.

    :param catalog: a name in PyIceberg's configuration, or a local directory, which has a slash or a dot
    :param must_exist: do not create the catalog of a local directory
    :raises VoiceOSValueError: if the package is not installed
    :raises VoiceOSExportError: if a catalog that must exist does not
    """
    from importlib.util import find_spec

    if find_spec("pyiceberg") is None:
        raise VoiceOSValueError(
            "iceberg: needs the package pyiceberg; pip install 'airflow-provider-voiceos[iceberg]'."
        )
    from voiceos_provider.load.lake.iceberg import IcebergLake, embedded_catalog

    name, properties = catalog, None
    if "/" in catalog or "." in catalog:
        name, properties = "default", embedded_catalog(catalog, must_exist=must_exist)
    return IcebergLake(name, namespace=namespace, table_prefix=table_prefix, properties=properties)


class Root(NamedTuple):
    """A path on an fsspec filesystem."""

    fs: Any
    path: str


def open_root(path: str, storage_conn_id: str | None = None) -> Any:
    """Open the filesystem of a path or URL, with its default credentials or those of an Airflow connection.

    :raises VoiceOSValueError: if the filesystem is unknown, or its package is not installed
    """
    import os.path

    from voiceos_provider.load.files.layout import require_safe
    from voiceos_provider.load.files.store import cannot_open

    full = path if "://" in path else os.path.abspath(os.path.expanduser(path))
    require_safe(full)
    if storage_conn_id is not None:
        get_airflow_connection(storage_conn_id)
        from voiceos_provider.utils.storage import open_path

        root = open_path(full, storage_conn_id)
        return Root(root.fs, root.path)
    try:
        from fsspec.core import url_to_fs

        return Root(*url_to_fs(full))
    except (ImportError, ValueError) as error:
        raise cannot_open(path, error) from error


def pairs(redaction: Iterable[str]) -> dict[str, str]:
    """Parse `--redaction`.

    :raises VoiceOSValueError: if an item is not written like `messages=drop`
    """
    chosen = {}
    for item in redaction:
        name, equals, choice = item.partition("=")
        if not equals:
            raise VoiceOSValueError(f"--redaction {item!r} is not CLASS=CHOICE; write it like messages=drop.")
        chosen[name.strip()] = choice.strip()
    return chosen


@contextmanager
def _counting() -> Iterator[Any]:
    """Show progress, and yield a function that counts pages as they pass through it."""
    with progress("Waiting for the first page") as show:

        def counted(pages: Iterable[RawPage]) -> Iterator[RawPage]:
            listed, began = 0, monotonic()
            for number, page in enumerate(pages, start=1):
                listed += len(page.items)
                yield page
                rate = listed / max(monotonic() - began, 0.001)
                show(f"{listed:,} conversations on {number:,} pages, {rate:,.0f} per second")
            show(f"Writing {listed:,} conversations")

        yield counted


@click.command(short_help="List and remove work directories that killed exports left.")
@click.option("--yes", is_flag=True, help="Remove them. Without it they are only listed.")
@click.option(
    "--all", "resumable", is_flag=True, help="Also those from which a retry of a task would resume."
)
@as_json
def clean(*, yes: bool, resumable: bool, as_json: bool) -> None:
    """List work directories of killed exports, and remove them with --yes.

    A work directory holds the rows of an unfinished export, with personal data. Directories that a process uses are
    never removed. Those that a retry of a task can resume are removed only with --all; that retry then starts over.
    Later exports on the same machine remove abandoned directories, too.
    """
    from voiceos_provider.load.workdir import list_workdirs, remove_workdir

    found = [each for each in list_workdirs() if not each.in_use and (resumable or each.is_abandoned())]
    if yes:
        for each in found:
            remove_workdir(each.path)
    if as_json:
        fields = [
            {
                "path": str(each.path),
                "bytes": each.bytes,
                "idle_seconds": round(each.idle),
                "task": str(each.owner.task) if each.owner and each.owner.task else None,
                "removed": yes,
            }
            for each in found
        ]
        print_json(fields)
        return
    for each in found:
        owner = f", {each.owner.task}" if each.owner and each.owner.task else ""
        done = "removed" if yes else "found"
        click.echo(
            f"{done} {each.path}: {each.bytes:,} bytes, last written {each.idle / 3600:.1f} h ago{owner}"
        )
    if not found:
        click.echo("No abandoned work directory.")
    elif not yes:
        click.echo("Add --yes to remove them.")
