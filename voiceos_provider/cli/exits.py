"""With which code does a command exit?

0    done
1    the API could not be read: no answer, an error of the server, a refusal; another try may succeed
2    an option, an environment variable or a connection is wrong
3    the token is missing, wrong, or not allowed to read conversations
4    the API answers, and not as its contract says
5    nothing was written: the target refused, or the export is more than was allowed
130  interrupted
"""

from __future__ import annotations

from voiceos_provider.exceptions import (
    VoiceOSAuthError,
    VoiceOSBadRequestError,
    VoiceOSError,
    VoiceOSExportError,
    VoiceOSResponseError,
    VoiceOSValueError,
)

DONE, UNREAD, USAGE, REFUSED, CONTRACT, UNWRITTEN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

_CODES: dict[type[VoiceOSError], int] = {
    VoiceOSValueError: USAGE,
    VoiceOSAuthError: REFUSED,
    VoiceOSBadRequestError: CONTRACT,
    VoiceOSResponseError: CONTRACT,
    VoiceOSExportError: UNWRITTEN,
    VoiceOSError: UNREAD,
}


def exit_code(error: VoiceOSError) -> int:
    """What a script may tell of an error."""
    return next(code for kind, code in _CODES.items() if isinstance(error, kind))
