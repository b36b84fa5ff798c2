"""What do Airflow's lineage and OpenLineage learn of an export?

A dataset is a table at its place and not one of its files, so that a graph of lineage stays the same from day to day.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from voiceos_provider.assets.voiceos import SCHEME, api_of, uri_of
from voiceos_provider.links.voiceos import SPELLINGS
from voiceos_provider.transform import TABLES, Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import InputDataset, OutputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage

log = logging.getLogger(__name__)

_TABLES = {table.name: table for table in TABLES}


class TellsLineage:
    """For operators that export: lineage from the receipt.

    `execute` calls `tell_lineage` with what was published; before that there is nothing to tell.
    """

    redaction: Mapping[str, str] | None = None
    _published: tuple[str, dict[str, Any]] | None = None

    def tell_lineage(self, receipt: dict[str, Any], *, source: str) -> None:
        """Remember what was published, and tell the hooks' lineage of it.

        :param receipt: the receipt as plain JSON
        :param source: the base URL of the API
        """
        self._published = source, receipt
        for uri in _published_uris(receipt):
            tell_collector(self, output=uri)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """The API's conversations as input, each table as output: rows, bytes, columns, and where they come from."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        if self._published is None:
            return OperatorLineage()
        source, receipt = self._published
        return OperatorLineage(
            inputs=[_input(source, receipt)],
            outputs=list(_outputs(source, receipt, dict(self.redaction or {}))),
        )


def tell_collector(context: object, *, reads: str | None = None, output: str | None = None) -> None:
    """Tell the hooks' lineage what was read or written; without a plugin that listens, nothing happens.

    :param context: the hook or operator
    :param reads: base URL of the API that is read
    :param output: address of what was written
    """
    try:
        collector: Any = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        if reads is not None:
            collector.add_input_asset(context=context, uri=uri_of(api_of(reads)))
        if output is not None:
            collector.add_output_asset(context=context, uri=output)
    except Exception:  # a finished export does not fail for its lineage
        log.warning("Lineage was not told.", exc_info=True)


def _published_uris(receipt: dict[str, Any]) -> Iterator[str]:
    for file in receipt["files"]:
        path = file["path"]
        yield path if "://" in path else f"file://{path}"
    place, _, first = receipt["target"].rpartition("/")
    for name in receipt.get("tables", {}):
        if name in _TABLES:
            yield f"{place}/{_prefix(first)}{name}"


def _input(source: str, receipt: dict[str, Any]) -> InputDataset:
    from airflow.providers.common.compat.openlineage.facet import InputDataset

    return InputDataset(
        namespace=f"{SCHEME}://{api_of(source)}",
        name=CONVERSATIONS.name,
        inputFacets=_input_facets(receipt),
    )


def _input_facets(receipt: dict[str, Any]) -> dict[str, Any]:
    try:
        from openlineage.client.generated.input_statistics_input_dataset import (
            InputStatisticsInputDatasetFacet,
        )
    except ImportError:  # of an older client, which has no such facet
        return {}
    return {"inputStatistics": InputStatisticsInputDatasetFacet(rowCount=receipt["listed"])}


def _outputs(source: str, receipt: dict[str, Any], redaction: dict[str, str]) -> Iterator[OutputDataset]:
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
        SchemaDatasetFacet,
    )

    for table, namespace, name, rows, size in _places(receipt):
        fields = [_field(column) for column in table.columns]
        yield OutputDataset(
            namespace=namespace,
            name=name,
            facets={
                "schema": SchemaDatasetFacet(fields=fields),
                "columnLineage": _column_lineage(source, table, redaction),
            },
            outputFacets={"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=rows, size=size)},
        )


def _places(receipt: dict[str, Any]) -> Iterator[tuple[Table, str, str, int, int | None]]:
    """Each table that was published, as OpenLineage names its place, with its rows and bytes."""
    for file in receipt["files"]:
        namespace, name = _folder(file["path"])
        yield _TABLES[file["table"]], namespace, name, file["rows"], file["bytes"]
    for name, loaded in receipt.get("tables", {}).items():
        if name in _TABLES:
            namespace, place = _in_database(receipt["target"], name)
            yield _TABLES[name], namespace, place, loaded["inserted"] + loaded["updated"], None


def _in_database(target: str, table: str) -> tuple[str, str]:
    """A table of the database whose first table is the target; all of them begin with the same prefix."""
    parts = urlsplit(target)
    *above, first = parts.path.strip("/").split("/")
    name = _prefix(first) + table
    if parts.netloc:
        return f"{parts.scheme}://{parts.netloc}", ".".join([*above, name])
    return f"{parts.scheme}://{parts.path.rpartition('/')[0]}", name


def _prefix(table: str) -> str:
    """What the name of a database's table begins with."""
    return next((table.removesuffix(known) for known in _TABLES if table.endswith(known)), "")


def _folder(path: str) -> tuple[str, str]:
    """The folder of a file, by the naming rules of OpenLineage."""
    parts = urlsplit(path.rpartition("/")[0])
    if not parts.scheme or parts.scheme in ("file", "local"):
        return "file", parts.path
    return f"{SPELLINGS.get(parts.scheme, parts.scheme)}://{parts.netloc}", parts.path.lstrip("/")


def _field(column: Column) -> Any:
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacetFields

    return SchemaDatasetFacetFields(
        name=column.name, type=str(column.kind.arrow), description=column.description
    )


def _column_lineage(source: str, table: Table, redaction: dict[str, str]) -> Any:
    """Which field of a conversation each column is made of, and whether it is masked on the way."""
    from airflow.providers.common.compat.openlineage.facet import (
        ColumnLineageDatasetFacet,
        Fields,
        InputField,
    )

    namespace = f"{SCHEME}://{api_of(source)}"
    fields = {}
    for column in table.columns:
        if column.path:
            kept = redaction.get(column.pii, "keep") if column.pii else "keep"
            sent = InputField(
                namespace=namespace, name=CONVERSATIONS.name, field=".".join(column.path).replace(".[]", "[]")
            )
            fields[column.name] = Fields(
                inputFields=[sent],
                transformationDescription="as sent"
                if kept == "keep"
                else {"hash": "hashed", "drop": "dropped"}[kept],
                transformationType="IDENTITY" if kept == "keep" else "MASKED",
            )
    return ColumnLineageDatasetFacet(fields=fields)
