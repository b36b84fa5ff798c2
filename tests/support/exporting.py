"""Set-up of export tests: one day of conversations, hand-written pages, and a path on any filesystem."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.pages import RawPage, parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.interval import TICK, Interval
from voiceos_provider.load.destination import Destination
from voiceos_provider.load.files.destination import FilesDestination
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.memory import MemoryDestination
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.load.workdir import WorkDir
from voiceos_provider.options import ExportOptions
from voiceos_provider.pipeline.counters import Counters
from voiceos_provider.pipeline.late_arrivals import LateArrivals
from voiceos_provider.pipeline.run import write_pages
from voiceos_provider.transform import TABLES, Redaction
from voiceos_provider.transform.schema import CONVERSATIONS

CHECKOUT = Path(__file__).parents[2]
DAY = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
QUIET_DAY = Interval(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 2, tzinfo=UTC))
"""An interval before the first conversation."""

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PARQUET = Encoding.choose("parquet", None)
ENCODINGS = [
    Encoding.choose(file_format, compression)
    for file_format, compressions in {
        "parquet": ("zstd", "gzip", "snappy", "none"),
        "jsonl": ("none", "gzip", "zstd"),
        "csv": ("none", "gzip", "zstd"),
    }.items()
    for compression in compressions
]
TABLE_NAMES = ["conversations", "conversation_costs", "conversation_messages", "agent_configs"]
DATA, MANIFEST, REJECTED = (
    f"conversations/conversations_{DAY.label}",
    f"_manifests/{DAY.label}.json",
    f"_rejected/{DAY.label}.jsonl",
)


def data_of(suffix: str = ".parquet", tables: Iterable[str] = TABLE_NAMES) -> list[str]:
    """Return the files of these tables for `DAY`, in the order in which a listing names them."""
    return sorted(f"{table}/{table}_{DAY.label}{suffix}" for table in tables)


def published_files(suffix: str = ".parquet", tables: Iterable[str] = TABLE_NAMES) -> list[str]:
    """Return the names of all files after an export of `DAY`."""
    return [MANIFEST, *data_of(suffix, tables)]


@dataclass(frozen=True)
class Root:
    """A folder of any fsspec filesystem, with the part of `ObjectStoragePath` that destinations use."""

    fs: Any
    path: str


def emulate(conversations: int = 600, **options: Any) -> Emulator:
    """Serve conversations created on three days, `DAY` in the middle; all of it is long past."""
    start, end = datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    world = World(seed=7, conversations=conversations, start=start, end=end)
    options.setdefault("clock", lambda: NOW)
    return Emulator(world, **options)


def truth(emulator: Emulator, interval: Interval = DAY, **query: Any) -> set[str]:
    """Return the ids that an export of the interval must hold."""
    return set(
        emulator.world.ids(created_after=interval.start, created_before=interval.end, now=NOW, **query)
    )


def read_pages(
    emulator: Emulator, interval: Interval = DAY, *, page_size: int = 50, status: str | None = None
) -> Iterator[RawPage]:
    """Yield the pages of the interval as the client reads them, without long retries."""
    settings = ClientConfig(token=emulator.token, base_url="http://emulator", page_size=page_size)
    transport, no_sleep = emulator.transport(), lambda _: None
    with VoiceOSClient(settings, transport=transport, sleep=no_sleep) as client:
        yield from client.list_raw(
            status=status, created_after=interval.start - TICK, created_before=interval.end
        )


def page(*items: Any) -> RawPage:
    """Return a page of these items, as the client yields it."""
    body = json.dumps({"items": items, "has_more": False}).encode()
    return parse_page(Listing(None, None, None, 100).page(1), Response(200, {}, body))


def export_options(interval: Interval = DAY, **options: Any) -> ExportOptions:
    """Return options as a user gives them, but for tables and redaction, which are values."""
    options.setdefault("tables", TABLES)
    options.setdefault("redaction", Redaction())
    for name in ("tables", "statuses"):
        if name in options:
            options[name] = tuple(options[name])
    return ExportOptions(interval=interval, **options)


def export_pages(
    pages: Iterable[RawPage],
    root: Path | Root = Path(),
    *,
    interval: Interval = DAY,
    encoding: Encoding = PARQUET,
    replace_existing: bool = False,
    exported_at: datetime = NOW,
    target: Destination | None = None,
    workdir: WorkDir | None = None,
    late_arrivals: LateArrivals | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    **options: Any,
) -> ExportReceipt:
    """Export below the root, as the operator does. A destination in memory holds conversations by default."""
    if isinstance(target, MemoryDestination):
        options.setdefault("tables", [CONVERSATIONS])
    target = target or FilesDestination(root, encoding=encoding, replace_existing=replace_existing)
    parsed = export_options(interval, **options)
    counters = Counters.resume(workdir.checkpoint if workdir else None, parsed, now=exported_at)
    return write_pages(
        pages, target, parsed, counters, workdir=workdir, late_arrivals=late_arrivals, monotonic=monotonic
    )


def files_below(root: Path) -> dict[str, bytes]:
    """Every file, hidden ones too, by its path below the root."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


class ExportProcess:
    """An export in a separate process, which waits until it is started."""

    _context = multiprocessing.get_context("forkserver")

    def __init__(self, url: str, token: str, root: str, **arguments: Any) -> None:
        from tests.support.run_export import run

        start_forkserver(self._context)
        arguments |= {"url": url, "token": token, "root": root}
        self._export, there = self._context.Pipe()
        self._process = self._context.Process(target=run, args=(arguments, there), daemon=True)
        self._process.start()
        there.close()

    def start(self) -> ExportProcess:
        """Start the export."""
        self._export.send("go")
        self._await("reading")
        return self

    def read_all(self) -> ExportProcess:
        """Wait until the export begins to publish."""
        self._await("publishing")
        return self

    def kill(self) -> None:
        """Kill the process at once, as the kernel does when memory runs out."""
        self._process.kill()
        self._process.join()
        self._export.close()

    def finish(self) -> dict[str, Any]:
        """Wait for the receipt, and return it; fail if the export has failed."""
        message = self._export.recv()
        while message == "publishing":
            message = self._export.recv()
        self._process.join()
        self._export.close()
        assert isinstance(message, dict), message
        return message

    def _await(self, word: str) -> None:
        message = self._export.recv()
        assert message == word, message


@cache
def start_forkserver(context: ForkServerContext) -> None:
    """With everything imported. It does not learn of this process's `sys.path`, only of its environment."""
    context.set_forkserver_preload(["tests.support.run_export", "tests.support.run_load"])
    path = str(CHECKOUT)
    with mock.patch.dict(os.environ, PYTHONPATH=path):
        forkserver.ensure_running()
