"""Lineage of an export, for Airflow's hook lineage and for OpenLineage.

A dataset is a table, not one of its files, so that the lineage graph stays the same every day.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from voiceos_provider.assets.voiceos import CONVERSATIONS, SCHEME, api_of, uri_of
from voiceos_provider.links.voiceos import SPELLINGS

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import InputDataset, OutputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    from voiceos_provider.transform import Table

log = logging.getLogger(__name__)

_STORES = ("file", "s3", "s3a", "gs", "abfs", "abfss", "az", "adl")
_DESCRIPTIONS = {"keep": "as sent", "hash": "hashed", "drop": "dropped"}


class LineageMixin:
    """Lineage from the receipt, for operators that export; `execute` calls `report_lineage` after publication."""

    redaction: Mapping[str, str] | None = None
    receipt: dict[str, Any] | None = None
    _source = ""

    def report_lineage(self, receipt: dict[str, Any], *, source: str) -> None:
        """Keep what was published for OpenLineage, and add it to Airflow's hook lineage."""
        self.receipt, self._source = receipt, source
        for uri in _published_uris(receipt):
            add_hook_lineage(self, output=uri)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the API's conversations as input, and each table as output with rows, bytes and column lineage."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        if self.receipt is None:
            return OperatorLineage()
        return OperatorLineage(
            inputs=[_input(self._source, self.receipt)],
            outputs=list(_outputs(self._source, self.receipt, dict(self.redaction or {}))),
        )


def add_hook_lineage(context: object, *, reads: str | None = None, output: str | None = None) -> None:
    """Add what was read or written to Airflow's hook lineage, which does nothing unless a plugin reads it.

    :param reads: base URL of the API that was read
    :param output: URI of what was written
    """
    try:
        collector: Any = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        if reads is not None:
            collector.add_input_asset(context=context, uri=uri_of(api_of(reads)))
        if output is not None:
            collector.add_output_asset(context=context, uri=output)
    except Exception:  # a finished export does not fail for its lineage
        log.warning("Hook lineage failed.", exc_info=True)


@cache
def _tables() -> dict[str, Table]:
    from voiceos_provider.transform import TABLES

    return {table.name: table for table in TABLES}


def _published_uris(receipt: dict[str, Any]) -> Iterator[str]:
    for file in receipt["files"]:
        path = file["path"]
        yield path if "://" in path else f"file://{path}"
    place, _, first = receipt["target"].rpartition("/")
    for name in receipt.get("tables", {}):
        if name in _tables():
            yield f"{place}/{_sibling(first, name)}"


def _input(source: str, receipt: dict[str, Any]) -> InputDataset:
    from airflow.providers.common.compat.openlineage import facet

    facets: dict[str, Any] = {}
    with suppress(ImportError):  # of an older client, which has no such facet
        from openlineage.client.generated import input_statistics_input_dataset as statistics

        facets["inputStatistics"] = statistics.InputStatisticsInputDatasetFacet(rowCount=receipt["listed"])
    return facet.InputDataset(
        namespace=f"{SCHEME}://{api_of(source)}", name=CONVERSATIONS, inputFacets=facets
    )


def _outputs(source: str, receipt: dict[str, Any], redaction: dict[str, str]) -> Iterator[OutputDataset]:
    from airflow.providers.common.compat.openlineage import facet

    for table, namespace, name, rows, size in _places(receipt):
        fields = [
            facet.SchemaDatasetFacetFields(
                name=column.name, type=str(column.kind.arrow), description=column.description
            )
            for column in table.columns
        ]
        yield facet.OutputDataset(
            namespace=namespace,
            name=name,
            facets={
                "schema": facet.SchemaDatasetFacet(fields=fields),
                "columnLineage": _column_lineage(source, table, redaction),
            },
            outputFacets={
                "outputStatistics": facet.OutputStatisticsOutputDatasetFacet(rowCount=rows, size=size)
            },
        )


def _places(receipt: dict[str, Any]) -> Iterator[tuple[Table, str, str, int, int | None]]:
    """Yield each published table with its OpenLineage namespace and name, its rows and bytes."""
    for file in receipt["files"]:
        namespace, name = _folder(file["path"])
        yield _tables()[file["table"]], namespace, name, file["rows"], file["bytes"]
    for name, loaded in receipt.get("tables", {}).items():
        if name in _tables():
            namespace, place = _in_database(receipt["target"], name)
            yield _tables()[name], namespace, place, loaded["inserted"] + loaded["updated"], None


def _in_database(target: str, table: str) -> tuple[str, str]:
    """Return namespace and name of a table in the database or folder whose first table is the target."""
    parts = urlsplit(target)
    if parts.scheme in _STORES:  # a folder with a lake table
        folder, _, first = target.rpartition("/")
        return _folder(f"{folder}/{_sibling(first, table)}/")
    *above, first = (unquote(part) for part in parts.path.strip("/").split("/"))
    name = _sibling(first, table)
    if parts.scheme == "bigquery":
        return "bigquery", ".".join([parts.netloc, *above, name])
    if parts.netloc:
        return f"{parts.scheme}://{parts.netloc}", ".".join([*above, name])
    return f"{parts.scheme}://{parts.path.rpartition('/')[0]}", name


def _sibling(first: str, table: str) -> str:
    """Return the name of a table whose prefix and case are those of another one."""
    known = next((name for name in _tables() if first.lower().endswith(name)), "")
    prefix, base = first[: len(first) - len(known)], first[len(first) - len(known) :]
    return prefix + (table.upper() if base.isupper() else table)


def _folder(path: str) -> tuple[str, str]:
    """Return the namespace and name of a file's folder, by the naming rules of OpenLineage."""
    parts = urlsplit(path.rpartition("/")[0])
    if not parts.scheme or parts.scheme in ("file", "local"):
        return "file", parts.path
    return f"{SPELLINGS.get(parts.scheme, parts.scheme)}://{parts.netloc}", parts.path.lstrip("/")


def _column_lineage(source: str, table: Table, redaction: dict[str, str]) -> Any:
    """Return the field of a conversation behind each column, and whether it is masked."""
    from airflow.providers.common.compat.openlineage import facet

    namespace = f"{SCHEME}://{api_of(source)}"
    fields = {}
    for column in table.columns:
        if not column.path:
            continue
        kept = redaction.get(column.pii, "keep") if column.pii else "keep"
        path = ".".join(column.path).replace(".[]", "[]")
        fields[column.name] = facet.Fields(
            inputFields=[facet.InputField(namespace=namespace, name=CONVERSATIONS, field=path)],
            transformationDescription=_DESCRIPTIONS[kept],
            transformationType="IDENTITY" if kept == "keep" else "MASKED",
        )
    return facet.ColumnLineageDatasetFacet(fields=fields)
