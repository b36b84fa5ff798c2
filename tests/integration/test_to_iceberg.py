"""`VoiceOSToIcebergOperator` with connections of Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from voiceos_provider.cli.main import main
from voiceos_provider.emulator import Emulator
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.load.lake.iceberg import embedded_catalog
from voiceos_provider.transfers.voiceos_to_iceberg import VoiceOSToIcebergOperator
from voiceos_provider.utils.lakes import catalog_properties


def operator(yesterday: tuple[datetime, datetime], **arguments: Any) -> VoiceOSToIcebergOperator:
    """Return an operator that exports yesterday."""
    start, end = (bound.isoformat() for bound in yesterday)
    return VoiceOSToIcebergOperator(task_id="export", interval_start=start, interval_end=end, **arguments)


def existing(folder: Path, name: str, catalog: str = "default") -> Table:
    """Return a table of an embedded catalog."""
    return load_catalog(catalog, **embedded_catalog(str(folder))).load_table(name)


def ids(table: Table) -> set[str]:
    """Return the ids in a table."""
    return set(table.scan(selected_fields=("id",)).to_arrow().column("id").to_pylist())


def test_export_through_a_connection(
    api: Emulator, connect: Any, yesterday: tuple[datetime, datetime], tmp_path: Path
) -> None:
    """The extra of the connection has the catalog's properties; a second run changes nothing."""
    properties = embedded_catalog(str(tmp_path))
    uri = properties.pop("uri")
    connect("lake", conn_type="iceberg", host=uri, extra=properties)
    arguments = {"iceberg_conn_id": "lake", "namespace": "calls", "table_prefix": "voiceos_"}
    receipts = [operator(yesterday, **arguments).execute({}) for _ in range(2)]
    expected = set(api.world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert len(expected) > 100
    loaded = receipts[0]["tables"]["conversations"]
    assert (loaded["inserted"], receipts[1]["tables"]["conversations"]["unchanged"]) == (len(expected),) * 2
    assert receipts[0]["target"] == "iceberg://lake/calls/voiceos_conversations"
    table = existing(tmp_path, "calls.voiceos_conversations", "lake")
    assert ids(table) == expected
    assert len(table.snapshots()) == 1


def test_export_into_an_embedded_catalog(
    api: Emulator, yesterday: tuple[datetime, datetime], tmp_path: Path
) -> None:
    """A local directory is enough to try it out."""
    operator(yesterday, warehouse=str(tmp_path / "lake"), tables=["conversations"]).execute({})
    expected = set(api.world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert ids(existing(tmp_path / "lake", "voiceos.conversations")) == expected


def test_connection_becomes_the_properties_of_the_catalog(connect: Any) -> None:
    """They equal those of Airflow's own hook for Iceberg: client id and secret are for REST catalogs only."""
    rest = {"host": "https://catalog.example.com", "login": "id", "password": "secret"}
    connect("rest", conn_type="iceberg", extra={"warehouse": "prod"}, **rest)
    assert catalog_properties("rest") == {
        "uri": "https://catalog.example.com",
        "warehouse": "prod",
        "credential": "id:secret",
    }
    connect("bearer", conn_type="iceberg", host="https://catalog.example.com", password="token")
    assert catalog_properties("bearer") == {"uri": "https://catalog.example.com", "token": "token"}
    connect("glue", conn_type="iceberg", extra={"type": "glue", "glue.region": "eu-central-1"})
    assert catalog_properties("glue") == {"type": "glue", "glue.region": "eu-central-1"}


def test_wrong_connections_are_rejected(
    api: Emulator, connect: Any, yesterday: tuple[datetime, datetime]
) -> None:
    """The error comes before any read, and names the parameter."""
    with pytest.raises(AirflowNotFoundException, match="iceberg_conn_id"):
        operator(yesterday, iceberg_conn_id="missing").execute({})
    connect("warehouse", conn_type="postgres", host="localhost")
    with pytest.raises(AirflowFailException, match="Choose the type Iceberg"):
        operator(yesterday, iceberg_conn_id="warehouse").execute({})
    with pytest.raises(AirflowFailException, match="write_disposition 'upsert'"):
        operator(yesterday, catalog="other", write_disposition="upsert").execute({})
    with pytest.raises(AirflowFailException, match="max_bad_records"):
        operator(yesterday, catalog="other", max_bad_records=1).execute({})


def test_command_merges_into_an_embedded_catalog(
    api: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A second run changes nothing."""
    monkeypatch.setenv("VOICEOS_BASE_URL", VoiceOSHook().get_conn().config.base_url)
    monkeypatch.setenv("VOICEOS_TOKEN", api.token)
    receipts = []
    for _ in range(2):
        capsys.readouterr()
        assert main(["export", f"iceberg:{tmp_path / 'lake'}", "--json"]) == 0
        receipts.append(json.loads(capsys.readouterr().out)["tables"]["conversations"])
    assert receipts[0]["inserted"] == receipts[1]["unchanged"] > 100
    assert len(ids(existing(tmp_path / "lake", "voiceos.conversations"))) == receipts[0]["inserted"]


def test_example_dags_export_hours_compact_them_and_expire_snapshots(
    examples: dict[str, Any],
    run_in_airflow: Callable[..., Any],
    api: Emulator,
    connect: Any,
    yesterday: tuple[datetime, datetime],
    tmp_path: Path,
) -> None:
    """Three hours of the day before yesterday leave three files and snapshots; afterwards there is one of each."""
    properties = embedded_catalog(str(tmp_path))
    connect("iceberg_default", conn_type="iceberg", host=properties.pop("uri"), extra=properties)
    for hour in (-10, -9, -8):
        bounds = [yesterday[0] + timedelta(hours=hour + after) for after in (0, 1)]
        names = ("interval_start", "interval_end")
        conf = {name: at.isoformat() for name, at in zip(names, bounds, strict=True)}
        assert run_in_airflow(examples["voiceos_hourly_iceberg"], run_conf=conf).state == "success"
    before = existing(tmp_path, "voiceos.conversations", "iceberg_default")
    assert (len(list(before.scan().plan_files())), len(before.snapshots())) == (3, 3)
    run = run_in_airflow(examples["voiceos_iceberg_maintenance"], run_conf={"keep_days": 0})
    assert run.state == "success"
    after = existing(tmp_path, "voiceos.conversations", "iceberg_default")
    assert (len(list(after.scan().plan_files())), len(after.snapshots())) == (1, 1)
    assert ids(after) == ids(before) != set()
