"""Is the body of an answer whole, and no larger than allowed? No I/O: chunks come in as they arrive."""

from __future__ import annotations

import zlib

from voiceos_provider.exceptions import (
    VoiceOSConnectionError,
    VoiceOSResponseError,
    VoiceOSResponseTooLargeError,
)

ACCEPT_ENCODING = "gzip"
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Body:
    """Collects the chunks of one answer, decompressed.

    httpx decodes without a bound and takes a truncated gzip stream for a short body, so it is done here.

    :param what: the request, for messages
    :param encoding: the answer's `Content-Encoding`
    :param limit: bytes allowed after decompression
    """

    def __init__(self, what: str, encoding: str, *, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._size = 0
        self._chunks: list[bytes] = []
        self._bits: int | None = None
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity"):
            if encoding not in _WINDOW_BITS:
                raise VoiceOSResponseError(f"{what}: unknown Content-Encoding {encoding!r}.")
            self._bits = _WINDOW_BITS[encoding]
            self._inflate = zlib.decompressobj(self._bits)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes off the wire.

        :raises VoiceOSContractError: once the body is larger than allowed
        :raises VoiceOSConnectionError: if it does not decompress
        """
        if self._bits is None:
            self._keep(chunk)
            return
        while chunk:
            if self._inflate.eof:  # a gzip stream may have several members
                self._inflate = zlib.decompressobj(self._bits)
            try:
                piece = self._inflate.decompress(chunk, self._limit - self._size + 1)
            except zlib.error:
                raise VoiceOSConnectionError(f"{self._what}: the compressed body is damaged.") from None
            self._keep(piece)
            chunk = self._inflate.unconsumed_tail or self._inflate.unused_data

    def finish(self) -> bytes:
        """The whole body.

        :raises VoiceOSConnectionError: if the compressed stream ends too early
        """
        if self._bits is not None and not self._inflate.eof:
            raise VoiceOSConnectionError(f"{self._what}: the compressed body ends too early.")
        return b"".join(self._chunks)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise VoiceOSResponseTooLargeError(
                f"{self._what}: the body is larger than {self._limit:,} bytes; ask for a smaller page."
            )
        self._chunks.append(piece)
