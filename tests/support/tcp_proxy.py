"""TCP proxy whose connections can be cut at any moment."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

Address = tuple[str, int] | str
"""A host and a port, or the path of a socket."""


class TcpProxy:
    """Proxy that forwards bytes in both directions; made by `tcp_proxy`."""

    def __init__(self, listening: socket.socket, server: Address) -> None:
        self._listening = listening
        self._server = server
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()

    def cut(self) -> None:
        """Reset all existing connections; new ones can be made."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def serve(self) -> None:
        """Accept connections until the listening socket is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
                try:
                    server.connect(self._server)
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._ends += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_forward, args=(one, other), daemon=True).start()


def _forward(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@contextmanager
def tcp_proxy(server: Address, *, at: Address = ("127.0.0.1", 0)) -> Iterator[tuple[TcpProxy, Address]]:
    """Yield a proxy to a server, and the address of the proxy."""
    with contextlib.closing(
        socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET)
    ) as listening:
        listening.bind(at)
        listening.listen()
        proxy = TcpProxy(listening, server)
        thread = threading.Thread(target=proxy.serve, daemon=True)
        thread.start()
        yield proxy, listening.getsockname()
        listening.shutdown(socket.SHUT_RDWR)
        proxy.cut()
        thread.join()
