"""HTTP client for GET requests without a proxy: the processor time of a request is half of what it is with httpx."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import h11
import httpcore
import httpx

from voiceos_provider.client.network import MAX_IDLE, NETWORK, READ_SIZE, errors_of_httpx

_LARGEST_HEAD = 100 * 1024
"""Bytes of a response's headers. As in httpcore."""


class DirectClient:
    """The part of `httpx.Client` that GET requests without a proxy need. Threads may share it.

    HTTP/1.1 is parsed by h11 and sent through the network of httpcore, as in httpx. It keeps no cookies.

    :param headers: headers of every request
    :param connect_timeout: limit for connecting to one address of the host, and for TLS, in seconds; `deadline` limits
        all else
    """

    def __init__(
        self, *, headers: Mapping[str, str], ssl_context: ssl.SSLContext, connect_timeout: float
    ) -> None:
        ssl_context.set_alpn_protocols(["http/1.1"])
        self._headers = headers
        self._ssl_context = ssl_context
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = threading.Event()

    def close(self) -> None:
        """Close the connections. A request in progress ends before it sends, or before its next read."""
        with self._lock:
            self._closed.set()
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def stream(self, *, method: str, url: str, headers: Mapping[str, str]) -> Iterator[DirectResponse]:
        """Send a request and yield the response, as `httpx.Client.stream` does."""
        target = httpx.URL(url)
        with errors_of_httpx():
            connection = self._acquire(target)
            try:
                yield connection.exchange(method, target, {**self._headers, **headers})
            finally:
                self._release(connection)

    def _acquire(self, url: httpx.URL) -> _Connection:
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("Cannot send a request, as the client has been closed.")
            while self._idle:
                connection = self._idle.pop()
                if connection.is_alive():
                    return connection
                connection.close()
        host, is_tls = url.raw_host.decode("ascii"), url.scheme == "https"
        stream = NETWORK.connect_tcp(host, url.port or (443 if is_tls else 80), self._connect_timeout)
        if is_tls:
            try:
                stream = stream.start_tls(self._ssl_context, host, self._connect_timeout)
            except BaseException:
                stream.close()
                raise
        return _Connection(stream, self._closed)

    def _release(self, connection: _Connection) -> None:
        with self._lock:
            while self._idle and not self._idle[0].is_alive():
                self._idle.pop(0).close()
            if connection.is_done() and not self._closed.is_set():
                connection.rest()
                self._idle.append(connection)
                return
        connection.close()


class _Connection:
    """A connection to the server.

    :param closed: set once nothing more is to be read
    """

    def __init__(self, stream: httpcore.NetworkStream, closed: threading.Event) -> None:
        self._stream = stream
        self._closed = closed
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)
        self._expires_at = 0.0

    def close(self) -> None:
        self._stream.close()

    def is_done(self) -> bool:
        """Return whether exactly one response was read, after which the server accepts another request."""
        http = self._http
        return http.our_state is http.their_state is h11.DONE and not http.trailing_data[0]

    def rest(self) -> None:
        """Prepare for the next request."""
        self._http.start_next_cycle()
        self._expires_at = time.monotonic() + MAX_IDLE

    def is_alive(self) -> bool:
        """Return whether the server has neither closed the idle connection nor sent anything on it."""
        return time.monotonic() < self._expires_at and not self._stream.get_extra_info("is_readable")

    def exchange(self, method: str, url: httpx.URL, headers: Mapping[str, str]) -> DirectResponse:
        """Send a request, and return the response once its headers have arrived."""
        fields = [("Host", url.netloc.decode("ascii")), *headers.items()]
        request = self._http.send(h11.Request(method=method, target=url.raw_path, headers=fields)) or b""
        self._require_open()
        with suppress(httpcore.WriteError):  # a server may respond, for instance with 503, without reading
            self._stream.write(request)
            self._http.send(h11.EndOfMessage())
        while not isinstance(event := self._next_event(), h11.Response):
            pass
        return DirectResponse(event, self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while isinstance(event := self._next_event(), h11.Data):
            yield event.data

    def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._require_open()
            data = self._stream.read(READ_SIZE)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise httpcore.RemoteProtocolError("Server disconnected without sending a response.")
            self._http.receive_data(data)
        return event

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise httpcore.ReadError("the client was closed")


class DirectResponse:
    """The part of `httpx.Response` that the client needs."""

    def __init__(self, head: h11.Response, chunks: Iterator[bytes]) -> None:
        self.status_code = head.status_code
        self.headers = httpx.Headers(head.headers.raw_items())
        self._chunks = chunks

    def iter_raw(self) -> Iterator[bytes]:
        """Yield the body, not decompressed."""
        return self._chunks
