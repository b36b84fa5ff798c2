"""The examples of the page about waiting, run in one Airflow process."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.lifecycles import add, end
from voiceos_provider.emulator import Emulator, World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "waiting.md").read_text()
DAGS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def last_hour() -> datetime:
    """Return the start of the last whole hour, the interval of an hourly run."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


@pytest.fixture
def world(last_hour: datetime) -> World:
    """Return a world without conversations."""
    return World(
        seed=5, conversations=0, start=last_hour - timedelta(days=1), end=last_hour + timedelta(hours=3)
    )


@pytest.mark.parametrize("way", ["deferrable=True", "mode='poke'", "mode='reschedule'"])
def test_example_waits_and_exports_ended_conversations(
    way: str,
    api: Emulator,
    world: World,
    last_hour: datetime,
    run_in_airflow: Callable[..., Any],
    dags_in: Callable[..., Any],
    connect: Callable[..., str],
    tmp_path: Path,
) -> None:
    """A call that is active when the DAG starts has ended in the file, in each mode of the sensor."""
    call = add(world, created=last_hour, started=last_hour)
    api.before_list = lambda nth: end(world, call, datetime.now(UTC)) if nth == 6 else None
    text = (ROOT / "example_dags" / "voiceos_wait_then_export.py").read_text()
    text = text.replace("poke_interval=60", "poke_interval=0.2, visibility_delay=0").replace(
        "deferrable=True", way
    )
    text = text.replace('params.path }}"', 'params.path }}", visibility_delay=timedelta(0)')
    text = text.replace('params.sql_conn_id }}"', 'params.sql_conn_id }}", visibility_delay=timedelta(0)')
    connect("warehouse", "sqlite", host=str(tmp_path / "warehouse.sqlite"))
    (tmp_path / "hourly.py").write_text(text)
    (dag,) = dags_in(tmp_path).values()
    run = run_in_airflow(dag, run_conf={"path": f"file://{tmp_path}/exports"})
    assert run.state == "success"
    wait = run.get_task_instance("wait_for_the_end")
    waited = wait.xcom_pull(task_ids="wait_for_the_end")
    assert waited["interval_start"] == last_hour.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert waited["counts"] == {"queued": 0, "started": 0, "ended": None}
    rows = pd.read_parquet(tmp_path / "exports" / "conversations")
    assert rows[["id", "status"]].to_numpy().tolist() == [[call, "ended"]]
    with closing(sqlite3.connect(tmp_path / "warehouse.sqlite")) as warehouse:
        assert warehouse.execute("SELECT id, status FROM conversations").fetchall() == [(call, "ended")]


@pytest.mark.parametrize("block", DAGS, ids=lambda block: re.search(r'dag_id="(\w+)"', block)[1])
def test_each_dag_of_the_page_loads(block: str, dags_in: Callable[..., Any], tmp_path: Path) -> None:
    """The file is an exact copy of the block."""
    (tmp_path / "dag.py").write_text(block)
    assert len(dags_in(tmp_path)) == 1


@pytest.mark.parametrize("dag_id", ["voiceos_wait_then_export", "voiceos_wait_for_calls", "voiceos_health"])
def test_each_dag_without_events_runs(
    dag_id: str,
    api: Emulator,
    run_in_airflow: Callable[..., Any],
    dags_in: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The account has no active conversation."""
    (block,) = (block for block in DAGS if f'"{dag_id}"' in block)
    block = block.replace("file:///data", f"file://{tmp_path}").replace(
        "max_age=timedelta(hours=2)", "visibility_delay=0, poke_interval=0.5"
    )
    block = block.replace("StorageOperator(", "StorageOperator(visibility_delay=timedelta(0), ")
    (tmp_path / "dag.py").write_text(block)
    (dag,) = dags_in(tmp_path).values()
    assert run_in_airflow(dag).state == "success"


FRESH = """
from datetime import UTC, datetime, timedelta
from functools import cache

from airflow.providers.common.compat.sdk import DAG
from voiceos_provider.operators.voiceos import VoiceOSListConversationsOperator


@cache
def now():  # evaluated when the task starts
    return datetime.now(UTC).isoformat()


with DAG("fresh", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), user_defined_macros={{"now": now}}):
    VoiceOSListConversationsOperator(
        task_id="list",
        interval_start="{start}",
        interval_end="{{{{ now() }}}}",
        visibility_delay=7,
        deferrable={deferrable},
    )
"""


@pytest.mark.parametrize("deferrable", [False, True])
def test_export_of_a_fresh_interval_frees_its_worker_until_readable(
    deferrable: bool,  # noqa: FBT001
    api: Emulator,
    world: World,
    run_in_airflow: Callable[..., Any],
    dags_in: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The task is rescheduled or deferred after one request, and exports in its second run."""
    start = datetime.now(UTC) - timedelta(minutes=1)
    add(world, created=start + timedelta(seconds=5))
    (tmp_path / "fresh.py").write_text(FRESH.format(start=start.isoformat(), deferrable=deferrable))
    (dag,) = dags_in(tmp_path).values()
    run = run_in_airflow(dag)
    assert run.state == "success"
    end_of_interval = datetime.fromisoformat(dag.user_defined_macros["now"]())
    assert datetime.now(UTC) >= end_of_interval + timedelta(seconds=7)
    task = run.get_task_instance("list")
    assert task.try_number == 1
    assert len(task.xcom_pull(task_ids="list")) == 1
    control = [request for request in api.requests if request.query.get("limit") == "1"]
    assert 2 <= len(control) <= 6, "the task does not run again and again before its time"


def test_page_names_every_parameter_and_default_of_the_sensor() -> None:
    """It also describes the result."""
    import inspect

    from voiceos_provider.sensors.voiceos import VoiceOSConversationsEndedSensor

    for name in inspect.signature(VoiceOSConversationsEndedSensor.__init__).parameters:
        assert name in {"self", "kwargs", "voiceos_conn_id"} or f"`{name}`" in PAGE or f"{name}=" in PAGE
