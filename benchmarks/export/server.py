"""Serve conversations that were written beforehand, so that the server costs little of what is measured.

    python -m benchmarks.export.server 100000

The emulator says when conversations are created, by day and night and in campaigns, and writes a pool of them. A
listing longer than the pool goes round it with other ids and times, so that memory stays bounded, every id is distinct,
and a text comes again only after the whole pool. Windows of creation time are answered as by the API, newest first.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from threading import Thread
from urllib.parse import unquote_to_bytes

import httpx
import msgspec
import numpy as np

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.emulator.instants import to_datetime, to_microseconds
from voiceos_provider.interval import isoformat

PER_PAGE = 100
POOL = 20_000
START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=1)

_ID = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = rb"(?<=_at\":\")[^\"]+"
_VARIES = re.compile(rb"(%b|%b)" % (_ID, _TIME))
_QUERY = re.compile(rb"[?&](\w+)=([^& ]*)")
_STEP = 0x9E3779B97F4B  # odd, so that no two rounds give one conversation the same id
_48_BITS = 2**48 - 1
_UUID = 36


class Conversation:
    """A conversation, cut at its ids and times."""

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
        """The conversation, as it is the nth time, and had it been created then."""
        pieces = self._pieces.copy()
        for at, head, tail in self._ids:
            pieces[at] = b"%b%012x" % (head, tail + round_ * _STEP & _48_BITS)
        for at, later in self._times:
            pieces[at] = isoformat(created + later).encode()
        return b"".join(pieces)


class Listing:
    """The answers to requests for so many conversations."""

    def __init__(self, conversations: int) -> None:
        self.token = "emulator-token"
        self.created = World(seed=7, conversations=conversations, start=START, end=END).population.created
        self.pool = _written(min(conversations, POOL), self.token)

    def answer(self, request: bytes) -> bytes:
        """The response to one request, head and all."""
        if f"authorization: bearer {self.token}".encode() not in request.lower():
            return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        query = {name.decode(): unquote_to_bytes(value).decode() for name, value in _QUERY.findall(request)}
        limit, index = int(query.get("limit", PER_PAGE)), int(query.get("index", 1))
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
        """One of the conversations, counted by creation."""
        round_, place = divmod(at, len(self.pool))
        return self.pool[place].text(to_datetime(int(self.created[at])), round_)


def _written(conversations: int, token: str) -> list[Conversation]:
    """Conversations as the emulator writes them long after the last one has ended."""
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


def serve(listing: Listing) -> None:
    """Response until standard input is closed."""
    door = socket.create_server(("127.0.0.1", 0))
    Thread(target=_accept, args=(door, listing), daemon=True).start()
    size = sum(len(listing.text(at)) for at in range(len(listing.pool))) / len(listing.pool)
    about = {
        "url": f"http://127.0.0.1:{door.getsockname()[1]}",
        "token": listing.token,
        "bytes_each": round(size),
    }
    print(json.dumps(about), flush=True)
    sys.stdin.read()


def _accept(door: socket.socket, listing: Listing) -> None:
    while True:
        connection, _ = door.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Thread(target=_talk, args=(connection, listing), daemon=True).start()


def _talk(connection: socket.socket, listing: Listing) -> None:
    received = b""
    with connection:
        while chunk := connection.recv(65_536):
            received += chunk
            while b"\r\n\r\n" in received:
                request, _, received = received.partition(b"\r\n\r\n")
                connection.sendall(listing.answer(request))


if __name__ == "__main__":
    serve(Listing(int(sys.argv[1])))
