"""What did an engine refuse, told without a value of a row?

Engines quote rows in their messages (`Key (phone)=(+1555...) already exists`), and so do triggers. Once rows were sent,
a message is repeated only if it is known to name things; its class, SQLSTATE and number are told in any case.
"""

from __future__ import annotations

import errno
import re
import ssl
from dataclasses import dataclass
from typing import Any

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSExportError

_OF_THE_SERVER = ("08", "25", "28", "3D", "40", "42501", "53", "55", "57")
"""About the connection, the login, rights, locks and what the server has left."""

_OF_THE_STATEMENT = ("3F", "42")
"""About names and types. At run time such a name may be a value: `'+1555...'::regclass`, a query of a text search."""

_PASSING = ("08", "40", "53300", "57P0")
"""What passes in a moment: connection lost, deadlock, serialization failure, too many connections, restart."""

_RETRYABLE = ("08", "40", "53", "55", "57", "58")
"""What may pass in a while: also a full disk, a lock, a server in trouble."""

_CURES = {
    "42501": "Grant it, or name another schema.",
    "28": "The connection's login is refused.",
    "3D000": "There is no such database; see the connection's schema field.",
    "3F000": "There is no such schema; create it, or name another one.",
    "40": "Somebody else wrote to the same rows.",
    "53100": "The server's disk is full.",
    "55P03": "Somebody else held a lock for longer than lock_timeout.",
    "57014": "The server cancelled it: statement_timeout, or an administrator.",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an engine said.

    :param kind: the driver's class of the error
    :param sqlstate: five characters, if the engine has them
    :param code: the engine's own number or name, if it has one
    :param constraint: which constraint, table or column, if it said so
    :param message: what it said
    :param plain: whether the message names things only, whatever rows were sent
    :param passing: whether the same may work in a moment
    :param lost: whether the connection is gone, so that nothing more can be asked of it
    """

    kind: str
    sqlstate: str | None = None
    code: str | None = None
    constraint: str | None = None
    message: str = ""
    plain: bool = False
    passing: bool = False
    lost: bool = False

    def shown(self, *, frank: bool) -> str:
        """The part of the message that may be repeated."""
        if not (frank or self.plain):
            return ""
        line = next(iter(self.message.splitlines()), "").strip()
        found = re.search(r"(?:ERROR|FATAL|PANIC):\s+(.*)", line)
        return (found[1] if found else line)[:300]

    def error(self, engine: str, doing: str, *, frank: bool = False) -> VoiceOSExportError:
        """The error to raise: what was refused, by whom, why, and who can mend it.

        :param frank: whether no row can be in the message, because none was sent yet
        """
        names = [self.kind]
        names += [f"SQLSTATE {self.sqlstate}"] if self.sqlstate else []
        names += [f"code {self.code}"] if self.code and self.code != self.sqlstate else []
        names += [f"at {self.constraint}"] if self.constraint else []
        shown = self.shown(frank=frank).rstrip(".")
        said = f": {shown}" if shown else ""
        cure = next(
            (text for state, text in _CURES.items() if (self.sqlstate or "").startswith(state)),
            "Host, port, login and database are those of the connection that sql_conn_id names."
            if doing == "connect"
            else "",
        )
        told = f"{engine} refused to {doing} ({', '.join(names)}){said}. {cure}".rstrip()
        retryable = (
            self.passing
            or self.lost
            or (self.sqlstate or "").startswith(_RETRYABLE)
            or not (self.sqlstate or self.code)
        )
        return VoiceOSDestinationError(told) if retryable else VoiceOSExportError(told)


class InterferenceError(VoiceOSDestinationError):
    """The tables do not hold what was written: somebody else wrote at the same time, or a trigger did."""


def refusal_of(error: BaseException) -> Refusal:
    """What a DB-API driver's error says, whichever driver it is."""
    details = _details(error)
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
    plain = (bool(details) or diagnostics is not None) and is_plain(
        sqlstate,
        context=details.get("CONTEXT") or getattr(diagnostics, "context", None),
        position=details.get("STATEMENT_POSITION") or getattr(diagnostics, "statement_position", None),
    )
    return Refusal(
        kind=kind,
        sqlstate=sqlstate,
        constraint=constraint,
        message=message,
        plain=plain,
        passing=lost or (sqlstate or "").startswith(_PASSING),
        lost=lost or (sqlstate or "").startswith(("08", "57P0")),
    )


def unreached(error: OSError) -> Refusal:
    """What it means that the engine was not reached: rows on this machine's disk have errors of their own.

    Those of `requests` and of sockets are of this class; those that are ValueErrors, too, are about an address or a
    certificate.
    """
    passing = not isinstance(error, (ValueError, FileNotFoundError, PermissionError))
    code = (
        None if isinstance(error, ssl.SSLError) else errno.errorcode.get(error.errno or 0)
    )  # OpenSSL has its own
    return Refusal(kind=type(error).__name__, code=code, message=str(error), passing=passing, lost=passing)


def is_plain(sqlstate: str | None, *, context: object, position: object) -> bool:
    """Whether a message of PostgreSQL's kind names things only.

    :param context: where it arose, if not in our own statement: a function or a trigger of a user's may say anything
    :param position: where in our statement the fault is, if the server could tell that before it saw a row
    """
    if context or sqlstate is None:
        return False
    return sqlstate.startswith(_OF_THE_SERVER) or (bool(position) and sqlstate.startswith(_OF_THE_STATEMENT))


def _details(error: Any) -> dict[str, str]:
    """What an ADBC driver adds: `PG_DIAG_CONSTRAINT_NAME` and the like."""
    found: dict[str, str] = {}
    for name, value in getattr(error, "details", None) or ():
        if isinstance(name, bytes) and isinstance(value, bytes):
            found[name.decode().removeprefix("PG_DIAG_")] = value.decode(errors="replace")
    return found
