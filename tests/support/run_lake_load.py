"""One load into a lake in a process of its own, so that it can be killed while it publishes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from datetime import datetime
from multiprocessing.connection import Connection

from tests.support.exporting import export_pages
from tests.support.lakes import LakeUnderTest
from tests.support.run_load import readings
from voiceos_provider.client.pages import RawPage
from voiceos_provider.transform import TABLES

CONVERSATIONS = 100


def run(lake: LakeUnderTest, reading: str, at: datetime, disposition: str, test: Connection) -> None:
    """Load a reading, and report `publishing` when all of it has been read, and `done` at the end."""

    def pages() -> Iterator[RawPage]:
        yield from readings(CONVERSATIONS)[reading]
        test.send("publishing")

    try:
        target = lake.destination(disposition=disposition)
        export_pages(pages(), exported_at=at, target=target, tables=TABLES)
        test.send("done")
    except Exception:  # noqa: BLE001  the test reports whatever it was
        test.send(traceback.format_exc())
