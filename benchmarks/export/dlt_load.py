"""The same listing by dlt's rest_api source into Parquet files, in its own process and environment."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.rest_api import rest_api_source

from benchmarks.export.measure import measured, written

# Not imported from `server`, which needs the provider.
START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=1)


def main() -> None:
    """Load into the directory, and print the figures."""
    url, folder, parts = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
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
            "resources": [_resource(part, parts) for part in range(parts)],
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
    print(
        json.dumps(
            {
                **found,
                "conversations": rows["conversations"],
                "rows": rows,
                "bytes": bytes_,
                "version": dlt.__version__,
            }
        )
    )


def _resource(part: int, parts: int) -> Any:
    params: dict[str, Any] = {"limit": 100}
    if parts > 1:
        width = (END - START) / parts
        after = START + part * width - timedelta(microseconds=1)
        before = START + (part + 1) * width
        params |= {"created_after": after.isoformat(), "created_before": before.isoformat()}
    return {
        "name": f"conversations_{part}",
        "table_name": "conversations",
        "primary_key": "id",
        "parallelized": parts > 1,
        "endpoint": {"path": "conversations", "params": params, "data_selector": "items"},
    }


if __name__ == "__main__":
    main()
