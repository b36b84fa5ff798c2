"""`voiceos export`: the operator's export, without Airflow."""

from __future__ import annotations

import gzip
import inspect
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from voiceos_provider.cli.export import export
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.interval import Interval
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

Day = tuple[datetime, datetime]

VARYING = {"_exported_at", "exported_at", "bytes", "sha256"}


def plain(receipt: dict[str, Any]) -> dict[str, Any]:
    """Return a receipt without what differs between runs."""
    files = [{key: value for key, value in file.items() if key not in VARYING} for file in receipt["files"]]
    return {key: value for key, value in receipt.items() if key not in VARYING} | {"files": files}


def test_it_writes_what_the_operator_writes(
    voiceos: Any, served: Emulator, api: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """The same receipt, and the same rows in each file."""
    ours = voiceos("export", tmp_path / "a", "--json", "--page-size", 50).json
    operator = VoiceOSToObjectStorageOperator(
        task_id="export", path=str(tmp_path / "b"), interval_start=yesterday[0], interval_end=yesterday[1]
    )
    theirs = json.loads(json.dumps(operator.execute({})).replace(str(tmp_path / "b"), str(tmp_path / "a")))
    assert plain(ours) == plain(theirs)
    for file in ours["files"]:
        here = pq.read_table(file["path"])
        there = pq.read_table(file["path"].replace(str(tmp_path / "a"), str(tmp_path / "b")))
        # Several readers bring them in no order.
        rows = [sorted(map(repr, table.drop_columns("_exported_at").to_pylist())) for table in (here, there)]
        assert rows[0] == rows[1]


def test_it_has_every_parameter_of_the_operator() -> None:
    """All but the connection, which is `--conn-id` here, and what needs a scheduler."""
    classes = [
        c for c in VoiceOSToObjectStorageOperator.__mro__ if c.__module__.startswith("voiceos_provider.")
    ]
    said = {name for each in classes for name in inspect.signature(each.__init__).parameters}
    assert {"path", "tables", "visibility_delay"} <= said
    of_airflow = {"deferrable", "emit_asset", "emit_partition_key", "partition_period"}
    assert said - {"self", "args", "kwargs", "voiceos_conn_id"} - of_airflow <= {
        parameter.name for parameter in export.params
    }


def test_without_an_interval_it_exports_yesterday(
    voiceos: Any, served: Emulator, world: World, yesterday: Day, tmp_path: Path
) -> None:
    """All of it, and what it says names the files."""
    ran = voiceos("export", tmp_path)
    assert ran.code == 0
    expected = len(world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    assert ran.out.startswith(
        f"Conversations created in {Interval(*yesterday)}:\nExported {expected:,} conversations"
    )
    assert "_manifests/" in ran.out


def test_a_day_and_an_interval_say_the_same(
    voiceos: Any, served: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """A day is one from midnight to midnight in UTC."""
    day = voiceos("export", tmp_path, "--day", f"{yesterday[0]:%Y-%m-%d}", "--json").json
    bounds = [yesterday[0].isoformat(), yesterday[1].isoformat()]
    both = voiceos(
        "export", tmp_path, "--interval-start", bounds[0], "--interval-end", bounds[1], "--json"
    ).json
    assert plain(day) == plain(both)


def test_options_reach_the_export(voiceos: Any, served: Emulator, tmp_path: Path) -> None:
    """Format, compression, tables, states, and what is kept of people."""
    receipt = voiceos(
        "export", tmp_path, "--json", "--file-format", "jsonl", "--compression", "gzip",
        "--tables", "conversations", "--tables", "conversation_messages", "--status", "ended,started",
        "--redaction", "messages=drop, phone_numbers=drop",
    ).json  # fmt: skip
    assert [file["table"] for file in receipt["files"]] == ["conversations", "conversation_messages"]
    assert all(file["path"].endswith(".jsonl.gz") for file in receipt["files"])
    assert receipt["status"] == ["ended", "started"]
    with gzip.open(receipt["files"][1]["path"], "rt") as lines:
        rows = [json.loads(line) for line in lines]
    assert rows
    assert all(row["content"] is None for row in rows)


def test_layout_and_file_size_reach_the_export(
    voiceos: Any, served: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """Each day is in its folder; another layout at that path is refused."""
    options = ["--day", f"{yesterday[0]:%Y-%m-%d}", "--target-file-bytes", 1_000_000]
    receipt = voiceos("export", tmp_path, *options, "--layout", "hive", "--json").json
    folders = {Path(file["path"]).parent.name for file in receipt["files"]}
    assert folders == {f"dt={yesterday[0]:%Y-%m-%d}"}
    refused = voiceos("export", tmp_path, *options)
    assert refused.code == 5
    assert "layout was hive, now flat" in refused.err


def test_hashes_need_a_key_from_the_environment_or_a_file(
    voiceos: Any, served: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the error says so."""
    hashed = ["export", tmp_path / "out", "--redaction", "phone_numbers=hash"]
    ran = voiceos(*hashed)
    assert ran.code == 2
    assert "at least 16 characters" in ran.err
    (tmp_path / "key").write_text("a key of sixteen characters\n")
    assert voiceos(*hashed, "--phone-hash-key-file", tmp_path / "key").code == 0
    monkeypatch.setenv("VOICEOS_PHONE_HASH_KEY", "a key of sixteen characters")
    assert voiceos(*hashed).code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["s4://bucket/x"], "Protocol not known: s4"),
        (["delta:x", "--file-format", "csv"], "--file-format does not apply to tables"),
        (["iceberg:x", "--replace-existing"], "--replace-existing does not apply to tables"),
        (["iceberg:x", "--storage-conn-id", "store"], "--storage-conn-id does not apply to Iceberg"),
        (["x", "--day", "yesterday"], "write it like 2026-11-20"),
        (["x", "--day", "2026-11-01", "--interval-start", "2026-11-01T00:00:00Z"], "leave out"),
        (["x", "--interval-start", "2026-11-01T00:00:00Z"], "go together"),
        (
            ["x", "--interval-start", "2026-11-01T00:00", "--interval-end", "2026-11-02T00:00"],
            "has no time zone",
        ),
        (["x", "--tables", "calls"], "'calls' is not one of conversations"),
        (["x", "--status", "over"], "'over' is not one of queued"),
        (["x", "--file-format", "xlsx"], "'xlsx' is not one of parquet"),
        (["x", "--redaction", "messages"], "write it like messages=drop"),
        (["x", "--schema-drift", "ignore"], "'ignore' is not one of keep, fail"),
    ],
)
def test_error_is_one_line(
    voiceos: Any, served: Emulator, arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    """It comes before any request."""
    ran = voiceos("export", *[tmp_path / "x" if word == "x" else word for word in arguments])
    assert ran.code == 2
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1
    assert served.requests == []


def test_a_day_that_is_not_over_is_refused(voiceos: Any, served: Emulator, tmp_path: Path) -> None:
    """As in a DAG."""
    ran = voiceos("export", tmp_path, "--day", f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}")
    assert ran.code == 2
    assert "is in the future" in ran.err


@pytest.mark.parametrize("scheme", ["abfss", "adl"])
def test_a_store_whose_package_is_missing(
    voiceos: Any, served: Emulator, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """What to install is said as in a DAG, for every spelling of a store."""
    monkeypatch.setitem(sys.modules, "adlfs", None)
    ran = voiceos("export", f"{scheme}://container/voiceos")
    assert ran.code == 2
    assert "pip install 'airflow-provider-voiceos[azure]'" in ran.err
    assert served.requests == []


def test_a_folder_that_cannot_be_written_is_code_5(voiceos: Any, served: Emulator, tmp_path: Path) -> None:
    """It names the place."""
    (tmp_path / "file").write_text("")
    ran = voiceos("export", tmp_path / "file")
    assert ran.code == 5
    assert str(tmp_path / "file") in ran.err
