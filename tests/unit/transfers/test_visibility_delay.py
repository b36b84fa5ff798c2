"""A task whose interval has just ended releases its worker until the interval is readable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from voiceos_provider.emulator import Emulator
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

DAY = timedelta(days=1)
OPERATORS = (VoiceOSListConversationsOperator, VoiceOSToObjectStorageOperator, VoiceOSToSqlOperator)


def operator(kind: type, tmp_path: Path, **options: Any) -> Any:
    """Return an operator that exports the day that has just ended: an hour of the night may have no conversations."""
    end = datetime.now(UTC)
    targets: dict[Any, dict[str, str]] = {
        VoiceOSToObjectStorageOperator: {"path": f"file://{tmp_path}"},
        VoiceOSToSqlOperator: {"sql_conn_id": "warehouse"},
    }
    bounds = {"interval_start": (end - DAY).isoformat(), "interval_end": end.isoformat()}
    return kind(task_id="export", **bounds, **targets.get(kind, {}), **options)


@pytest.mark.parametrize("kind", OPERATORS)
def test_it_defers_until_the_interval_is_readable(
    api: Emulator, connect: Any, tmp_path: Path, kind: type
) -> None:
    """One request has read the clock and checked the bounds; the database is not opened."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "voiceos.sqlite"))
    waiting = operator(kind, tmp_path, deferrable=True, visibility_delay=600)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    assert deferred.value.method_name == "execute_readable"
    _, arguments = deferred.value.trigger.serialize()
    assert not [*tmp_path.iterdir()]
    left = (arguments["moment"] - datetime.now(UTC)).total_seconds()
    assert 500 < left < 601
    assert len(api.requests) == 1


def test_a_task_resumed_by_the_triggerer_exports(api: Emulator, connect: Any, tmp_path: Path) -> None:
    """This holds for each operator."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "voiceos.sqlite"))
    files = operator(VoiceOSToObjectStorageOperator, tmp_path, deferrable=True, visibility_delay=0)
    rows = operator(VoiceOSToSqlOperator, tmp_path, deferrable=True, visibility_delay=timedelta(0))
    listed = operator(VoiceOSListConversationsOperator, tmp_path, deferrable=True, visibility_delay=0)
    receipts = [each.execute_readable({}, {"moment": "now"}) for each in (files, rows)]
    assert receipts[0]["exported"] == receipts[1]["exported"] == len(listed.execute_readable({})) > 0


def test_a_task_without_a_wait_is_not_deferred(api: Emulator, tmp_path: Path) -> None:
    """It exports at once."""
    assert operator(VoiceOSToObjectStorageOperator, tmp_path, deferrable=True, visibility_delay=0).execute(
        {}
    )["exported"]


@pytest.mark.parametrize("visibility_delay", ["soon", -1, None, float("nan")])
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("kind", OPERATORS)
def test_an_invalid_visibility_delay_fails_at_once(
    api: Emulator,
    connect: Any,
    tmp_path: Path,
    kind: type,
    visibility_delay: Any,
    deferrable: bool,  # noqa: FBT001
) -> None:
    """The message shows a valid one."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "voiceos.sqlite"))
    with pytest.raises(AirflowFailException, match=r"visibility_delay .* is not a duration; write seconds"):
        operator(kind, tmp_path, visibility_delay=visibility_delay, deferrable=deferrable).execute({})


def test_carry_pending_may_be_seconds(api: Emulator, tmp_path: Path) -> None:
    """It is a duration, like every other."""
    carrying = operator(VoiceOSToObjectStorageOperator, tmp_path, visibility_delay=0, carry_pending=3_600)
    assert carrying.execute({})["carried"] == 0
    carrying.carry_pending = "a day"
    with pytest.raises(AirflowFailException, match="carry_pending 'a day' is not a duration"):
        carrying.execute({})


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_wrong_argument_fails_before_the_wait(
    api: Emulator, connect: Any, tmp_path: Path, kind: type
) -> None:
    """It does not fail an hour later, in another process."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "voiceos.sqlite"))
    with pytest.raises(AirflowFailException, match="finished"):
        operator(kind, tmp_path, status="finished", deferrable=True, visibility_delay=600).execute({})
    assert not api.requests


@pytest.mark.parametrize("kind", OPERATORS)
def test_one_destination_serves_the_checks_and_the_export(
    api: Emulator, connect: Any, tmp_path: Path, kind: type
) -> None:
    """Each one reads connections, and may load packages and send requests for credentials."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "voiceos.sqlite"))
    opened = []

    class Counted(kind):
        def destination(self, options: Any) -> Any:
            opened.append(super().destination(options))
            return opened[-1]

    exporting = operator(kind, tmp_path, visibility_delay=0)
    exporting.__class__ = Counted
    assert exporting.execute({})
    assert len(opened) == 1


def test_carry_pending_needs_the_table_of_conversations(api: Emulator, connect: Any, tmp_path: Path) -> None:
    """Its rows are the record of conversations that had not ended."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "voiceos.sqlite"))
    for deferrable in (False, True):
        loading = operator(
            VoiceOSToSqlOperator,
            tmp_path,
            tables=["conversation_costs"],
            carry_pending=timedelta(days=3),
            visibility_delay=0,
            deferrable=deferrable,
        )
        with pytest.raises(
            AirflowFailException, match="carry_pending needs every state and the table 'conversations'"
        ):
            loading.execute({})
