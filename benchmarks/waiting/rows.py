"""Metadata database of an Airflow whose sensors are deferred, written as their workers would write it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

DAG = """
from datetime import UTC, datetime
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from voiceos_provider.sensors.voiceos import VoiceOSConversationsEndedSensor

with DAG("waiting", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    EmptyOperator(task_id="probe")
    VoiceOSConversationsEndedSensor.partial(task_id="wait", deferrable=True).expand_kwargs({windows})
"""


def prepare(scenario: str) -> None:
    """Create a database with one DAG run of deferred sensors, and a trigger that measures the event loop."""
    from airflow.utils import db

    db.initdb()
    from airflow.configuration import conf
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import BaseTrigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    from benchmarks.waiting.triggers import Alone, LagProbe
    from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedTrigger

    wanted = json.loads(scenario)
    home = Path(conf.get("core", "dags_folder"))
    windows = [{"interval_start": start, "interval_end": end} for start, end in wanted["windows"]]
    (home / "waiting.py").write_text(DAG.replace("{windows}", repr(windows)))
    bag = DagBag(str(home))
    assert bag.import_errors == {}, bag.import_errors
    now = datetime.now(UTC)
    kind = Alone if wanted["way"] == "alone" else VoiceOSConversationsEndedTrigger
    with create_session() as session:
        session.add(DagBundleModel(name="bench"))
        session.commit()
        sync_bag_to_db(bag, "bench", None)
        dag = SerializedDagModel.get_dag("waiting")
        assert dag is not None
        run = dag.create_dagrun(
            run_id="bench", run_after=now, run_type=DagRunType.MANUAL, state=DagRunState.RUNNING,
            triggered_by=DagRunTriggeredByType.TEST, session=session,
        )  # fmt: skip
        run.dag = dag
        run.task_instance_scheduling_decisions(session=session)
        session.flush()
        for instance in run.get_task_instances(session=session):
            if instance.task_id == "probe":
                trigger: BaseTrigger = LagProbe(file=str(home / "lag.json"))
            elif not windows:
                continue
            else:
                trigger = kind(
                    voiceos_conn_id="voiceos_default",
                    **windows[instance.map_index],
                    poke_interval=wanted["poke_interval"],
                    waiting_since=now.isoformat(),
                    deadline=(now + timedelta(days=7)).isoformat(),
                )
            row = Trigger.from_object(trigger)
            session.add(row)
            session.flush()
            instance.trigger_id = row.id
            instance.state = TaskInstanceState.DEFERRED
            instance.next_method, instance.next_kwargs = "execute_complete", {}
            instance.start_date = now
        session.commit()
