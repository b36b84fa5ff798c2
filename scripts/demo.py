"""Demo: run example DAGs through Airflow against the emulator, and show the result.

Uses a new Airflow home, the emulator on a free port, a directory for files, a DuckDB file as a database and a directory
for Iceberg tables, all below .demo. Nothing outside of this machine is called.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / ".demo"
FILES = DEMO / "voiceos"
DATABASE = DEMO / "voiceos.duckdb"
LAKE = DEMO / "lake"
LOG = DEMO / "log.txt"
FILES_DAG, ROWS_DAG, LAKE_DAG = (
    "voiceos_nightly_export",
    "voiceos_nightly_warehouse",
    "voiceos_hourly_iceberg",
)
QUERY = """\
SELECT component, provider, count(*) AS conversations, round(sum(cost), 2) AS dollars
FROM conversation_costs
WHERE cost > 0
GROUP BY ALL
ORDER BY dollars DESC
LIMIT 5"""


def main() -> int:
    """Run the DAGs and print what they wrote; return 0 on success."""
    began = time.monotonic()
    warnings.simplefilter("ignore")  # of Airflow and its dependencies
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    log = LOG.open("w", buffering=1)  # never closed: Airflow's loggers keep it
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday, first = midnight - timedelta(days=1), midnight - timedelta(days=3)
    last_hour = midnight - timedelta(hours=1)

    from voiceos_provider.emulator import Emulator, World

    world = World(seed=7, conversations=6_000, start=first, end=midnight + timedelta(days=1))
    emulator = Emulator(world)
    with emulator.serve() as url:
        configure_airflow(url, emulator.token)
        with step(log, "Start Airflow and load the example DAGs"):
            dags = load_dags()
        with step(log, f"Run {FILES_DAG}: yesterday's conversations to Parquet files"):
            run_dag(dags, FILES_DAG, path=f"file://{FILES}")
        with step(log, f"Run {ROWS_DAG}: three days into a DuckDB file"):
            run_dag(dags, ROWS_DAG, sql_conn_id="warehouse")
        with step(log, f"Run {ROWS_DAG} again, as a retry would"):
            run_dag(dags, ROWS_DAG, sql_conn_id="warehouse")
        with step(log, f"Run {LAKE_DAG}: yesterday's last hour to Iceberg tables"):
            hour = {"interval_start": last_hour.isoformat(), "interval_end": midnight.isoformat()}
            run_dag(dags, LAKE_DAG, warehouse=str(LAKE), iceberg_conn_id="", **hour)
    show_files(expected=len(world.ids(created_after=yesterday, created_before=midnight)))
    show_rows(expected=len(world.ids(created_after=first, created_before=midnight)))
    show_lake(expected=len(world.ids(created_after=last_hour, created_before=midnight)))
    print(
        f"\nThe log of Airflow and the provider is in {relative(LOG)}. Done in {time.monotonic() - began:.0f} s."
    )
    return 0


def configure_airflow(url: str, token: str) -> None:
    """Set up a separate Airflow; call it before Airflow is imported."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ.update(
        AIRFLOW_HOME=str(DEMO / "airflow"),
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "example_dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="False",
        AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
        AIRFLOW_CONN_WAREHOUSE=json.dumps({"conn_type": "duckdb", "host": str(DATABASE)}),
        AIRFLOW_CONN_VOICEOS_DEFAULT=json.dumps({"conn_type": "voiceos", "host": url, "password": token}),
    )


@contextmanager
def step(log: TextIO, name: str) -> Iterator[None]:
    """Print a step with its duration; everything printed inside goes to the log file."""
    print(f"{name} ... ", end="", flush=True)
    began = time.monotonic()
    try:
        with redirect_stdout(log), redirect_stderr(log):
            yield
    except BaseException:
        print(f"failed. The end of {relative(LOG)}:\n", *LOG.read_text().splitlines()[-20:], sep="\n")
        raise
    print(f"{time.monotonic() - began:.0f} s", flush=True)


def load_dags() -> dict[str, Any]:
    """Return the example DAGs by id."""
    from airflow.utils import db

    db.initdb()
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "example_dags"))
    if bag.import_errors:
        raise SystemExit("\n".join(bag.import_errors.values()))
    return dict(bag.dags)


def run_dag(dags: dict[str, Any], dag_id: str, **params: str) -> None:
    """Run a DAG in this process, and exit unless it succeeds."""
    run = dags[dag_id].test(logical_date=datetime.now(UTC), run_conf=params)
    if run.state != "success":
        raise SystemExit(f"{dag_id} ended in state {run.state}.")


def show_files(expected: int) -> None:
    """Print the exported files, the receipt's counters, and a summary made with pandas."""
    import pandas as pd

    conversations = pd.read_parquet(FILES / "conversations")
    found = conversations["id"].nunique()
    print(f"\n{found:,} conversations of yesterday, each once; the API has {expected:,}.\n")
    if not len(conversations) == found == expected:
        raise SystemExit("These numbers should be equal.")
    conversations["total_cost"] = conversations["total_cost"].astype(float).fillna(0)
    conversations["ended_reason"] = conversations["ended_reason"].fillna("(not ended)")
    table = conversations.pivot_table(
        index="type",
        columns="ended_reason",
        values="total_cost",
        aggfunc=["count", "sum"],
        margins=True,
        margins_name="all",
        fill_value=0,
    )
    print(table.round(2).to_string().replace("sum", "USD", 1))
    (manifest,) = FILES.glob("_manifests/*.json")
    receipt = json.loads(manifest.read_text())
    files = ", ".join(f"{file['rows']:,} {file['table']}" for file in receipt["files"])
    print(f"\nRows: {files}. Receipt: {relative(manifest)}")
    print(f"Open the files:  pd.read_parquet('{relative(FILES)}/conversations')")
    print(f"                 SELECT * FROM '{relative(FILES)}/conversations/*.parquet'   -- DuckDB")


def show_rows(expected: int) -> None:
    """Print a query of the DuckDB file."""
    import duckdb

    with duckdb.connect(str(DATABASE), read_only=True) as database:
        ((found,),) = database.execute("SELECT count(*) FROM conversations").fetchall()
        print(
            f"\n{found:,} conversations of three days in the database, each once; the API has {expected:,}."
        )
        if found != expected:
            raise SystemExit("These numbers should be equal.")
        print(f"\n{QUERY}\n\n{database.sql(QUERY)}")
    print(f"Open the database:  duckdb.connect('{relative(DATABASE)}')")


def show_lake(expected: int) -> None:
    """Print a query of the Iceberg tables."""
    from pyiceberg.catalog import load_catalog

    from voiceos_provider.load.lake.iceberg import embedded_catalog

    conversations = load_catalog("default", **embedded_catalog(str(LAKE))).load_table("voiceos.conversations")
    found = conversations.scan().count()
    print(f"\n{found:,} conversations of one hour in Iceberg tables, each once; the API has {expected:,}.")
    if found != expected:
        raise SystemExit("These numbers should be equal.")
    print(f"Open the tables:  docs/how-to/iceberg.md#read-the-tables, with the catalog in {relative(LAKE)}")


def relative(path: Path) -> Path:
    """Return a path relative to the checkout."""
    return path.relative_to(ROOT)


if __name__ == "__main__":
    sys.exit(main())
