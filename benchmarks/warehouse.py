"""Benchmark of loads into PostgreSQL, compared with pandas, DbApiHook.insert_rows and dlt; writes docs/bench-sql.md.

    python -m benchmarks.warehouse --conversations 100000 --flat 20000 1000000

Each way loads the same four tables into an empty database, then loads them again, in its own process. Requires the
test dependencies, and creates a separate environment for dlt.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".bench"
TABLES = ("conversations", "conversation_costs", "conversation_messages", "agent_configs")
KEYS = {
    "conversations": ["id"],
    "conversation_costs": ["conversation_id", "component"],
    "conversation_messages": ["conversation_id", "ordinal"],
    "agent_configs": ["agent_config_hash"],
}
START = datetime(2026, 11, 1, tzinfo=UTC)
WAYS = {
    "ours": "VoiceOSToSqlOperator's destination, through ADBC",
    "ours_psycopg": "the same, through psycopg's COPY",
    "insert_rows": "PostgresHook.insert_rows, `commit_every=10000`, `executemany`; again with `replace=True`",
    "pandas": "pandas.to_sql, 10,000 rows at a time; again into truncated tables",
    "copy": "only ADBC's COPY of the same rows, without a key; again into truncated tables",
    "dlt": "dlt from Arrow, its default loader; again with `merge`",
    "dlt_adbc": "dlt from Arrow, `loader_file_format='parquet'` (ADBC inside); again with `merge`",
}


def main() -> int:
    """Measure the loads and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--flat", nargs="*", type=int, default=[], help="further sizes, for ours alone")
    parser.add_argument("--write", action="store_true", help="write docs/bench-sql.md")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(*options.one)))
        return 0
    WORK.mkdir(exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    from tests.support.databases import postgres_server

    results = {}
    for conversations in (options.conversations, *options.flat):
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            rows = _write_rows(Path(folder), conversations)
            print(f"{conversations:,} conversations: {sum(rows.values()):,} rows {rows}", flush=True)
            for way in options.ways if conversations == options.conversations else ["ours"]:
                with postgres_server(durable=True) as uri:
                    loads = [_run(way, uri, folder, turn) for turn in ("first", "again")]
                print(way, loads, flush=True)
                results[conversations, way] = sum(rows.values()), loads
            if conversations == options.conversations:
                counted = rows
    if options.write:
        (ROOT / "docs" / "bench-sql.md").write_text(_page(options.conversations, counted, results))
    return 0


def _write_rows(folder: Path, conversations: int) -> dict[str, int]:
    """Write the tables to files, as an export keeps them until it loads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from voiceos_provider.client import ClientConfig, VoiceOSClient
    from voiceos_provider.interval import Interval
    from voiceos_provider.load.files.destination import FilesDestination
    from voiceos_provider.load.files.formats import Encoding
    from voiceos_provider.options import ExportOptions
    from voiceos_provider.pipeline.run import run_export

    options = ExportOptions.parse(Interval(START, START + timedelta(days=1)))
    destination = FilesDestination(folder, encoding=Encoding.choose("parquet", None))
    command = [sys.executable, "-m", "benchmarks.export.server", str(conversations)]
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert server.stdout
        address = json.loads(server.stdout.readline())
        with VoiceOSClient(ClientConfig(token=address["token"], base_url=address["url"])) as client:
            run_export(client, destination, options)
    finally:
        server.communicate()
    rows = {}
    lz4 = pa.ipc.IpcWriteOptions(compression="lz4")
    for table in TABLES:
        (path,) = (folder / table).iterdir()
        with pq.ParquetFile(path) as file:
            rows[table] = file.metadata.num_rows
            with pa.ipc.new_stream(folder / f"{table}.arrow", file.schema_arrow, options=lz4) as stream:
                for batch in file.iter_batches(4096):
                    stream.write_batch(batch)
    return rows


def _run(way: str, uri: str, folder: str, turn: str) -> dict[str, float]:
    python = sys.executable
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(WORK / "home"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    if way.startswith("dlt"):
        python = str(installed("dlt-sql", "dlt[postgres]", "adbc-driver-postgresql", "pyarrow"))
        environment |= {
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "CRITICAL",
        }
    command = [python, "-m", "benchmarks.warehouse", "--one", way, uri, folder, turn]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def installed(name: str, *packages: str) -> Path:
    """Return the Python of an environment with some packages, which is created once."""
    python = WORK / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", WORK / name], check=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, *packages], check=True)
    return python


def peak_mb() -> int:
    """Return the peak memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return round(peak / 1000)


def _one(way: str, uri: str, folder: str, turn: str) -> dict[str, float]:
    load = _LOADS[way.partition("_")[0]](way, uri, Path(folder), turn)
    before, cpu = time.perf_counter(), time.process_time()
    load()
    seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
    return {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "peak_mb": peak_mb()}


def _batches(folder: Path, table: str) -> Iterator[Any]:
    import pyarrow as pa

    with pa.OSFile(str(folder / f"{table}.arrow")) as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def _ours(way: str, uri: str, folder: Path, turn: str) -> Callable[[], Any]:
    from tests.support.databases import postgres_engine
    from voiceos_provider.interval import Interval
    from voiceos_provider.load.sql.job import LoadJob
    from voiceos_provider.load.sql.plan import Rowset
    from voiceos_provider.transform import TABLES as DECLARED

    engine = postgres_engine(uri, driver="psycopg" if way.endswith("psycopg") else "adbc")
    interval = Interval(START, START + timedelta(days=1))
    later = START + timedelta(days=2, hours=turn == "again")
    rowsets = [
        Rowset(
            table,
            sum(len(batch) for batch in _batches(folder, table.name)),
            partial(_read_later, folder, table.name, later),
            table.columns,
        )
        for table in DECLARED
    ]
    destination = engine.destination()
    return partial(destination.load, destination.plan(DECLARED, interval, later), rowsets, LoadJob.run)


def _read_later(folder: Path, table: str, at: datetime) -> Iterator[Any]:
    import pyarrow as pa

    for batch in _batches(folder, table):
        column = batch.schema.get_field_index("_exported_at")
        times = pa.repeat(pa.scalar(at, batch.schema.types[column]), len(batch))
        yield batch.set_column(column, batch.schema.field(column), times)


def _pandas(way: str, uri: str, folder: Path, turn: str) -> Callable[[], Any]:
    import pyarrow as pa
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri.replace("postgresql:", "postgresql+psycopg2:"))

    def load() -> None:
        with engine.begin() as connection:
            for table in TABLES:
                if turn == "again":
                    connection.execute(sqlalchemy.text(f"TRUNCATE {table}"))
                for batch in _batches(folder, table):
                    frame = pa.Table.from_batches([batch]).to_pandas()
                    for at in range(0, len(frame), 10_000):
                        frame[at : at + 10_000].to_sql(table, connection, if_exists="append", index=False)

    return load


def _copy(way: str, uri: str, folder: Path, turn: str) -> Callable[[], Any]:
    import adbc_driver_postgresql.dbapi as adbc
    import pyarrow as pa

    connection = adbc.connect(uri)

    def load() -> None:
        with connection, connection.cursor() as cursor:
            for table in TABLES:
                if turn == "again":
                    cursor.execute(f"TRUNCATE {table}")
                first = next(_batches(folder, table))
                reader = pa.RecordBatchReader.from_batches(first.schema, _batches(folder, table))
                cursor.adbc_ingest(table, reader, mode="create" if turn == "first" else "append")
            connection.commit()

    return load


def _insert_rows(way: str, uri: str, folder: Path, turn: str) -> Callable[[], Any]:
    from urllib.parse import parse_qs, urlsplit

    from tests.support.databases import postgres_engine
    from voiceos_provider.load.sql import ddl

    host = parse_qs(urlsplit(uri).query)["host"][0]
    os.environ["AIRFLOW_CONN_PG"] = json.dumps(
        {"conn_type": "postgres", "host": host, "login": "postgres", "schema": "postgres"}
    )
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    if turn == "first":
        postgres_engine(uri).run(*(text for text in ddl("postgres").split(";\n") if text.strip()))
    hook = PostgresHook("pg")

    def load() -> None:
        for table in TABLES:
            for batch in _batches(folder, table):
                rows = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
                hook.insert_rows(
                    table,
                    rows,
                    target_fields=batch.schema.names,
                    commit_every=10_000,
                    executemany=True,
                    replace=turn == "again",
                    **({"replace_index": KEYS[table]} if turn == "again" else {}),
                )

    return load


def _dlt_load(way: str, uri: str, folder: Path, turn: str) -> Callable[[], Any]:
    import dlt

    @dlt.source(name="voiceos")
    def source() -> Any:
        for table in TABLES:

            def read(name: str = table) -> Any:
                import pyarrow as pa

                for batch in _batches(folder, name):
                    yield pa.Table.from_batches([batch])

            yield dlt.resource(
                read,
                name=table,
                write_disposition="merge" if turn == "again" else "append",
                primary_key=KEYS[table],
            )

    # It insists on a host and a password; the server looks at neither.
    uri = uri.replace("postgres:@/", "postgres:none@localhost/")
    state = tempfile.mkdtemp(dir=folder)
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.postgres(uri), dataset_name="voice", pipelines_dir=state
    )
    options = {"loader_file_format": "parquet"} if way.endswith("adbc") else {}

    def load() -> None:
        pipeline.run(source(), **options).raise_on_failed_jobs()
        shutil.rmtree(state)

    return load


_LOADS: dict[str, Callable[[str, str, Path, str], Callable[[], Any]]] = {
    "ours": _ours,
    "pandas": _pandas,
    "copy": _copy,
    "insert": _insert_rows,
    "dlt": _dlt_load,
}


def _page(
    conversations: int,
    rows: dict[str, int],
    results: dict[tuple[int, str], tuple[int, list[dict[str, float]]]],
) -> str:
    from benchmarks.export import report

    total = sum(rows.values())
    compared = {way: loads for (size, way), (_, loads) in results.items() if size == conversations}
    sizes = {size: (count, loads) for (size, way), (count, loads) in results.items() if way == "ours"}
    lines = [
        "# What a load into PostgreSQL costs",
        "",
        "<!-- written by `python -m benchmarks.warehouse --write` -->",
        "",
        f"{conversations:,} conversations, {total:,} rows of all four tables ("
        + ", ".join(f"{count:,} {name}" for name, count in rows.items())
        + ") are loaded from Arrow files on local disk into a PostgreSQL 18 with default settings on the same machine. "
        "Each tool first loads into an empty database, and then loads all rows again. Each load is a new process. "
        "Memory is that of the whole process. CPU is its user and system time, without the server's.",
        "",
        f"Measured once, on {report.machine()}. The load average was {os.getloadavg()[2]:.0f}, so compare figures "
        "within the table only.",
        "",
        "| | first load, s | rows/s | second load, s | rows/s | CPU, s | peak memory, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(f"| {WAYS[way]} | {_figures(total, loads)} |" for way, loads in compared.items()),
        "",
        "The tools do different work:",
        "",
        "- The operator loads in one transaction. It adds keys, indexes and comments, compares row versions and checks "
        "counts. Its second load changes nothing.",
        "- `insert_rows` commits every 10,000 rows, and logs them if one is refused.",
        "- `to_sql` has no merge, so its second load truncates the tables first.",
        "- dlt creates tables without keys, and merges by delete and insert. It loads tables in parallel over "
        "connections that commit separately, so readers may see some tables without the others.",
        "- COPY alone is the time that ADBC needs for the same batches over one connection, without checks or counts. "
        "The operator sends smaller batches, so that driver and server work at the same time.",
        "",
        "## Memory does not grow with the rows",
        "",
        "`VoiceOSToSqlOperator`'s destination through ADBC at other sizes, in the same run:",
        "",
        "| conversations | rows | first load, s | rows/s | second load, s | rows/s | CPU, s | peak memory, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {size:,} | {count:,} | {_figures(count, loads)} |"
            for size, (count, loads) in sorted(sizes.items())
        ),
        "",
        "This covers the load only. [What an export costs](bench.md) covers reading.",
        "",
    ]
    return "\n".join(lines)


def _figures(rows: int, loads: list[dict[str, float]]) -> str:
    first, again = loads
    return (
        f"{first['seconds']:.1f} | {rows / first['seconds']:,.0f} | {again['seconds']:.1f} | "
        f"{rows / again['seconds']:,.0f} | {first['cpu']:.1f} + {again['cpu']:.1f} | "
        f"{max(first['peak_mb'], again['peak_mb']):.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
