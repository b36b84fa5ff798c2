"""Server on a port: HTTP/1.1 with keep-alive and one thread per connection.

A response is sent in one call, unless a fault makes it slow.
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

from voiceos_provider.emulator.http_messages import Broken, Request, Response, delivery_steps

_CONNECTIONS_END_WITHIN = 2.0


@contextmanager
def serve(
    respond: Callable[[Request], Response],
    *,
    host: str,
    port: int,
    sleep: Callable[[float], None] | None = None,
) -> Iterator[str]:
    """Serve while the context is open; its value is the base URL. On leaving, every connection is closed."""
    server = _Server((host, port), _Connection)
    server.respond = respond
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
        server.close_connections()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    respond: Callable[[Request], Response]
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

    def close_connections(self) -> None:
        self._stopping.set()
        with self._changed:
            for connection in self._open:
                # It may be closed already.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=_CONNECTIONS_END_WITHIN)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may close its connection at any time; every other error is a bug in the emulator.
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
        # An unread body would be read as the next request.
        self.rfile.read(int(length))
        path, _, query = self.path.partition("?")
        response = self.server.respond(
            Request(
                method=self.command,
                path=path,
                query_string=query,
                headers={name.lower(): value for name, value in self.headers.items()},
            )
        )
        self._deliver(response)

    def _deliver(self, response: Response) -> None:
        ready: list[bytes] = []
        for step in delivery_steps(response.head, response.body, response.delivery):
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
            # With a linger time of zero, closing sends a reset. The socket closes after its files.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass
