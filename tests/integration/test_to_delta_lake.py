"""`VoiceOSToDeltaLakeOperator` with connections of Airflow, on local disk and on S3."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException
from deltalake import DeltaTable

from tests.support.erasing import find_below
from voiceos_provider.emulator import Emulator
from voiceos_provider.load.lake.delta import DeltaLake
from voiceos_provider.load.lake.destination import LakeDestination
from voiceos_provider.transfers.voiceos_to_delta_lake import VoiceOSToDeltaLakeOperator
from voiceos_provider.utils.storage import delta_storage_options

Day = tuple[datetime, datetime]


def operator(yesterday: Day, **arguments: Any) -> VoiceOSToDeltaLakeOperator:
    """Return an operator that exports yesterday."""
    start, end = (bound.isoformat() for bound in yesterday)
    return VoiceOSToDeltaLakeOperator(task_id="export", interval_start=start, interval_end=end, **arguments)


def ids(table: DeltaTable) -> set[str]:
    """Return the ids in a table."""
    return set(table.to_pyarrow_table(columns=["id"]).column("id").to_pylist())


def test_export_to_local_disk(api: Emulator, yesterday: Day, tmp_path: Path) -> None:
    """A second run commits nothing; the receipt counts the rows and names the first table."""
    arguments = {"path": f"file://{tmp_path}/lake", "table_prefix": "voiceos_"}
    export = operator(yesterday, **arguments)
    receipts = [export.execute({}), operator(yesterday, **arguments).execute({})]
    expected = set(api.world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert len(expected) > 100
    assert receipts[0]["tables"]["conversations"]["inserted"] == len(expected)
    assert receipts[1]["tables"]["conversations"]["unchanged"] == len(expected)
    assert receipts[0]["target"] == f"file://{tmp_path}/lake/voiceos_conversations"
    table = DeltaTable(f"{tmp_path}/lake/voiceos_conversations")
    assert ids(table) == expected
    assert table.version() == 1
    lineage = export.get_openlineage_facets_on_complete(None)
    assert {(output.namespace, output.name) for output in lineage.outputs} >= {
        ("file", f"{tmp_path}/lake/voiceos_conversations"),
        ("file", f"{tmp_path}/lake/voiceos_conversation_messages"),
    }


def test_columns_have_their_descriptions_and_the_log_has_no_texts(
    api: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """Statistics of the columns that prune, which lie beyond the first 32, and of no others."""
    operator(yesterday, path=str(tmp_path)).execute({})
    fields = {field.name: field for field in DeltaTable(f"{tmp_path}/conversations").schema().fields}
    assert fields["id"].metadata["comment"] == "The conversation's id, the key."
    assert fields["total_cost"].type.type == "decimal(38,24)"
    log = (tmp_path / "conversations/_delta_log/00000000000000000001.json").read_text()
    assert f"{yesterday[0]:%Y-%m-%dT%H:%M:%S}" in log.partition("minValues")[2]
    log = (tmp_path / "conversation_messages/_delta_log/00000000000000000001.json").read_text()
    assert "content" not in log


def test_export_to_s3_uses_the_storage_connection(
    api: Emulator, connect: Callable[..., str], yesterday: Day, s3_process_url: str
) -> None:
    """Keys, region and endpoint are those of the connection."""
    extra = {"endpoint_url": s3_process_url, "region_name": "us-east-1"}
    connect("lake_store", conn_type="aws", login="testing", password="testing", extra=extra)
    path = "s3://voiceos-exports/lake"
    receipt = operator(yesterday, path=path, storage_conn_id="lake_store").execute({})
    table = DeltaTable(f"{path}/conversations", storage_options=delta_storage_options(path, "lake_store"))
    assert ids(table) == set(api.world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert receipt["target"] == f"{path}/conversations"


def test_wrong_arguments_are_rejected(
    api: Emulator, yesterday: Day, s3_process_url: str, connect: Callable[..., str], tmp_path: Path
) -> None:
    """The error comes before any read, and says what to change."""
    with pytest.raises(AirflowNotFoundException, match="storage_conn_id"):
        operator(yesterday, path="s3://bucket/lake", storage_conn_id="missing").execute({})
    with pytest.raises(AirflowFailException, match="is relative"):
        operator(yesterday, path="lake").execute({})
    with pytest.raises(AirflowFailException, match="write_disposition 'upsert'"):
        operator(yesterday, path=str(tmp_path), write_disposition="upsert").execute({})
    extra = {"endpoint_url": s3_process_url, "region_name": "us-east-1"}
    connect("lake_store", conn_type="aws", login="testing", password="testing", extra=extra)
    with pytest.raises(
        Exception, match=r"open the table s3://missing-bucket/\w+: OSError: .*NoSuchBucket\.$"
    ):
        operator(yesterday, path="s3://missing-bucket", storage_conn_id="lake_store").execute({})


def test_example_dags_export_and_compact(
    examples: dict[str, Any],
    run_in_airflow: Callable[..., Any],
    api: Emulator,
    yesterday: Day,
    tmp_path: Path,
) -> None:
    """Hours leave a file each; the maintenance leaves one file, with the same rows."""
    store = {"path": f"file://{tmp_path}"}
    for hour in (10, 11, 12):
        bounds = [yesterday[0] + timedelta(hours=hour + after) for after in (0, 1)]
        names = ("interval_start", "interval_end")
        conf = store | {name: at.isoformat() for name, at in zip(names, bounds, strict=True)}
        assert run_in_airflow(examples["voiceos_hourly_delta_lake"], run_conf=conf).state == "success"
    before = DeltaTable(f"{tmp_path}/conversations")
    assert len(before.file_uris()) == 3
    run = run_in_airflow(examples["voiceos_delta_lake_maintenance"], run_conf=store)
    assert run.state == "success"
    after = DeltaTable(f"{tmp_path}/conversations")
    assert len(after.file_uris()) == 1
    assert ids(after) == ids(before) != set()


@pytest.fixture
def s3_process_url() -> Any:
    """Yield an S3 server in a process of its own."""
    from tests.support.stores import s3_process

    with s3_process() as url:
        yield url


def test_erasure_removes_the_change_data_feed(api: Emulator, yesterday: Day, tmp_path: Path) -> None:
    """A user has enabled it, and it keeps deleted rows."""
    operator(yesterday, path=str(tmp_path)).execute({})
    table = DeltaTable(f"{tmp_path}/conversations")
    table.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    erased, other, *_ = sorted(ids(table))
    LakeDestination(DeltaLake(str(tmp_path))).erase([other])
    table = DeltaTable(f"{tmp_path}/conversations")
    table.update(updates={"uri": "'changed'"}, predicate=f"id = '{erased}'")
    assert find_below(tmp_path / "conversations" / "_change_data", erased)
    LakeDestination(DeltaLake(str(tmp_path))).erase([erased])
    assert find_below(tmp_path, erased, other) == []
