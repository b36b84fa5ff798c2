"""CPU time of each stage of an export, measured by calling the package's own functions in sequence."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.export.server import END, PER_PAGE, START
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.pages import parse_page, split_page
from voiceos_provider.client.paging import PageNumberPaginator
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.interval import TICK, Interval
from voiceos_provider.load.files.formats import Encoding
from voiceos_provider.load.spool import Spool
from voiceos_provider.transform import TABLES, Decoder

_AT_ONCE = 10  # pages, as an export gathers them
_ROUNDS = 3


class Stopwatch:
    """CPU seconds by stage, over all threads of this process."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def of(self, station: str) -> Iterator[None]:
        """Add the CPU time of the block to a stage."""
        began = time.process_time()
        yield
        self.spent[station] = self.spent.get(station, 0.0) + time.process_time() - began


def main() -> None:
    """Print CPU microseconds per conversation by stage."""
    url, token, conversations = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rounds = [one_round(url, token, conversations) for _ in range(_ROUNDS)]
    medians = {name: statistics.median(spent[name] for spent in rounds) for name in rounds[0]}
    print(json.dumps({name: seconds / conversations * 1e6 for name, seconds in medians.items()}))


def one_round(url: str, token: str, conversations: int) -> dict[str, float]:
    """Run the stages of one export, and return the CPU seconds of each."""
    watch = Stopwatch()
    interval = Interval(START, END)
    listing = Listing(None, interval.start - TICK, interval.end, PER_PAGE)
    requests = [listing.page(number + 1) for number in range(conversations // PER_PAGE)]
    walk = PageNumberPaginator(listing, max_pages=len(requests) + 1)
    decoder = Decoder(interval, END)
    encoding = Encoding.choose("parquet", None)
    with (
        VoiceOSClient(ClientConfig(token=token, base_url=url)) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        spool = Spool(Path(folder), TABLES)
        for first in range(0, len(requests), _AT_ONCE):
            some = requests[first : first + _AT_ONCE]
            with watch.of("download"):
                responses = [_get(client, request) for request in some]
            pairs = list(zip(some, responses, strict=True))
            with watch.of("split"):
                for request, response in pairs:
                    split_page(request, response)
            with watch.of("typed decode"):
                pages = [parse_page(request, response) for request, response in pairs]
            with watch.of("paging"):
                for page in pages:
                    walk.update(page)
            items = [item for page in pages for item in page.items]
            with watch.of("columns"):
                decoded = decoder.decode(items)
            with watch.of("spool"):
                spool.append(decoded.rows)
            with watch.of("free what was decoded"):
                del responses, pairs, pages, page, items, decoded, request, response
        with watch.of("spool"):
            spool.close()
        for table in TABLES:
            file = Path(folder) / f"{table.name}.parquet"
            with watch.of(f"encode {table.name}"):
                encoding.write(file, table.schema, spool.batches(table))
            with watch.of("count and checksum"), file.open("rb") as content:
                encoding.count(file)
                hashlib.file_digest(content, "sha256")
    return watch.spent


def _get(client: VoiceOSClient, request: Any) -> Response:
    unread: Callable[[Any, Response], Response] = lambda _, response: response  # noqa: E731
    return client.send(request, unread)


if __name__ == "__main__":
    main()
