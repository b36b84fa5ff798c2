"""The door on a port: how does an answer reach a client over TCP?

HTTP/1.1 with keep-alive, a thread for each connection, and each answer in one send unless it is meant to drip.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from voiceos_provider.emulator.delivery import Broken, journey
from voiceos_provider.emulator.exchange import Answer, Request

_CONNECTIONS_END_WITHIN = 2.0


@contextmanager
def serving(
    answer: Callable[[Request], Answer],
    *,
    host: str,
    port: int,
    sleep: Callable[[float], None] | None = None,
) -> Iterator[str]:
    """Serve while the context is open; its value is the base URL. On leaving, every connection is closed."""
    server = _Server((host, port), _Connection)
    server.answer = answer
    server.sleep = sleep
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="voiceos-emulator", daemon=True
    )
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        server.hang_up()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    answer: Callable[[Request], Answer]
    sleep: Callable[[float], None] | None

    def __init__(self, address: tuple[str, int], handler: type[_Connection]) -> None:
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, handler)

    def wait(self, seconds: float) -> None:
        if self.sleep is not None:
            self.sleep(seconds)
        elif self._stopping.wait(seconds):
            raise ConnectionAbortedError("The server is stopping.")

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def hang_up(self) -> None:
        self._stopping.set()
        with self._changed:
            for connection in self._open:
                # It may be closed already.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=_CONNECTIONS_END_WITHIN)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # That a client went away is its own affair; anything else is a mistake of the emulator's.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if not self.parse_request():
            return
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.send_error(400)
            return
        # Left unread, a body would be taken for the next request.
        self.rfile.read(int(length))
        path, _, query = self.path.partition("?")
        answer = self.server.answer(
            Request(
                method=self.command,
                path=path,
                query_string=query,
                headers={name.lower(): value for name, value in self.headers.items()},
            )
        )
        self._deliver(answer)

    def _deliver(self, answer: Answer) -> None:
        ready: list[bytes] = []
        for step in journey(answer.head, answer.body, answer.delivery):
            if isinstance(step, bytes):
                ready.append(step)
                continue
            self._send(ready)
            if isinstance(step, float):
                self.server.wait(step)
            else:
                self._break(step)
        self._send(ready)

    def _send(self, ready: list[bytes]) -> None:
        if ready:
            self.connection.sendall(b"".join(ready))
            ready.clear()

    def _break(self, how: Broken) -> None:
        self.close_connection = True
        if how is Broken.RESET:
            # To linger for no time at all makes closing a reset. The socket closes only once its files have.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass
