"""Lineage of real exports."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat import sdk

from voiceos_provider.emulator import Emulator
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transform import TABLES
from voiceos_provider.transform.schema import CONVERSATIONS
from voiceos_provider.utils import openlineage as lineage

Day = tuple[datetime, datetime]


@pytest.fixture
def exported(api: Emulator, yesterday: Day, tmp_path: Path) -> Any:
    """Return an operator that has run, and what it returned."""
    operator = VoiceOSToObjectStorageOperator(
        task_id="export",
        path=str(tmp_path),
        interval_start=yesterday[0],
        interval_end=yesterday[1],
        redaction={"phone_numbers": "hash", "messages": "drop"},
    )
    return operator, operator.execute({})


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a lineage collector that is active, as if a plugin read from it."""
    try:
        from airflow.sdk.lineage import HookLineageCollector
    except ImportError:
        from airflow.lineage.hook import HookLineageCollector
    listening = HookLineageCollector()
    # Airflow has one listen only where a plugin reads it; what this asks for gives it the names of Airflow 3.
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: listening)
    return listening


def uris(assets: Any) -> list[str]:
    """Return the URIs that were reported to a collector."""
    return [(getattr(item, "asset", None) and item.asset.uri) or item.dataset.uri for item in assets]


def test_each_table_is_an_output_with_rows_bytes_and_columns(exported: Any, tmp_path: Path) -> None:
    """The dataset is the table's folder, so all runs share it."""
    operator, receipt = exported
    reported = operator.get_openlineage_facets_on_complete(None)
    assert [(output.namespace, output.name) for output in reported.outputs] == [
        ("file", f"{tmp_path}/{table.name}") for table in TABLES
    ]
    for output, file, table in zip(reported.outputs, receipt["files"], TABLES, strict=True):
        statistics = output.outputFacets["outputStatistics"]
        assert (statistics.rowCount, statistics.size) == (file["rows"], file["bytes"])
        fields = [(field.name, field.type) for field in output.facets["schema"].fields]
        assert fields == [(field.name, str(field.type)) for field in table.schema]


def test_api_is_the_input(exported: Any, api: Emulator) -> None:
    """It is named by its host, with the number of listed conversations."""
    operator, receipt = exported
    (read,) = operator.get_openlineage_facets_on_complete(None).inputs
    assert read.namespace.startswith("voiceos://127.0.0.1:")
    assert read.name == "conversations"
    assert read.inputFacets["inputStatistics"].rowCount == receipt["listed"]


def test_columns_name_their_source_field_and_masking(exported: Any) -> None:
    """Both follow from the schema and the redaction."""
    operator, _ = exported
    reported = operator.get_openlineage_facets_on_complete(None)
    fields = reported.outputs[0].facets["columnLineage"].fields
    assert set(fields) == {column.name for column in CONVERSATIONS.columns if column.path}
    assert fields["total_cost"].inputFields[0].field == "cost_breakdown.total"
    assert fields["total_cost"].transformationType == "IDENTITY"
    hashed = next(column.name for column in CONVERSATIONS.columns if column.pii == "phone_numbers")
    assert (fields[hashed].transformationType, fields[hashed].transformationDescription) == (
        "MASKED",
        "hashed",
    )
    said = reported.outputs[2].facets["columnLineage"].fields["content"]
    assert said.inputFields[0].field == "messages[].content"
    assert said.transformationDescription == "dropped"


def test_task_without_a_publication_reports_nothing() -> None:
    """It may have failed."""
    operator = VoiceOSToObjectStorageOperator(task_id="export", path="/tmp/x")
    reported = operator.get_openlineage_facets_on_complete(None)
    assert (reported.inputs, reported.outputs) == ([], [])


def test_extractor_of_openlineage_finds_the_method(exported: Any) -> None:
    """It would hide an error."""
    from airflow.providers.openlineage.extractors.base import DefaultExtractor

    operator, _ = exported
    reported = DefaultExtractor(operator).extract_on_complete(None)
    assert reported is not None
    assert len(reported.outputs) == len(TABLES)


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("s3://bucket/voiceos/conversations/c.parquet", "s3://bucket", "voiceos/conversations"),
        ("s3a://bucket/conversations/c.parquet", "s3://bucket", "conversations"),
        ("gcs://bucket/a/conversations/c.csv", "gs://bucket", "a/conversations"),
        ("abfs://box@acc.dfs.core.windows.net/a/c.csv", "abfs://box@acc.dfs.core.windows.net", "a"),
        ("file:///data/conversations/c.parquet", "file", "/data/conversations"),
        ("/data/conversations/c.parquet", "file", "/data/conversations"),
    ],
)
def test_datasets_follow_the_naming_rules_of_openlineage(path: str, namespace: str, name: str) -> None:
    """Other tools give them the same names."""
    assert lineage._folder(path) == (namespace, name)


@pytest.mark.parametrize(
    ("target", "namespace", "name"),
    [
        (
            "postgres://db.example.com:5432/lake/voiceos/raw_conversations",
            "postgres://db.example.com:5432",
            "lake.voiceos.raw_agent_configs",
        ),
        ("duckdb:///data/lake.duckdb/conversations", "duckdb:///data/lake.duckdb", "agent_configs"),
    ],
)
def test_database_is_named_by_its_tables(target: str, namespace: str, name: str) -> None:
    """The facets have the numbers of changed rows."""
    receipt = {
        "target": target,
        "files": [],
        "tables": {"agent_configs": {"inserted": 3, "updated": 2, "unchanged": 5}},
    }
    ((table, *place, rows, size),) = lineage._places(receipt)
    assert table.name == "agent_configs"
    assert place == [namespace, name]
    assert (rows, size) == (5, None)


def test_hook_lineage_gets_the_api_and_every_file(collector: Any, exported: Any, api: Emulator) -> None:
    """Collectors without OpenLineage use it."""
    _, receipt = exported
    heard = collector.collected_assets
    assert [uri.rpartition(":")[0] for uri in uris(heard.inputs)] == ["voiceos://127.0.0.1"]
    assert uris(heard.outputs) == [f"file://{file['path']}" for file in receipt["files"]]


def test_user_defined_task_with_the_hook_is_reported(collector: Any, api: Emulator) -> None:
    """Reading is enough."""
    with VoiceOSHook() as hook:
        next(hook.list_conversations())
    (uri,) = uris(collector.collected_assets.inputs)
    assert uri.endswith("/conversations")


def test_failing_lineage_does_not_fail_the_export(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged."""

    def broken() -> None:
        raise RuntimeError("no lineage today")

    monkeypatch.setattr(lineage, "get_hook_lineage_collector", broken)
    lineage.add_hook_lineage(object(), reads="https://api.voiceos.io")
    assert "Hook lineage failed." in caplog.text
