"""Errors of database engines, described without values of rows.

Engines quote rows in their messages (`Key (phone)=(+1555...) already exists`), and so do triggers. Once rows were sent,
a message is repeated only if it is known to contain names and no values. The class, SQLSTATE and code always are.
"""

from __future__ import annotations

import errno
import re
import ssl
from dataclasses import dataclass
from typing import Any

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError

LOCK_TIMEOUT = "55P03"

_ABOUT_THE_SERVER = ("08", "25", "28", "3D", "40", "42501", "53", "55", "57")
"""SQLSTATEs about the connection, the login, rights, locks and resources."""

_ABOUT_THE_STATEMENT = ("3F", "42")
"""SQLSTATEs about names and types. At run time such a name may be a value: `'+1555...'::regclass`."""

_TRANSIENT = ("08", "40", "53300", "57P0")
"""Connection lost, deadlock, serialization failure, too many connections, restart: retried at once."""

_LOST = ("08", "57P0")
"""Connection lost, restart."""

_RETRYABLE = ("08", "40", "53", "55", "57", "58")
"""Also a full disk, a lock timeout, a failing server: left to the retries of the task."""

_CURES = {
    "22001": "A value is longer than its column: make the column wider, or choose another table_prefix.",
    "22003": "A number is out of the range of its column: change the column's type, or choose another table_prefix.",
    "23505": "A unique constraint or the column's collation treats two keys as equal (case, trailing spaces).",
    "28": "Check the login of the connection.",
    "3D000": "Check the database in the connection's Schema field.",
    "3F000": "Create the schema, or choose another one.",
    "40": "Another session wrote the same rows.",
    "42501": "Grant the right, or choose another schema.",
    "53100": "The server's disk is full.",
    LOCK_TIMEOUT: "Another session held a lock for longer than lock_timeout; raise it, or run fewer loads at once.",
    "57014": "The server cancelled the statement: statement_timeout, or an administrator.",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Description of an engine's error.

    :param kind: class of the driver's error
    :param sqlstate: SQLSTATE, if the engine has one
    :param code: the engine's own number or name
    :param constraint: the constraint, column or table concerned
    :param message: the engine's message
    :param names_only: the message contains names and no values, whatever rows were sent
    :param transient: the same statement may succeed in a moment; derived from the SQLSTATE, `lost` and `locked`
    :param lost: the connection is lost; also derived from the SQLSTATE
    :param locked: another session held a lock; retried until `lock_timeout` has passed
    """

    kind: str
    sqlstate: str | None = None
    code: str | None = None
    constraint: str | None = None
    message: str = ""
    names_only: bool = False
    transient: bool = False
    lost: bool = False
    locked: bool = False

    def __post_init__(self) -> None:
        """Derive what the SQLSTATE says."""
        state = self.sqlstate or ""
        lost = self.lost or state.startswith(_LOST)
        transient = self.transient or lost or self.locked or state.startswith(_TRANSIENT)
        object.__setattr__(self, "lost", lost)
        object.__setattr__(self, "transient", transient)

    def shown_message(self, *, rows_sent: bool) -> str:
        """Return the part of the message that may be repeated."""
        if rows_sent and not self.names_only:
            return ""
        line = next(iter(self.message.splitlines()), "").strip()
        found = re.search(r"(?:ERROR|FATAL|PANIC):\s+(.*)", line)
        return (found[1] if found else line)[:300]

    def to_exception(self, engine: str, action: str, *, rows_sent: bool = True) -> VoiceOSExportError:
        """Return the exception to raise: what failed, why, and what to change.

        :param rows_sent: whether the message may contain a row
        """
        names = [self.kind]
        names += [f"SQLSTATE {self.sqlstate}"] if self.sqlstate else []
        names += [f"code {self.code}"] if self.code and self.code != self.sqlstate else []
        names += [f"at {self.constraint}"] if self.constraint else []
        shown = self.shown_message(rows_sent=rows_sent).rstrip(".")
        detail = f": {shown}" if shown else ""
        cure = next(
            (text for state, text in _CURES.items() if (self.sqlstate or "").startswith(state)),
            "Check host, port, login and database of the connection in sql_conn_id."
            if action == "connect"
            else "",
        )
        message = f"{engine} refused to {action} ({', '.join(names)}){detail}. {cure}".rstrip()
        retryable = (
            self.transient or (self.sqlstate or "").startswith(_RETRYABLE) or not (self.sqlstate or self.code)
        )
        return VoiceOSDestinationError(message) if retryable else VoiceOSExportError(message)


class InterferenceError(VoiceOSDestinationError):
    """The tables do not hold what was written, because of another writer or a trigger."""


def failure_of(error: BaseException) -> Failure:
    """Describe the error of any DB-API driver."""
    details = _adbc_details(error)
    sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or details.get("SQLSTATE")
    sqlstate = str(sqlstate) if sqlstate and re.fullmatch(r"[0-9A-Z]{5}", str(sqlstate)) else None
    diagnostics = getattr(error, "diag", None)
    constraint = next(
        (
            value
            for name in ("constraint_name", "column_name", "table_name")
            if (value := details.get(name.upper()) or getattr(diagnostics, name, None))
        ),
        None,
    )
    kind = type(error).__name__
    lost = kind in ("OperationalError", "InterfaceError") and sqlstate is None
    message = details.get("MESSAGE_PRIMARY") or getattr(diagnostics, "message_primary", None) or str(error)
    names_only = (bool(details) or diagnostics is not None) and has_names_only(
        sqlstate,
        context=details.get("CONTEXT") or getattr(diagnostics, "context", None),
        position=details.get("STATEMENT_POSITION") or getattr(diagnostics, "statement_position", None),
    )
    return Failure(
        kind=kind,
        sqlstate=sqlstate,
        constraint=constraint,
        message=message,
        names_only=names_only,
        lost=lost,
    )


def unreachable(error: OSError) -> Failure:
    """Describe a network error. Errors of `requests` and of sockets are OSErrors.

    Those that are ValueErrors, too, concern an address or a certificate.
    """
    lost = not isinstance(error, (ValueError, FileNotFoundError, PermissionError))
    # OpenSSL has error numbers of its own.
    code = None if isinstance(error, ssl.SSLError) else errno.errorcode.get(error.errno or 0)
    return Failure(kind=type(error).__name__, code=code, message=str(error), lost=lost)


def has_names_only(sqlstate: str | None, *, context: object, position: object) -> bool:
    """Return whether a message in PostgreSQL's format contains names and no values.

    :param context: the function or trigger that raised it, if not our own statement; such a message may say anything
    :param position: the position in our statement, known if the server found the error before it read rows
    """
    if context or sqlstate is None:
        return False
    return sqlstate.startswith(_ABOUT_THE_SERVER) or (
        bool(position) and sqlstate.startswith(_ABOUT_THE_STATEMENT)
    )


def _adbc_details(error: Any) -> dict[str, str]:
    """Return what an ADBC driver adds, such as `PG_DIAG_CONSTRAINT_NAME`."""
    found: dict[str, str] = {}
    for name, value in getattr(error, "details", None) or ():
        if isinstance(name, bytes) and isinstance(value, bytes):
            found[name.decode().removeprefix("PG_DIAG_")] = value.decode(errors="replace")
    return found
