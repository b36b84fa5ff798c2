"""`voiceos erase`: remove conversations from a target."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING

import click

from voiceos_provider.cli.coverage import open_sql_tables
from voiceos_provider.cli.export import delta_lake, iceberg_lake, open_root
from voiceos_provider.cli.options import Access, api_options, refuse_options, storage_conn_id
from voiceos_provider.cli.output import as_json, log_to_stderr, print_json, verbose
from voiceos_provider.exceptions import VoiceOSValueError

if TYPE_CHECKING:
    from voiceos_provider.load.erasure import ErasableTarget


@click.command(short_help="Remove conversations from files, tables and recordings.")
@click.argument("target", required=False)
@click.option("--id", "ids", multiple=True, required=True, help="Id of a conversation to remove; repeatable.")
@storage_conn_id
@click.option("--sql-conn-id", help="Airflow connection of the database, in place of TARGET.")
@click.option("--schema", help="Schema of the tables. [default: the connection's own]")
@click.option("--namespace", default="voiceos", show_default=True, help="Namespace of Iceberg tables.")
@click.option("--table-prefix", default="", help="Prefix of the names of the tables in a database or lake.")
@click.option(
    "--check-api",
    is_flag=True,
    help="Request each conversation first, and report those that the API still returns; --conn-id does so, too.",
)
@api_options
@as_json
@verbose
def erase(
    *,
    access: Access | None,
    target: str | None,
    ids: tuple[str, ...],
    storage_conn_id: str | None,
    sql_conn_id: str | None,
    schema: str | None,
    namespace: str,
    table_prefix: str,
    check_api: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Remove conversations from TARGET, with their messages, costs, recordings and rejected records.

    TARGET is a directory or URL that an export wrote to. With delta: before a path, the Delta Lake tables there; with
    iceberg: before the name of a catalog or a local directory, its Iceberg tables. Their history is removed, too, and
    with it time travel.

    Delete the conversations at the vendor first: an export of their interval brings back those that the API still
    lists. Run it when no export writes to TARGET. A second run removes nothing.
    """
    from voiceos_provider.client import VoiceOSClient
    from voiceos_provider.pipeline.erasure import erase_conversations, parse_ids

    ids = parse_ids(ids)
    with log_to_stderr(verbose=verbose), redirect_stdout(sys.stderr):  # Airflow 2 logs to standard output
        opened = _open(target, storage_conn_id, sql_conn_id, schema, namespace, table_prefix)
        with VoiceOSClient(access.config) if access else nullcontext() as client:
            receipt = erase_conversations(opened, ids, client=client)
    if as_json:
        print_json(receipt.as_dict())
    else:
        click.echo("\n".join(receipt.log_lines()))


def _open(
    target: str | None,
    storage_conn_id: str | None,
    sql_conn_id: str | None,
    schema: str | None,
    namespace: str,
    table_prefix: str,
) -> ErasableTarget:
    """Return what the options name.

    :raises VoiceOSValueError: if they name no target, or two, or if one does not apply to it
    """
    from voiceos_provider.load.files.erasure import ErasableFiles
    from voiceos_provider.load.lake.destination import LakeDestination

    if (target is None) == (sql_conn_id is None):
        raise VoiceOSValueError("Name either a TARGET or --sql-conn-id.")
    if target is None:
        refuse_options(("storage_conn_id", "namespace"), "does not apply to a database.")
        return open_sql_tables(str(sql_conn_id), schema, table_prefix)
    if target.startswith("delta:"):
        refuse_options(("schema", "namespace"), "does not apply to Delta Lake.")
        path = target.removeprefix("delta:")
        return LakeDestination(delta_lake(path, storage_conn_id, table_prefix=table_prefix))
    if target.startswith("iceberg:"):
        refuse_options(("schema", "storage_conn_id"), "does not apply to Iceberg.")
        catalog = target.removeprefix("iceberg:")
        return LakeDestination(
            iceberg_lake(catalog, namespace=namespace, table_prefix=table_prefix, must_exist=True)
        )
    refuse_options(("schema", "namespace", "table_prefix"), "does not apply to files.")
    return ErasableFiles(open_root(target, storage_conn_id))
