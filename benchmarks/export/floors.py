"""Lower bounds: CPU time of the libraries alone, for the same work."""

from __future__ import annotations

import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.export.server import END, PER_PAGE, START
from voiceos_provider.client.models import ConversationStruct
from voiceos_provider.client.pages import parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.interval import TICK, Interval
from voiceos_provider.transform import TABLES, Decoder

_AT_ONCE = 10  # pages, as an export gathers them
_ROUNDS = 5


class _Cut(msgspec.Struct):
    items: list[msgspec.Raw]


class _Typed(msgspec.Struct):
    items: list[ConversationStruct]


def main() -> None:
    """Print CPU microseconds per conversation by piece of work."""
    url, token, conversations = sys.argv[1], sys.argv[2], int(sys.argv[3])
    interval = Interval(START, END)
    listing = Listing(None, interval.start - TICK, interval.end, PER_PAGE)
    requests = [listing.page(number + 1) for number in range(conversations // PER_PAGE)]
    targets = [str(httpx.URL(request.path, params=dict(request.params))) for request in requests]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers) as client:
        bodies = [client.get(target).content for target in targets]
        tables = _tables(interval, bodies)
        texts = [
            column.to_pylist()
            for table in tables.values()
            for column in table.columns
            if pa.types.is_string(column.type)
        ]
        work: dict[str, Callable[[], Any]] = {
            "download with httpx": lambda: [client.get(target).content for target in targets][:0],
            "download with a bare socket": lambda: _download(url, token, targets),
            "find where each conversation ends (msgspec.Raw)": partial(_each, bodies, _Cut),
            "typed decode (msgspec), and freeing it": partial(_each, bodies, _Typed),
            "texts from Python to Arrow": lambda: [pa.array(text, pa.string()) for text in texts][:0],
            "Parquet (pyarrow, zstd)": lambda: _encode(tables),
        }
        found = {name: _median(piece) / conversations * 1e6 for name, piece in work.items()}
    print(json.dumps(found))


def _median(piece: Callable[[], Any]) -> float:
    spent = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        piece()
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def _each(bodies: list[bytes], kind: Any) -> None:
    decoder = msgspec.json.Decoder(kind)
    for first in range(0, len(bodies), _AT_ONCE):
        [decoder.decode(body) for body in bodies[first : first + _AT_ONCE]]


def _tables(interval: Interval, bodies: list[bytes]) -> dict[str, pa.Table]:
    decoder, request = Decoder(interval, END), Listing().page(1)
    pages = [parse_page(request, Response(200, {}, body)) for body in bodies]
    decoded = [decoder.decode(page.items) for page in pages]
    return {
        table.name: pa.Table.from_batches([some.rows[table.name].batch for some in decoded]).combine_chunks()
        for table in TABLES
    }


def _encode(tables: dict[str, pa.Table]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            pq.write_table(table, Path(folder) / name, compression="zstd", row_group_size=65_536)


def _download(url: str, token: str, targets: list[str]) -> None:
    parts = urlsplit(url)
    buffer = bytearray(2**21)
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
        for target in targets:
            head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
            connection.sendall(head.encode())
            held, whole = 0, len(buffer)
            while held < whole:
                held += connection.recv_into(memoryview(buffer)[held:])
                if whole == len(buffer) and (end := buffer.find(b"\r\n\r\n", 0, held)) >= 0:
                    length = buffer[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                    whole = end + 4 + int(length)


if __name__ == "__main__":
    main()
