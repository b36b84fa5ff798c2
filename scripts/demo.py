"""Run the nightly example DAGs through Airflow against the emulator, and show what landed.

Everything has an embedded default: a fresh Airflow home, the emulator on a free port, a folder for the files, and a
DuckDB file for a database.
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
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / ".demo"
FILES = DEMO / "voiceos"
WAREHOUSE = DEMO / "voiceos.duckdb"
FILES_DAG, ROWS_DAG = "voiceos_nightly_export", "voiceos_nightly_warehouse"
QUESTION = """\
SELECT component, provider, count(*) AS conversations, round(sum(cost), 2) AS dollars,
       round(100 * sum(cost) / sum(sum(cost)) OVER (), 1) AS percent
FROM conversation_costs
WHERE cost > 0
GROUP BY ALL
ORDER BY dollars DESC"""


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
        say("Starting Airflow and running the DAG", FILES_DAG, "(real scheduler code, one process) ...")
        bag = load_dags()
        if not run_dag(bag, FILES_DAG, path=f"file://{FILES}"):
            return 1
        say("\nRunning the DAG", ROWS_DAG, "twice, for three days into a DuckDB file ...")
        if not all(run_dag(bag, ROWS_DAG, sql_conn_id="warehouse") for _ in range(2)):
            return 1
    receipt = json.loads(next(FILES.glob("_manifests/*.json")).read_text())
    show(
        receipt, expected=len(world.ids(created_after=midnight - timedelta(days=1), created_before=midnight))
    )
    show_rows(expected=len(world.ids(created_after=midnight - timedelta(days=3), created_before=midnight)))
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
        AIRFLOW_CONN_WAREHOUSE=json.dumps({"conn_type": "duckdb", "host": str(WAREHOUSE)}),
        AIRFLOW_CONN_VOICEOS_DEFAULT=json.dumps({"conn_type": "voiceos", "host": url, "password": token}),
    )


def load_dags() -> dict[str, Any]:
    """The example DAGs by id."""
    from airflow.utils import db

    db.initdb()
    from airflow.dag_processing.dagbag import DagBag

    show_log_of("voiceos_provider")
    bag = DagBag(str(ROOT / "example_dags"))
    if bag.import_errors:
        raise SystemExit("\n".join(bag.import_errors.values()))
    return dict(bag.dags)


def run_dag(dags: dict[str, Any], dag_id: str, **params: str) -> bool:
    """Whether its run has succeeded."""
    run = dags[dag_id].test(logical_date=datetime.now(UTC), run_conf=params)
    if run.state != "success":
        say("The DAG run failed; its log is above.")
    return bool(run.state == "success")


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


def show_rows(expected: int) -> None:
    """Ask the DuckDB file what the conversations cost."""
    import duckdb

    with duckdb.connect(str(WAREHOUSE), read_only=True) as warehouse:
        ((found,),) = warehouse.execute("SELECT count(*) FROM conversations").fetchall()
        say(
            f"\nThe database has {found:,} conversations of three days, each once; the emulator has {expected:,}."
        )
        if found != expected:
            raise SystemExit("These numbers should be equal.")
        say(f"\n{QUESTION}\n")
        say(str(warehouse.sql(QUESTION)))
    say(f"The rows are in {WAREHOUSE.relative_to(ROOT)}: duckdb.connect('{WAREHOUSE.relative_to(ROOT)}')")


def say(*words: str) -> None:
    """Print at once, also into a pipe."""
    print(*words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
