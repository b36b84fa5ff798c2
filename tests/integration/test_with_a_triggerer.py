"""The waiting example DAGs in an Airflow of real processes whose triggerer is killed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from tests.support.lifecycles import add, end
from tests.support.real_airflow import RealAirflow
from voiceos_provider.emulator import Emulator, World

ROOT = Path(__file__).parents[2]
MINUTE = timedelta(minutes=1)
CROWD = '''
"""Six tasks that wait for other things, and write down each time they are resumed."""
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG
from voiceos_provider.sensors.voiceos import VoiceOSConversationsEndedSensor


class Telling(VoiceOSConversationsEndedSensor):
    def execute_complete(self, context, event=None):
        with Path("{reported}").open("a") as reported:
            reported.write(f"{{context['ti'].map_index}}\\n")
        return super().execute_complete(context, event)


with DAG("crowd", schedule="@once", start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    wait = Telling.partial(task_id="wait", deferrable=True, poke_interval=2, visibility_delay=0, retries=2)
    wait.expand_kwargs({questions})
'''


def example(name: str, *replaced: tuple[str, str]) -> str:
    """Return the source of an example DAG with shorter waits."""
    text = (ROOT / "example_dags" / f"{name}.py").read_text()
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return text


def test_deferred_tasks_resume_once_after_the_triggerer_is_killed(tmp_path: Path) -> None:
    """Many sensors wait in both example DAGs; the event watcher continues from its cursor."""
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    world = World(seed=5, conversations=0, start=now - timedelta(days=1), end=now + timedelta(hours=2))
    before = [
        add(world, created=now - n * MINUTE, started=now - n * MINUTE, ended=now - n * MINUTE)
        for n in (9, 7, 4)
    ]
    running = add(world, created=hour + 30 * MINUTE, started=hour + 31 * MINUTE)
    recent = add(world, created=now - 5 * MINUTE, started=now - 5 * MINUTE)
    emulator = Emulator(world)
    interval = {"interval_start": hour.isoformat(), "interval_end": (hour + timedelta(hours=1)).isoformat()}
    part = {
        "interval_start": (hour + 30 * MINUTE).isoformat(),
        "interval_end": (hour + 31 * MINUTE).isoformat(),
    }
    questions: list[dict[str, Any]] = [interval, interval, part, {"conversation_ids": [recent]}]
    questions += [{"conversation_ids": [running, recent]}, part | {"max_age": None, "min_conversations": 1}]
    with emulator.serve() as url, RealAirflow(tmp_path, {"host": url, "password": emulator.token}) as airflow:
        reported, exports = tmp_path / "reported", tmp_path / "exports"
        (airflow.dags / "crowd.py").write_text(CROWD.format(reported=reported, questions=questions))
        hourly = example(
            "voiceos_wait_then_export",
            ("poke_interval=60", "poke_interval=2, visibility_delay=0"),
            ("/tmp/", f"{exports}/"),
            ('params.path }}"', 'params.path }}", visibility_delay=timedelta(0)'),
            ('params.sql_conn_id }}"', 'params.sql_conn_id }}", visibility_delay=timedelta(0)'),
        )
        (airflow.dags / "hourly.py").write_text(hourly)
        on_end = example(
            "voiceos_on_end",
            ("poke_interval=60", "poke_interval=2, lookback=1800, visibility_delay=1, max_age=7200"),
            ("/tmp/", f"{exports}/"),
            ("visibility_delay=timedelta(minutes=1)", "visibility_delay=timedelta(seconds=1)"),
        )
        (airflow.dags / "on_end.py").write_text(on_end)

        def states(dag_id: str, task_id: str) -> list[Any]:
            query = "SELECT state, try_number FROM task_instance WHERE dag_id = ? AND task_id = ?"
            return airflow.query(query, dag_id, task_id)

        def events() -> list[dict[str, Any]]:
            extras = [extra for (extra,) in airflow.query("SELECT extra FROM asset_event ORDER BY id")]
            return [extra["payload"] for extra in extras if "payload" in extra]  # the others are of exports

        def stored_windows() -> set[str]:
            ((cursor,),) = airflow.query("SELECT value FROM asset_state_store")
            windows = [json.loads(cursor)[name] for name in ("unconfirmed", "unchecked")]
            return {start for some in windows for start, _ in some}

        # Until all tasks wait, and the watcher has reported earlier ends.
        airflow.until(lambda: states("crowd", "wait") == [("deferred", 1)] * 6)
        airflow.until(lambda: ("deferred", 1) in states("voiceos_wait_then_export", "wait_for_the_end"))
        airflow.until(lambda: {id_ for event in events() for id_ in event["conversation_ids"]} == set(before))
        # The cursor no longer holds their windows: earlier, a restart correctly repeats their events.
        airflow.until(lambda: not {event["interval_start"] for event in events()} & stored_windows())

        airflow.kill("triggerer")
        asked = len(emulator.requests)
        airflow.start("triggerer")
        airflow.until(lambda: len(emulator.requests) > asked + 6)
        # Exports check that there is no page 0.
        assert {r.status for r in emulator.requests if r.query.get("index") != "0"} == {200}
        for call in (running, recent):
            end(world, call, datetime.now(UTC))

        airflow.until(lambda: states("crowd", "wait") == [("success", 1)] * 6)
        airflow.until(lambda: recent in [id_ for event in events() for id_ in event["conversation_ids"]])
        # The runs that these events started; all of them succeed.
        airflow.until(
            lambda: (
                airflow.query("SELECT state FROM dag_run WHERE state != 'success'") == []
                and len(list(exports.glob("voiceos_on_end/conversations/*"))) >= 2
            )
        )
        assert sorted(reported.read_text().split()) == ["0", "1", "2", "3", "4", "5"]
        hourly_rows = duckdb.sql(
            f"SELECT id, status FROM '{exports}/voiceos_hourly/conversations/*.parquet'"
        ).fetchall()
        # Of the second hour, if it began during this test.
        assert {(running, "ended"), (recent, "ended")} & set(hourly_rows)
        assert {status for _, status in hourly_rows} == {"ended"}
        exported = duckdb.sql(
            f"SELECT DISTINCT id FROM '{exports}/voiceos_on_end/conversations/*.parquet'"
        ).fetchall()
        assert {id_ for (id_,) in exported} >= {*before, recent}
        once = [id_ for event in events() for id_ in event["conversation_ids"]]
        assert len(once) == len(set(once)), "the cursor was stored before the triggerer was killed"
