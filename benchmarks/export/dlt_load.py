"""The same listing by dlt's rest_api source into Parquet files, in its own process and environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import dlt
from dlt.sources.rest_api import rest_api_source

from benchmarks.export.measure import measured, written


def main() -> None:
    """Load into the directory, and print the figures."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    paginator = {
        "type": "page_number",
        "base_page": 1,
        "page_param": "index",
        "total_path": None,
        "has_more_path": "has_more",
    }
    source = rest_api_source(
        {
            "client": {
                "base_url": url,
                "auth": {"type": "bearer", "token": os.environ["BENCH_TOKEN"]},
                "paginator": paginator,
            },
            "resources": [
                {
                    "name": "conversations",
                    "primary_key": "id",
                    "endpoint": {"path": "conversations", "params": {"limit": 100}, "data_selector": "items"},
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=f"file://{folder / 'files'}"),
        dataset_name="voiceos",
    )
    with measured() as found:
        pipeline.run(source, loader_file_format="parquet")
    rows = {
        name: count
        for name, count in pipeline.last_trace.last_normalize_info.row_counts.items()
        if not name.startswith("_dlt")
    }
    bytes_ = written(folder / "files")
    print(json.dumps({**found, "conversations": rows["conversations"], "rows": rows, "bytes": bytes_}))


if __name__ == "__main__":
    main()
