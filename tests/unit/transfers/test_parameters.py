"""Parameters that the transfers inherit: Airflow hands them over as it does those of a class's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException

from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator
from voiceos_provider.transfers.voiceos_recordings_to_object_storage import (
    VoiceOSRecordingsToObjectStorageOperator,
)
from voiceos_provider.transfers.voiceos_to_delta_lake import VoiceOSToDeltaLakeOperator
from voiceos_provider.transfers.voiceos_to_iceberg import VoiceOSToIcebergOperator
from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
from voiceos_provider.transfers.voiceos_to_sql import VoiceOSToSqlOperator

OPERATORS: list[tuple[type[Any], dict[str, Any]]] = [
    (VoiceOSListConversationsOperator, {}),
    (VoiceOSToObjectStorageOperator, {"path": "/data"}),
    (VoiceOSRecordingsToObjectStorageOperator, {"path": "/data"}),
    (VoiceOSToSqlOperator, {"sql_conn_id": "warehouse"}),
    (VoiceOSToIcebergOperator, {}),
    (VoiceOSToDeltaLakeOperator, {"path": "/data"}),
]
every_operator = pytest.mark.parametrize(("operator", "required"), OPERATORS)


def dag(**default_args: Any) -> DAG:
    """Return a DAG whose tasks have these arguments by default."""
    return DAG(
        "exports", start_date=datetime(2026, 11, 1, tzinfo=UTC), schedule=None, default_args=default_args
    )


@every_operator
def test_default_args_set_inherited_parameters(operator: type[Any], required: dict[str, Any]) -> None:
    """An argument of the task itself comes first."""
    with dag(voiceos_conn_id="other", max_concurrency=2, retries=3):
        task = operator(task_id="export", max_concurrency=1, **required)
    assert (task.voiceos_conn_id, task.max_concurrency, task.retries) == ("other", 1, 3)


@every_operator
def test_inherited_parameters_can_be_mapped(operator: type[Any], required: dict[str, Any]) -> None:
    """One task instance for each value."""
    with dag():
        mapped = operator.partial(task_id="export", status="ended", **required).expand(
            interval_start=["2026-11-01", "2026-11-02"]
        )
    assert mapped.partial_kwargs["status"] == "ended"


@every_operator
def test_a_misspelt_parameter_is_refused(operator: type[Any], required: dict[str, Any]) -> None:
    """Airflow names it while it parses the DAG file."""
    with pytest.raises((TypeError, AirflowException), match="max_concurency"):
        operator(task_id="export", max_concurency=1, **required)


@every_operator
def test_each_templated_field_is_an_attribute(operator: type[Any], required: dict[str, Any]) -> None:
    """Fields of the base class are included."""
    task = operator(task_id="export", **required)
    assert {"voiceos_conn_id", "interval_start", "interval_end", "status", "redaction"} <= {
        *task.template_fields
    }
    assert [name for name in task.template_fields if not hasattr(task, name)] == []
