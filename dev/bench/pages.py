"""Serve conversations that were written beforehand, so that the server costs little of what is measured.

    python dev/bench/pages.py 100000

The emulator writes a pool of pages. A listing longer than the pool goes round it with other ids, so that memory stays
bounded, every id is distinct, and a text comes again only after the whole pool.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from threading import Thread

import httpx

from voiceos_provider.emulator import Emulator, World

PER_PAGE = 100
POOL = 20_000
START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=1)

_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_INDEX, _LIMIT = re.compile(rb"[?&]index=(\d+)"), re.compile(rb"[?&]limit=(\d+)")
_STEP = 0x9E3779B97F4B  # odd, so that no two rounds give one conversation the same id
_48_BITS = 2**48 - 1


class Page:
    """A hundred conversations, cut at their ids."""

    def __init__(self, items: bytes) -> None:
        self._between = _ID.split(items)
        self._ids = [(found[:24], int(found[24:], 16)) for found in _ID.findall(items)]

    def items(self, round_: int) -> bytes:
        """The conversations as they are listed the nth time."""
        pieces = [b""] * (2 * len(self._ids) + 1)
        pieces[::2] = self._between
        pieces[1::2] = [b"%b%012x" % (head, tail + round_ * _STEP & _48_BITS) for head, tail in self._ids]
        return b"".join(pieces)


class Listing:
    """The answers to a listing of so many conversations."""

    def __init__(self, conversations: int) -> None:
        self.token = "emulator-token"
        self.pages = -(-conversations // PER_PAGE)
        self.pool = [Page(items) for items in _written(min(conversations, POOL), self.token)]
        self._ready: tuple[int, bytes] = (0, b"")

    def answer(self, request: bytes) -> bytes:
        """The response to one request, head and all."""
        index, limit = _INDEX.search(request), _LIMIT.search(request)
        if f"authorization: bearer {self.token}".encode() not in request.lower():
            return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        if limit is None or int(limit[1]) != PER_PAGE:
            return b"HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 0\r\n\r\n"
        number = int(index[1]) if index else 1
        ready, body = self._ready
        return body if ready == number else self._page(number)

    def prepare(self, request: bytes) -> None:
        """Write the page after this one, while the client is busy."""
        index = _INDEX.search(request)
        number = int(index[1]) + 1 if index else 2
        self._ready = number, self._page(number)

    def _page(self, number: int) -> bytes:
        items = b""
        if number <= self.pages:
            round_, at = divmod(number - 1, len(self.pool))
            items = self.pool[at].items(round_)
        more = b"true" if number < self.pages else b"false"
        body = b'{"items":[%b],"index":%d,"has_more":%b}' % (items, number, more)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + body


def _written(conversations: int, token: str) -> list[bytes]:
    """The items of each page, as the emulator writes them long after the last conversation has ended."""
    world = World(seed=7, conversations=conversations, start=START, end=END)
    emulator = Emulator(world, token=token, clock=lambda: END + timedelta(days=7), keep_requests=False)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(transport=emulator.transport(), base_url="http://emulator", headers=headers) as client:
        bodies = (
            client.get("/conversations", params={"limit": PER_PAGE, "index": index}).content
            for index in range(1, -(-conversations // PER_PAGE) + 1)
        )
        return [body[body.index(b"[") + 1 : body.rindex(b'],"index"')] for body in bodies]


def serve(listing: Listing) -> None:
    """Answer until standard input is closed."""
    door = socket.create_server(("127.0.0.1", 0))
    Thread(target=_accept, args=(door, listing), daemon=True).start()
    size = sum(len(page.items(0)) for page in listing.pool) / (len(listing.pool) * PER_PAGE)
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
                listing.prepare(request)


if __name__ == "__main__":
    serve(Listing(int(sys.argv[1])))
