"""One export in its own process, by the operator or without Airflow; only the export itself is measured."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.export.measure import measured, written
from benchmarks.export.server import END, START


def main() -> None:
    """Export into the directory, and print the figures."""
    folder, how = Path(sys.argv[1]), sys.argv[2]
    export = _without_airflow(folder) if how == "without-airflow" else _by_the_operator(folder, how)
    with measured() as found:
        receipt = export()
    rows = {file["table"]: file["rows"] for file in receipt["files"]}
    counts = {"conversations": receipt["exported"], "rows": rows, "requests": receipt["requests"]}
    print(json.dumps({**found, **counts, "bytes": written(folder)}))


def _by_the_operator(folder: Path, read_strategy: Any) -> Any:
    from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator

    operator = VoiceOSToObjectStorageOperator(
        task_id="bench",
        path=f"file://{folder}",
        interval_start=START,
        interval_end=END,
        read_strategy=read_strategy,
    )
    return lambda: operator.execute({})


def _without_airflow(folder: Path) -> Any:
    from voiceos_provider.client.client import VoiceOSClient
    from voiceos_provider.client.config import ClientConfig
    from voiceos_provider.interval import Interval
    from voiceos_provider.load.files.destination import FilesDestination
    from voiceos_provider.load.files.formats import Encoding
    from voiceos_provider.options import ExportOptions
    from voiceos_provider.pipeline.run import run_export

    connection = json.loads(os.environ["AIRFLOW_CONN_VOICEOS_DEFAULT"])
    options = ExportOptions.parse(Interval(START, END))
    destination = FilesDestination(folder, encoding=Encoding.choose("parquet", None))

    def run() -> dict[str, Any]:
        settings = ClientConfig(token=connection["password"], base_url=connection["host"])
        with VoiceOSClient(settings) as client:
            receipt: dict[str, Any] = run_export(client, destination, options).as_dict()
            return receipt

    return run


if __name__ == "__main__":
    main()
