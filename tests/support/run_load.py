"""One load into PostgreSQL in a process of its own, so that it can be killed. Says `ready`, waits for a word, loads."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta

from databases import postgres_engine
from exporting import DAY, NOW, emulate, export_pages, read_pages

from voiceos_provider.records import TABLES


def main() -> None:
    """Load as many conversations, read so many hours after `NOW`."""
    uri, conversations, hours = sys.argv[1:]
    at: datetime = NOW + timedelta(hours=int(hours))
    emulator = emulate(int(conversations))
    pages = list(read_pages(emulator, page_size=100))
    engine = postgres_engine(uri)
    print("ready", flush=True)
    sys.stdin.readline()
    receipt = export_pages(
        pages, None, exported_at=at, target=engine.target(DAY, at, sleep=time.sleep), tables=TABLES
    )  # type: ignore[arg-type]
    print(receipt.exported, flush=True)


if __name__ == "__main__":
    main()
