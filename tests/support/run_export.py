"""One export in a separate process, which can be killed and measured.

Its process is forked from one that has imported all of this, so that many can be had. It waits for a word; says
`reading`, and `publishing` when the last page has been read; at the end it says the receipt and the most memory it
ever had, or the error.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: F401  Arrow imports it late, in every process again
import s3fs

from tests.support.exporting import DAY, Root, export_pages
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.pages import RawPage
from voiceos_provider.interval import TICK
from voiceos_provider.load.files.formats import Encoding


def run(arguments: dict[str, Any], test: Connection) -> None:
    """Export as the arguments say, and notify the test."""
    test.recv()
    test.send("reading")
    try:
        test.send(_export(arguments, test))
    except Exception:  # noqa: BLE001  the test shall see whatever it was
        test.send(traceback.format_exc())


def _export(arguments: dict[str, Any], test: Connection) -> dict[str, Any]:
    root: Path | Root = Path(arguments["root"])
    if "s3" in arguments:
        root = Root(s3fs.S3FileSystem(**arguments["s3"]), arguments["root"])
    encoding = Encoding.choose(arguments.get("file_format", "parquet"), arguments.get("compression"))
    settings = ClientConfig(
        token=arguments["token"], base_url=arguments["url"], page_size=arguments.get("page_size", 100)
    )
    with VoiceOSClient(settings) as client:
        receipt = export_pages(
            _pages(client, test),
            root,
            encoding=encoding,
            replace_existing=arguments.get("replace_existing", False),
            exported_at=datetime.now(UTC),
        )
    return {"receipt": receipt.as_dict(), "peak_kib": _peak_kib()}


def _pages(client: VoiceOSClient, test: Connection) -> Iterator[RawPage]:
    yield from client.list_raw(created_after=DAY.start - TICK, created_before=DAY.end)
    test.send("publishing")


def _peak_kib() -> int:
    # What getrusage calls ru_maxrss also counts the process that this one was forked from.
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
