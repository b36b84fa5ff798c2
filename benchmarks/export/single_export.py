"""One export in its own process, by the operator or without Airflow; only the export itself is measured."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.export.measure import measured, written
from benchmarks.export.server import END, START


def main() -> None:
    """Export into the directory, and print the figures."""
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    build = _by_the_operator if options.pop("airflow", True) else _without_airflow
    # Mapped tasks each export a part of the day.
    part, parts = options.pop("part", 0), options.pop("parts", 1)
    width: timedelta = (END - START) / parts
    export = build(folder, START + part * width, START + (part + 1) * width, options)
    _import_everything()
    with measured() as found:
        receipt = export()
    rows = {file["table"]: file["rows"] for file in receipt["files"]}
    counts = {"conversations": receipt["exported"], "rows": rows, "requests": receipt["requests"]}
    print(json.dumps({**found, **counts, "bytes": written(folder)}))


def _import_everything() -> None:
    """Import what an export imports when it runs, so that it counts as imported."""
    import pyarrow as pa

    import voiceos_provider.load.files.destination
    import voiceos_provider.pipeline.run  # noqa: F401

    pa.array([""])  # imports pandas, if it is installed


def _by_the_operator(folder: Path, start: Any, end: Any, options: dict[str, Any]) -> Any:
    from voiceos_provider.transfers.voiceos_to_object_storage import VoiceOSToObjectStorageOperator
    from voiceos_provider.utils.storage import open_path

    open_path(f"file://{folder}", None)  # Airflow then imports the packages of all its stores
    operator = VoiceOSToObjectStorageOperator(
        task_id="bench", path=f"file://{folder}", interval_start=start, interval_end=end, **options
    )
    return lambda: operator.execute({})


def _without_airflow(folder: Path, start: Any, end: Any, options: dict[str, Any]) -> Any:
    from voiceos_provider.client.client import VoiceOSClient
    from voiceos_provider.client.config import ClientConfig
    from voiceos_provider.interval import Interval
    from voiceos_provider.load.files.destination import FilesDestination
    from voiceos_provider.load.files.formats import Encoding
    from voiceos_provider.options import ExportOptions
    from voiceos_provider.pipeline.run import run_export

    connection = json.loads(os.environ["AIRFLOW_CONN_VOICEOS_DEFAULT"])
    parsed = ExportOptions.parse(Interval(start, end), **options)
    destination = FilesDestination(folder, encoding=Encoding.choose("parquet", None))

    def run() -> dict[str, Any]:
        settings = ClientConfig(token=connection["password"], base_url=connection["host"])
        with VoiceOSClient(settings) as client:
            receipt: dict[str, Any] = run_export(client, destination, parsed).as_dict()
            return receipt

    return run


if __name__ == "__main__":
    main()
