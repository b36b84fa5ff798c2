"""One export in a process of its own, so that it can be killed and measured.

Reads its orders as JSON from the first argument. Prints `ready` and waits for a line on stdin; prints `reading`, and
`publishing` when the last page has been read; at the end prints the receipt and the highest memory it ever had.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from exporting import DAY, Root

from voiceos_provider.api.client import VoiceOSClient
from voiceos_provider.api.paging import RawPage
from voiceos_provider.api.settings import ClientSettings
from voiceos_provider.export import export
from voiceos_provider.targets.formats import Encoding
from voiceos_provider.targets.object_storage import ObjectStorageTarget


def main() -> None:
    """Do as the orders say."""
    orders = json.loads(sys.argv[1])
    root: Path | Root = Path(orders["root"])
    if "s3" in orders:
        import s3fs

        root = Root(s3fs.S3FileSystem(**orders["s3"]), orders["root"])
        root.fs.ls(orders["root"].partition("/")[0])  # whatever is loaded late is loaded before the start
    encoding = Encoding.choose(orders.get("file_format", "parquet"), orders.get("compression"))
    settings = ClientSettings(
        token=orders["token"], base_url=orders["url"], page_size=orders.get("page_size", 100)
    )
    _say("ready")
    sys.stdin.readline()
    _say("reading")
    with VoiceOSClient(settings) as client:
        receipt = export(
            _pages(client),
            ObjectStorageTarget(root, interval=DAY, encoding=encoding),
            interval=DAY,
            statuses=(),
            exported_at=datetime.now(UTC),
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _say(json.dumps({"receipt": receipt.as_dict(), "peak_kib": peak}))


def _pages(client: VoiceOSClient) -> Iterator[RawPage]:
    yield from client.list_raw(created_after=DAY.created_after, created_before=DAY.created_before)
    _say("publishing")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
