"""Benchmark of loads into Iceberg and Delta Lake tables on local disk, compared with dlt; prints a table.

    python -m benchmarks.lake --conversations 100000

Each way loads the same four tables into an empty lake, merges all rows again, and merges them with 1 % of the
conversations changed, each in its own process. The rows of each load are in Arrow files before the clock starts.
Requires the test dependencies, and creates an environment for dlt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.warehouse import (
    KEYS,
    ROOT,
    START,
    TABLES,
    WORK,
    _batches,
    _write_rows,
    installed,
    peak_mb,
)

WAYS = {
    "iceberg": "VoiceOSToIcebergOperator's destination",
    "delta": "VoiceOSToDeltaLakeOperator's destination",
    "dlt_iceberg": "dlt, filesystem, `table_format='iceberg'`; again with `upsert`",
    "dlt_delta": "dlt, filesystem, `table_format='delta'`; again with `upsert`",
}
TURNS = ("first", "again", "changed")
CHANGED = {"conversations": "duration_seconds", "conversation_costs": "quantity"}
"""Columns that grow by one in the changed conversations; their messages get another character."""


def main() -> int:
    """Measure the loads and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--timeout", type=float, default=900, help="seconds after which a load is stopped")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(*options.one)))
        return 0
    WORK.mkdir(exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        rows = _write_rows(Path(folder), options.conversations)
        print(f"{options.conversations:,} conversations: {sum(rows.values()):,} rows {rows}", flush=True)
        for turn in TURNS:
            _prepare(Path(folder), turn)
        print("| | load | seconds | peak memory, MB | files written | MB written |", flush=True)
        print("|---|---|---:|---:|---:|---:|", flush=True)
        for way in options.ways:
            lake = Path(folder) / "lakes" / way
            lake.mkdir(parents=True)
            for turn in TURNS:
                before = set(_files(lake))
                result = _run(way, folder, lake, turn, options.timeout)
                if result is None:
                    print(f"| {WAYS[way]} | {turn} | over {options.timeout:.0f} | | | |", flush=True)
                    break
                written = [size for path, size in _files(lake).items() if path not in before]
                figures = f"{result['seconds']:.1f} | {result['peak_mb']:.0f} | {len(written)}"
                print(f"| {WAYS[way]} | {turn} | {figures} | {sum(written) / 1e6:.1f} |", flush=True)
    print(f"Load average {os.getloadavg()[2]:.0f}.")
    return 0


def _files(lake: Path) -> dict[Path, int]:
    files = [path for path in lake.rglob("*") if path.is_file() and "state" not in path.parts]
    return {path: path.stat().st_size for path in files}


def _run(way: str, folder: str, lake: Path, turn: str, timeout: float) -> dict[str, float] | None:
    python = sys.executable
    if way.startswith("dlt"):
        packages = ("dlt[deltalake,filesystem,pyiceberg]", "numpy", "sqlalchemy")
        python = str(installed("dlt-lake", *packages))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "CRITICAL",
    }
    command = [python, "-m", "benchmarks.lake", "--one", way, folder, str(lake), turn]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _one(way: str, folder: str, lake: str, turn: str) -> dict[str, float]:
    prepare = _dlt_load if way.startswith("dlt") else _ours
    with ExitStack() as stack:
        load = prepare(way, Path(folder), Path(lake), turn, stack)
        before = time.perf_counter()
        load()
        seconds = time.perf_counter() - before
    return {"seconds": round(seconds, 2), "peak_mb": peak_mb()}


def _prepare(folder: Path, turn: str) -> None:
    """Write the rows of a turn as an export spools them."""
    import pyarrow as pa

    (folder / turn).mkdir()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    for table in TABLES:
        rows = _rows_of_turn(folder, table, turn)
        first = next(rows)
        path = str(folder / turn / f"{table}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, first.schema, options=options) as stream:
            for batch in chain([first], rows):
                stream.write_batch(batch)


def _rows_of_turn(folder: Path, table: str, turn: str) -> Iterator[Any]:
    """Yield the rows as they are read in this turn; each one reads an hour later."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    exported_at = _exported_at(turn)
    for batch in _batches(folder, table):
        at = batch.schema.get_field_index("_exported_at")
        times = pa.repeat(pa.scalar(exported_at, batch.schema.types[at]), len(batch))
        read = batch.set_column(at, batch.schema.field(at), times)
        column = CHANGED.get(table, "content" if table == "conversation_messages" else None)
        if turn == "changed" and column:
            ids = read.column(KEYS[table][0]).to_pylist()
            chosen = pa.array(np.array([zlib.crc32(id_.encode()) % 100 == 0 for id_ in ids]))
            at, old = read.schema.get_field_index(column), read.column(column)
            new = pc.add(old, 1) if column != "content" else pc.binary_join_element_wise(old, "!", "")
            read = read.set_column(at, read.schema.field(at), pc.if_else(chosen, new, old))
        yield read


def _exported_at(turn: str) -> datetime:
    return START + timedelta(days=2, hours=TURNS.index(turn))


class _SpooledRows:
    """The rows of a turn, in place of the spool that an export has filled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def batches(self, table: Any) -> Iterator[Any]:
        return _batches(self._folder, table.name)

    def rows(self, table: Any) -> int:
        return sum(len(batch) for batch in _batches(self._folder, table.name))


def _ours(way: str, folder: Path, lake: Path, turn: str, stack: ExitStack) -> Callable[[], Any]:
    from voiceos_provider.interval import Interval, isoformat
    from voiceos_provider.load.lake.destination import LakeDestination
    from voiceos_provider.load.receipt import ExportReceipt
    from voiceos_provider.load.workdir import WorkDir
    from voiceos_provider.options import ExportOptions

    tables: Any
    if way == "iceberg":
        from voiceos_provider.load.lake.iceberg import IcebergLake, embedded_catalog

        tables = IcebergLake("default", namespace="voiceos", properties=embedded_catalog(str(lake)))
    else:
        from voiceos_provider.load.lake.delta import DeltaLake

        tables = DeltaLake(str(lake))
    interval = Interval(START, START + timedelta(days=1))
    exported_at = _exported_at(turn)
    destination = LakeDestination(tables)
    options = ExportOptions.parse(interval)
    writer: Any = stack.enter_context(destination.open(options, WorkDir(), exported_at=exported_at))
    writer._spool = _SpooledRows(folder / turn)
    receipt = ExportReceipt(
        interval_start=isoformat(interval.start),
        interval_end=isoformat(interval.end),
        status=None,
        exported_at=isoformat(exported_at),
        target=destination.uri,
        exported=writer._spool.rows(options.tables[0]),
    )
    return partial(writer._publish, receipt)


def _dlt_load(way: str, folder: Path, lake: Path, turn: str, stack: ExitStack) -> Callable[[], Any]:
    import dlt

    @dlt.source(name="voiceos")
    def source() -> Any:
        for table in TABLES:

            def read(name: str = table) -> Any:
                import pyarrow as pa

                for batch in _batches(folder / turn, name):
                    yield pa.Table.from_batches([batch])

            yield dlt.resource(
                read,
                name=table,
                write_disposition="append"
                if turn == "first"
                else {"disposition": "merge", "strategy": "upsert"},
                primary_key=KEYS[table],
                table_format=way.removeprefix("dlt_"),
            )

    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.filesystem(lake.as_uri()),
        dataset_name="voice",
        pipelines_dir=str(lake / "state"),
    )

    def load() -> None:
        pipeline.run(source()).raise_on_failed_jobs()

    return load


if __name__ == "__main__":
    sys.exit(main())
