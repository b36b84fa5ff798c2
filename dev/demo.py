"""Run the nightly example DAG through Airflow against the emulator, and show what landed.

Everything has an embedded default: a fresh Airflow home, the emulator on a free port, a folder for the files.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / ".demo"
FILES = DEMO / "voiceos"
DAG_ID, TASK_ID = "voiceos_nightly_export", "export_conversations"


def main() -> int:
    """Demonstrate; 0 if the DAG run succeeded."""
    began = time.monotonic()
    warnings.simplefilter(
        "ignore"
    )  # Airflow and its dependencies warn each other; nothing here is ours to mend
    shutil.rmtree(DEMO, ignore_errors=True)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    from voiceos_provider.emulator import Emulator, World

    world = World(
        seed=7, conversations=6_000, start=midnight - timedelta(days=3), end=midnight + timedelta(days=1)
    )
    emulator = Emulator(world)
    with emulator.serve() as url:
        say(f"The VoiceOS emulator answers at {url}.")
        configure_airflow(url, emulator.token)
        say("Starting Airflow and running the DAG", DAG_ID, "(real scheduler code, one process) ...")
        receipt = run_dag()
    if receipt is None:
        say("The DAG run failed; its log is above.")
        return 1
    show(
        receipt, expected=len(world.ids(created_after=midnight - timedelta(days=1), created_before=midnight))
    )
    say(f"\nDone in {time.monotonic() - began:.0f} s.")
    return 0


def configure_airflow(url: str, token: str) -> None:
    """Give Airflow a home of its own. Must run before Airflow is imported."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ.update(
        AIRFLOW_HOME=str(DEMO / "airflow"),
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "example_dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="False",
        AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
        AIRFLOW_CONN_VOICEOS_DEFAULT=json.dumps({"conn_type": "voiceos", "host": url, "password": token}),
    )


def run_dag() -> dict | None:
    """The task's receipt, or None if the run failed."""
    from airflow.utils import db

    db.initdb()
    from airflow.dag_processing.dagbag import DagBag

    show_log_of("voiceos_provider")
    bag = DagBag(str(ROOT / "example_dags"))
    if bag.import_errors:
        raise SystemExit("\n".join(bag.import_errors.values()))
    run = bag.dags[DAG_ID].test(logical_date=datetime.now(UTC), run_conf={"path": f"file://{FILES}"})
    if run.state != "success":
        return None
    manifest = next(FILES.glob("_manifests/*.json"))
    receipt: dict = json.loads(manifest.read_text())
    return receipt


def show_log_of(name: str) -> None:
    """Print what one package logs, though Airflow itself is kept quiet."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("  %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def show(receipt: dict, expected: int) -> None:
    """Print the receipt, and two small tables made with pandas."""
    import pandas as pd

    say("\nThe receipt, as the task returned it to XCom and wrote it into the manifest:\n")
    say(json.dumps(receipt, indent=2))
    conversations = pd.read_parquet(FILES / "conversations")
    conversations["total_cost"] = conversations["total_cost"].astype(float).fillna(0)
    conversations["ended_reason"] = conversations["ended_reason"].fillna("(not ended)")
    say("\nConversations and US dollars, by type and by reason of the end:\n")
    table = conversations.pivot_table(
        index="type",
        columns="ended_reason",
        values="total_cost",
        aggfunc=["count", "sum"],
        margins=True,
        margins_name="all",
        fill_value=0,
    )
    say(table.round(2).to_string())
    found = conversations["id"].nunique()
    say(
        f"\n{len(conversations):,} rows, {found:,} distinct ids; the emulator has {expected:,} in that interval."
    )
    if not len(conversations) == found == expected:
        raise SystemExit("These numbers should be equal.")
    say(f"\nThe files are in {FILES.relative_to(ROOT)}/. Open them with")
    say(f"  pandas:  pd.read_parquet('{FILES.relative_to(ROOT)}/conversations')")
    say(f"  DuckDB:  SELECT * FROM '{FILES.relative_to(ROOT)}/conversations/*.parquet'")


def say(*words: str) -> None:
    """Print at once, also into a pipe."""
    print(*words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
