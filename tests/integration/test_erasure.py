"""`VoiceOSEraseConversationsOperator` in runs of DAGs, for every kind of target."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowNotFoundException
from deltalake import DeltaTable

from tests.support.erasing import find_below
from voiceos_provider.cli.main import main
from voiceos_provider.emulator import Emulator
from voiceos_provider.operators.voiceos_coverage import VoiceOSCoverageCheckOperator
from voiceos_provider.operators.voiceos_erasure import VoiceOSEraseConversationsOperator
from voiceos_provider.transfers.voiceos_recordings_to_object_storage import (
    VoiceOSRecordingsToObjectStorageOperator,
)
from voiceos_provider.transfers.voiceos_to_delta_lake import VoiceOSToDeltaLakeOperator
from voiceos_provider.transfers.voiceos_to_iceberg import VoiceOSToIcebergOperator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

Day = tuple[datetime, datetime]
KINDS = ("files", "database", "delta", "iceberg")


def targets(folder: Path) -> dict[str, dict[str, str]]:
    """Return the parameters of each kind of target."""
    return {
        "files": {"path": f"file://{folder}/files"},
        "database": {"sql_conn_id": "calls_db", "table_prefix": "v_"},
        "delta": {"delta_path": f"file://{folder}/delta"},
        "iceberg": {"warehouse": f"{folder}/iceberg"},
    }


def export_dag(folder: Path, day: Day) -> DAG:
    """Return a DAG that exports an hour to each kind of target."""
    interval = {"interval_start": day[0], "interval_end": day[0].replace(hour=3)}
    with DAG("export", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=UTC)) as dag:
        VoiceOSToObjectStorageOperator(task_id="files", path=f"file://{folder}/files", **interval)
        VoiceOSRecordingsToObjectStorageOperator(task_id="audio", path=f"file://{folder}/files", **interval)
        VoiceOSToSqlOperator(task_id="database", sql_conn_id="calls_db", table_prefix="v_", **interval)
        VoiceOSToDeltaLakeOperator(task_id="delta", path=f"file://{folder}/delta", **interval)
        VoiceOSToIcebergOperator(task_id="iceberg", warehouse=f"{folder}/iceberg", **interval)
    return dag


def erase_dag(folder: Path) -> DAG:
    """Return a DAG that erases from each of them; the ids are a parameter of the run."""
    ids = "{{ params.ids | tojson }}"
    with DAG("erase", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=UTC), params={"ids": []}) as dag:
        for kind, target in targets(folder).items():
            VoiceOSEraseConversationsOperator(
                task_id=kind, ids=ids, voiceos_conn_id="voiceos_default", **target
            )
    return dag


def test_runs_erase_from_every_target(
    api: Emulator,
    connect: Callable[..., str],
    run_in_airflow: Callable[..., Any],
    yesterday: Day,
    tmp_path: Path,
) -> None:
    """The receipt is in XCom; a later export brings back what the API still lists, as the receipt says."""
    connect("calls_db", "sqlite", host=str(tmp_path / "calls.db"))
    assert run_in_airflow(export_dag(tmp_path, yesterday)).state == "success"
    within = api.world.ids(created_after=yesterday[0], created_before=yesterday[0].replace(hour=3))
    id_ = next(id_ for id_ in sorted(within) if api.world.is_recorded(id_, now=datetime.now(UTC)))
    found = find_below(tmp_path, id_)
    assert {name.partition("/")[0].partition(".")[0] for name in found} == {
        "calls",
        "delta",
        "files",
        "iceberg",
    }

    def erase() -> dict[str, Any]:
        run = run_in_airflow(erase_dag(tmp_path), run_conf={"ids": [id_, "missing"]})
        assert run.state == "success"
        return {kind: run.get_task_instance(kind).xcom_pull(task_ids=kind) for kind in KINDS}

    for receipt in erase().values():
        assert (receipt["erased"], receipt["not_found"], receipt["still_listed"]) == (1, ["missing"], [id_])
        assert receipt["tables"]["conversations"]["rows"] == 1
    assert find_below(tmp_path, id_) == []
    for receipt in erase().values():
        assert (receipt["erased"], receipt["tables"], receipt["manifests_rewritten"]) == (0, {}, 0)
    assert run_in_airflow(export_dag(tmp_path, yesterday)).state == "success"
    assert find_below(tmp_path, id_)


def test_conversations_are_erased_from_an_s3_bucket(
    api: Emulator, connect: Callable[..., str], s3_connection: str, yesterday: Day
) -> None:
    """A connection is used, and files without the conversation are not rewritten."""
    store = {"path": "s3://exports/erasure", "storage_conn_id": s3_connection}
    for hour in (0, 1):
        bounds = {
            "interval_start": yesterday[0].replace(hour=hour),
            "interval_end": yesterday[0].replace(hour=hour + 1),
        }
        VoiceOSToObjectStorageOperator(task_id="export", **store, **bounds).execute({})
    id_ = min(api.world.ids(created_after=yesterday[0], created_before=yesterday[0].replace(hour=1)))
    receipt = VoiceOSEraseConversationsOperator(task_id="erase", ids=id_, **store).execute({})
    assert receipt["tables"]["conversations"] == {"rows": 1, "files_rewritten": 1, "files_deleted": 0}
    assert (receipt["manifests_rewritten"], receipt["still_listed"]) == (1, None)
    again = VoiceOSEraseConversationsOperator(task_id="erase", ids=[id_], **store).execute({})
    assert (again["erased"], again["not_found"], again["tables"]) == (0, [id_], {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": ["a"]}, "Set the parameters of one target"),
        ({"ids": ["a"], "path": "/data", "sql_conn_id": "calls_db"}, "Set the parameters of one target"),
        ({"ids": [], "path": "/data"}, "ids is empty"),
        ({"ids": ["a", ""], "path": "/data"}, "ids is empty, or one of them is"),
        ({"ids": "['a', 'b']", "path": "/data"}, r"add the filter: \{\{ params.ids \| tojson \}\}"),
        ({"ids": ["a"], "path": "relative"}, "is relative"),
        ({"ids": "a", "path": "/data", "schema": "calls"}, "schema does not apply to files"),
        ({"ids": "a", "path": "/data", "namespace": "calls"}, "namespace does not apply to files"),
        (
            {"ids": "a", "sql_conn_id": "db", "storage_conn_id": "store"},
            "storage_conn_id does not apply to a database",
        ),
        ({"ids": "a", "catalog": "lake", "storage_options": {"a": "b"}}, "storage_options does not apply"),
    ],
)
def test_wrong_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    """The task is not retried."""
    with pytest.raises(AirflowFailException, match=message):
        VoiceOSEraseConversationsOperator(task_id="erase", **arguments).execute({})


def test_parameters_that_a_template_renders_to_none_are_not_set(tmp_path: Path) -> None:
    """One DAG for several targets needs it."""
    none: dict[str, Any] = dict.fromkeys(
        ("sql_conn_id", "delta_path", "storage_conn_id", "voiceos_conn_id"), "None"
    )
    with pytest.raises(AirflowFailException, match="holds no export"):
        VoiceOSEraseConversationsOperator(task_id="erase", ids="a", path=str(tmp_path), **none).execute({})


def test_missing_connection_is_named() -> None:
    """The message has the parameter."""
    with pytest.raises(AirflowNotFoundException, match="sql_conn_id"):
        VoiceOSEraseConversationsOperator(task_id="erase", ids="a", sql_conn_id="missing").execute({})


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_lake_without_tables_is_an_error(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped path must not look like a completed erasure."""
    assert main(["erase", f"{kind}:{tmp_path / 'typo'}", "--id", "a"]) == 5
    assert "holds no export" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_reading_or_erasing_creates_no_database(
    kind: str, connect: Callable[..., str], tmp_path: Path
) -> None:
    """A mistyped connection leaves no empty file behind."""
    connect("typo", kind, host=str(tmp_path / "typo.db"))
    erasing = VoiceOSEraseConversationsOperator(task_id="erase", ids="a", sql_conn_id="typo")
    checking = VoiceOSCoverageCheckOperator(task_id="check", sql_conn_id="typo")
    for task in (erasing, checking):
        with pytest.raises(AirflowFailException, match=r"The file .*typo\.db does not exist"):
            task.execute({})
    assert not [*tmp_path.iterdir()]


def test_erasing_creates_no_catalog(tmp_path: Path) -> None:
    """A mistyped warehouse leaves no empty catalog behind."""
    erasing = VoiceOSEraseConversationsOperator(task_id="erase", ids="a", warehouse=str(tmp_path / "typo"))
    with pytest.raises(AirflowFailException, match=r"holds no export: catalog\.db does not exist"):
        erasing.execute({})
    assert not [*tmp_path.iterdir()]


def test_a_namespace_of_iceberg_is_selected_on_the_command_line(
    api: Emulator, yesterday: Day, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables in another namespace stay."""
    start, end = yesterday
    for namespace in ("voiceos", "crm"):
        VoiceOSToIcebergOperator(
            task_id="load",
            warehouse=str(tmp_path),
            namespace=namespace,
            interval_start=start,
            interval_end=end,
        ).execute({})
    id_ = min(api.world.ids(created_after=start, created_before=end))
    for erased in (1, 0):
        capsys.readouterr()
        assert main(["erase", f"iceberg:{tmp_path}", "--namespace", "crm", "--id", id_, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["erased"] == erased
    assert main(["erase", f"iceberg:{tmp_path}", "--id", id_, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["erased"] == 1


def test_a_prefix_selects_the_tables_of_a_lake(api: Emulator, yesterday: Day, tmp_path: Path) -> None:
    """Tables without it stay."""
    start, end = yesterday
    for prefix in ("", "crm_"):
        VoiceOSToDeltaLakeOperator(
            task_id="load", path=str(tmp_path), table_prefix=prefix, interval_start=start, interval_end=end
        ).execute({})
    id_ = min(api.world.ids(created_after=start, created_before=end))
    assert main(["erase", f"delta:{tmp_path}", "--table-prefix", "crm_", "--id", id_]) == 0
    tables = [DeltaTable(f"{tmp_path}/{prefix}conversations").to_pyarrow_table() for prefix in ("", "crm_")]
    assert [id_ in table.column("id").to_pylist() for table in tables] == [True, False]
