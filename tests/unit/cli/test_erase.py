"""`voiceos erase`: remove conversations from a target."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.erasing import find_below
from voiceos_provider.emulator import Emulator
from voiceos_provider.interval import isoformat
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

Day = tuple[datetime, datetime]


def test_conversations_are_erased_from_files(
    voiceos: Any, served: Emulator, yesterday: Day, tmp_path: Path
) -> None:
    """The receipt has counts; a second run says that there is nothing to erase. The API is not asked."""
    bounds = [isoformat(bound) for bound in yesterday]
    voiceos("export", tmp_path, "--interval-start", bounds[0], "--interval-end", bounds[1])
    first, second = sorted(served.world.ids(created_after=yesterday[0], created_before=yesterday[1]))[:2]
    served.requests.clear()
    ran = voiceos("erase", tmp_path, "--id", first, "--id", second, "--id", "missing", "--json")
    assert ran.code == 0
    assert ran.json["tables"]["conversations"] == {"rows": 2, "files_rewritten": 1, "files_deleted": 0}
    assert (ran.json["requested"], ran.json["erased"], ran.json["not_found"]) == (3, 2, ["missing"])
    assert (ran.json["target"], ran.json["still_listed"]) == (str(tmp_path), None)
    assert find_below(tmp_path, first, second) == []
    again = voiceos("erase", tmp_path, "--id", first)
    assert (again.code, again.out) == (0, f"Nothing to erase: {tmp_path} holds none of 1 conversations.\n")
    assert not served.requests
    assert voiceos("coverage", tmp_path).code == 0


def test_the_api_is_asked_on_request(voiceos: Any, served: Emulator, yesterday: Day, tmp_path: Path) -> None:
    """Once for each id; what it still returns comes back with the next export."""
    listed = min(served.world.ids(created_after=yesterday[0], created_before=yesterday[1]))
    bounds = [bound.isoformat() for bound in yesterday]
    voiceos("export", tmp_path, "--interval-start", bounds[0], "--interval-end", bounds[1])
    served.requests.clear()
    ran = voiceos("erase", tmp_path, "--id", "gone", "--id", listed, "--check-api", "--json")
    assert (ran.code, ran.json["still_listed"]) == (0, [listed])
    assert len(served.requests) == 2
    shown = voiceos("erase", tmp_path, "--id", listed, "--check-api")
    assert "The API still returns 1 of them" in shown.out
    assert listed not in shown.out


def test_a_target_without_exports_is_an_error(voiceos: Any, tmp_path: Path) -> None:
    """A mistyped path must not look like a completed erasure."""
    ran = voiceos("erase", tmp_path / "typo", "--id", "a")
    assert (ran.code, "holds no export" in ran.err) == (5, True), ran.err


def test_conversations_are_erased_from_a_database(
    voiceos: Any, api: Emulator, connect: Callable[..., str], yesterday: Day, tmp_path: Path
) -> None:
    """By its connection, with a prefix; the connection of the API is used for the check."""
    connect("calls_db", "sqlite", host=str(tmp_path / "calls.db"))
    start, end = yesterday
    VoiceOSToSqlOperator(
        task_id="load", sql_conn_id="calls_db", table_prefix="v_", interval_start=start, interval_end=end
    ).execute({})
    id_ = min(api.world.ids(created_after=start, created_before=end))
    target = ("--sql-conn-id", "calls_db", "--table-prefix", "v_")
    assert find_below(tmp_path, id_)
    ran = voiceos("erase", *target, "--id", id_, "--conn-id", "voiceos_default", "--json")
    assert (ran.json["erased"], ran.json["still_listed"]) == (1, [id_])
    assert ran.json["tables"]["conversations"]["rows"] == 1
    assert find_below(tmp_path, id_) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["/data"], 2, "Missing option '--id'"),
        (["/data", "--id", ""], 2, "ids is empty, or one of them is"),
        (["/data", "--id", "a", "--schema", "calls"], 2, "--schema does not apply to files"),
        (["/data", "--id", "a", "--table-prefix", "v_"], 2, "--table-prefix does not apply to files"),
        (["/data", "--id", "a", "--namespace", "v"], 2, "--namespace does not apply to files"),
        (["delta:/data", "--id", "a", "--schema", "v"], 2, "--schema does not apply to Delta Lake"),
        (["iceberg:x", "--id", "a", "--storage-conn-id", "v"], 2, "--storage-conn-id does not apply to Ice"),
        (
            ["--sql-conn-id", "db", "--id", "a", "--storage-conn-id", "v"],
            2,
            "--storage-conn-id does not apply to a database",
        ),
        (["/data", "--id", "a", "--base-url", "http://x"], 2, "--base-url needs --check-api"),
        (["--id", "a"], 2, "either a TARGET or --sql-conn-id"),
        (["/data", "--sql-conn-id", "calls_db", "--id", "a"], 2, "either a TARGET or --sql-conn-id"),
        (["--sql-conn-id", "unknown", "--id", "a"], 2, "No Airflow connection 'unknown'"),
        (["/data", "--id", "a", "--check-api"], 2, "No API token"),
        (["no-such-scheme://x", "--id", "a"], 2, "cannot be opened"),
    ],
)
def test_wrong_options_are_named(voiceos: Any, arguments: list[str], code: int, message: str) -> None:
    """In one line."""
    ran = voiceos("erase", *arguments)
    assert (ran.code, message in ran.err) == (code, True), ran.err
