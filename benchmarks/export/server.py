"""A server of conversations written in advance, so that serving adds little to what is measured.

    python -m benchmarks.export.server 100000 [0.1]

The emulator decides when conversations are created and writes a pool of them. A listing longer than the pool reuses it
with other ids and times: memory stays bounded and every id is distinct. Windows of creation time work as in the API,
newest first.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from threading import Thread
from urllib.parse import unquote_to_bytes

import httpx
import msgspec
import numpy as np

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.emulator.timestamps import to_datetime, to_microseconds
from voiceos_provider.interval import isoformat

PER_PAGE = 100
POOL = 20_000
START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=1)

_ID = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = rb"(?<=_at\":\")[^\"]+"
_VARIES = re.compile(rb"(%b|%b)" % (_ID, _TIME))
_QUERY = re.compile(rb"[?&](\w+)=([^& ]*)")
_STEP = 0x9E3779B97F4B  # odd, so that a conversation has another id in each round
_48_BITS = 2**48 - 1
_UUID = 36


class Conversation:
    """A conversation, split at its ids and times."""

    def __init__(self, text: bytes, created: datetime) -> None:
        self._pieces = _VARIES.split(text)
        self._ids = [
            (at, piece[:24], int(piece[24:], 16))
            for at, piece in enumerate(self._pieces)
            if at % 2 and len(piece) == _UUID
        ]
        self._times = [
            (at, datetime.fromisoformat(piece.decode()) - created)
            for at, piece in enumerate(self._pieces)
            if at % 2 and len(piece) != _UUID
        ]

    def text(self, created: datetime, round_: int) -> bytes:
        """Return the conversation with other ids and times."""
        pieces = self._pieces.copy()
        for at, head, tail in self._ids:
            pieces[at] = b"%b%012x" % (head, tail + round_ * _STEP & _48_BITS)
        for at, later in self._times:
            pieces[at] = isoformat(created + later).encode()
        return b"".join(pieces)


class Listing:
    """A listing of conversations, as the API serves it."""

    def __init__(self, conversations: int) -> None:
        self.token = "emulator-token"
        self.created = World(seed=7, conversations=conversations, start=START, end=END).population.created
        self.pool = _written(min(conversations, POOL), self.token)

    def respond(self, request: bytes) -> bytes:
        """Return the response to one request, with its headers."""
        if f"authorization: bearer {self.token}".encode() not in request.lower():
            return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        query = {name.decode(): unquote_to_bytes(value).decode() for name, value in _QUERY.findall(request)}
        limit, index = int(query.get("limit", PER_PAGE)), int(query.get("index", 1))
        if index < 1:
            return b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\n\r\n"
        first, last = 0, len(self.created)
        if after := query.get("created_after"):
            first = int(
                np.searchsorted(self.created, to_microseconds(datetime.fromisoformat(after)), "right")
            )
        if before := query.get("created_before"):
            last = int(np.searchsorted(self.created, to_microseconds(datetime.fromisoformat(before)), "left"))
        end = last - (index - 1) * limit
        items = b",".join(self.text(at) for at in range(end - 1, max(first, end - limit) - 1, -1))
        more = b"true" if end - limit > first else b"false"
        body = b'{"items":[%b],"index":%d,"has_more":%b}' % (items, index, more)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + body

    def text(self, at: int) -> bytes:
        """Return a conversation by its position in the order of creation."""
        round_, index = divmod(at, len(self.pool))
        return self.pool[index].text(to_datetime(int(self.created[at])), round_)


def _written(conversations: int, token: str) -> list[Conversation]:
    """Return the emulator's conversations at a time when all have ended."""
    world = World(seed=7, conversations=conversations, start=START, end=END)
    emulator = Emulator(
        world, token=token, clock=lambda: END + timedelta(days=7), order="created_asc", keep_requests=False
    )
    headers = {"Authorization": f"Bearer {token}"}
    created = (to_datetime(int(at)) for at in world.population.created)
    with httpx.Client(transport=emulator.transport(), base_url="http://emulator", headers=headers) as client:
        bodies = (
            client.get("/conversations", params={"limit": PER_PAGE, "index": index}).content
            for index in range(1, -(-conversations // PER_PAGE) + 1)
        )
        texts = (bytes(text) for body in bodies for text in msgspec.json.decode(body, type=_Page).items)
        return [Conversation(*pair) for pair in zip(texts, created, strict=True)]


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]


def serve(listing: Listing, latency: float) -> None:
    """Serve until standard input is closed.

    :param latency: seconds before each response
    """
    listener = socket.create_server(("127.0.0.1", 0))
    Thread(target=_accept, args=(listener, listing, latency), daemon=True).start()
    size = sum(len(listing.text(at)) for at in range(len(listing.pool))) / len(listing.pool)
    about = {
        "url": f"http://127.0.0.1:{listener.getsockname()[1]}",
        "token": listing.token,
        "bytes_each": round(size),
    }
    print(json.dumps(about), flush=True)
    sys.stdin.read()


def _accept(listener: socket.socket, listing: Listing, latency: float) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Thread(target=_serve_connection, args=(connection, listing, latency), daemon=True).start()


def _serve_connection(connection: socket.socket, listing: Listing, latency: float) -> None:
    received = b""
    with connection:
        while chunk := connection.recv(65_536):
            received += chunk
            while b"\r\n\r\n" in received:
                request, _, received = received.partition(b"\r\n\r\n")
                time.sleep(latency)
                connection.sendall(listing.respond(request))


if __name__ == "__main__":
    serve(Listing(int(sys.argv[1])), float(sys.argv[2]) if len(sys.argv) > 2 else 0)
