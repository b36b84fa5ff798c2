"""Errors of the provider, and whether a retry may help.

    VoiceOSError
    ├── VoiceOSValueError             an argument or a connection is wrong; also a ValueError
    ├── VoiceOSAPIError               a request to the API failed, or responses contradict the contract
    │   ├── VoiceOSConnectionError    no complete response: DNS, refused, timeout, cut body  retryable
    │   │   └── VoiceOSTLSError       no TLS: an untrusted certificate, or a server of plain HTTP
    │   ├── VoiceOSServerError        408, 425 and other 5xx                                retryable
    │   ├── VoiceOSRateLimitError     429, or 503 with Retry-After                          retryable
    │   ├── VoiceOSAuthError          401, 403
    │   ├── VoiceOSNotFoundError      404
    │   ├── VoiceOSBadRequestError    3xx and other 4xx; shows the API's own `detail`
    │   ├── VoiceOSRecordingError     the audio behind a signed URL cannot be downloaded    retryable
    │   └── VoiceOSResponseError      2xx whose body is not what the API documents          retryable
    │       └── VoiceOSContractError  well-formed responses that break the API's contract
    │           └── VoiceOSResponseTooLargeError          more bytes than max_body_bytes
    └── VoiceOSExportError            the export stopped before it was published
        └── VoiceOSDestinationError   the store or database refused, or lacks what was sent     retryable

`client.responses` chooses the class for a status, and `load.sql.errors` for an error of a database: one that would
repeat itself, such as a missing right, is a plain VoiceOSExportError.
Every error survives pickling between processes.
Messages name the method, the path without its query, the status, the request id and the API's own
`detail`. They never hold a token, a body or a phone number.
"""

from __future__ import annotations

from typing import Self

_GONE = (404, 410)


class VoiceOSError(Exception):
    """Base of all errors of this provider."""

    retryable = False
    """Whether the same call may succeed later, unchanged."""

    @property
    def message(self) -> str:
        """The sentence that a log shows."""
        return str(self.args[0]) if self.args else type(self).__name__

    def __str__(self) -> str:
        return self.message


class VoiceOSValueError(VoiceOSError, ValueError):
    """An argument or a connection is wrong; the message names it and says what to change."""


class VoiceOSAPIError(VoiceOSError):
    """One request to the API failed.

    :param message: the request, what came back, and what to change
    :param status_code: HTTP status, if there was a response
    :param request_id: the request id that the server assigned, which its support needs
    :param retry_after: seconds the server asked to wait, if it did
    :param detail: the API's own explanation on one line, without credentials and phone numbers; part of the message
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        *,
        detail: str = "",
    ) -> None:
        super().__init__(message, status_code, request_id, retry_after)
        self.status_code = status_code
        self.request_id = request_id
        self.retry_after = retry_after
        self.detail = detail

    @property
    def is_gone(self) -> bool:
        """Whether the API says that what was requested does not exist any more.

        A 404 without the API's own explanation, as from a gateway while the API is deployed, does not say so.
        """
        return self.status_code in _GONE and bool(self.detail)

    @property
    def concerns_all_requests(self) -> bool:
        """Whether the status is not about what was requested: no response, a refused token, a rate limit."""
        return self.status_code in (None, 401, 429)

    def adding(self, sentence: str) -> Self:
        """Return the same error with another sentence in its message."""
        message = f"{self.message} {sentence}"
        return type(self)(message, self.status_code, self.request_id, self.retry_after, detail=self.detail)


class VoiceOSConnectionError(VoiceOSAPIError):
    """No complete response came back."""

    retryable = True


class VoiceOSTLSError(VoiceOSConnectionError):
    """The server's certificate is not trusted, or the server does not use TLS; a retry does not help."""

    retryable = False


class VoiceOSServerError(VoiceOSAPIError):
    """The API failed or timed out (5xx, 408, 425)."""

    retryable = True


class VoiceOSRateLimitError(VoiceOSAPIError):
    """The rate limit of the API is exceeded (429, or 503 with `Retry-After`)."""

    retryable = True


class VoiceOSAuthError(VoiceOSAPIError):
    """The token is missing, wrong, or not allowed to read this (401, 403)."""


class VoiceOSNotFoundError(VoiceOSAPIError):
    """The requested resource does not exist (404)."""


class VoiceOSBadRequestError(VoiceOSAPIError):
    """The API refuses the request as it was sent."""


class VoiceOSRecordingError(VoiceOSAPIError):
    """The audio of a recording cannot be downloaded from the signed URL that the API returned; a new URL may work."""

    retryable = True

    @property
    def is_gone(self) -> bool:
        """Whether the store of the audio says that it does not exist any more."""
        return self.status_code in _GONE


class VoiceOSResponseError(VoiceOSAPIError):
    """The status is a success, but the body is not what the API documents."""

    retryable = True


class VoiceOSContractError(VoiceOSResponseError):
    """Responses are well-formed, but break the contract: a filter ignored, pages without end."""

    retryable = False


class VoiceOSResponseTooLargeError(VoiceOSContractError):
    """The body is larger than `max_body_bytes`; a narrower window or a smaller page may fit."""


class VoiceOSExportError(VoiceOSError):
    """An export stopped before it was published."""


class VoiceOSDestinationError(VoiceOSExportError):
    """The store or database refused, or does not hold what was sent."""

    retryable = True
