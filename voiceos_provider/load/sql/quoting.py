"""How are names and values spelled?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.load.sql.namespace import Namespace
from voiceos_provider.transform import Table

STAMP = "%Y%m%d%H%M%S%f"
"""How the name of a staging table tells when its load began."""

STAGED = "_voiceos_"
ABANDONED_AFTER = timedelta(days=1)

_ESCAPED: Mapping[str, str] = {"'": "''"}

BACKSLASH_ESCAPES: Mapping[str, str] = {"\\": "\\\\", "'": "''"}
"""Of literals in which a backslash means something."""

ONLY_BACKSLASH_ESCAPES: Mapping[str, str] = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"}
"""Of literals in which two quotes end one and begin another."""


class Words:
    """The spelling of most engines.

    :param stamp: keeps the staging tables of two exports apart, where they are not each session's own: when this one
        began, as `STAMP` spells it
    :param placeholder: the driver's sign for a value
    """

    name: ClassVar[str] = "generic"
    title: ClassVar[str] = "The database"
    quotes: ClassVar[tuple[str, str]] = ('"', '"')
    longest_name: ClassVar[int] = 63
    escapes: ClassVar[Mapping[str, str]] = _ESCAPED
    """What stands for a character within a literal."""

    instants: ClassVar[str] = "TIMESTAMP '%Y-%m-%d %H:%M:%S.%f'"
    """An instant in UTC, as `strftime` is told to spell it."""

    temporary: ClassVar[str] = ""
    """How a table of the session's own is created; empty where it is an ordinary one, to be dropped."""

    needs_schema: ClassVar[bool] = False
    """Whether the connection has no schema of its own."""

    def __init__(self, *, stamp: str = "0", placeholder: str = "?") -> None:
        self._stamp = stamp
        self._placeholder = placeholder

    def quote(self, name: str) -> str:
        """An identifier that means this name and nothing else."""
        opening, closing = self.quotes
        return f"{opening}{name.replace(closing, closing * 2)}{closing}"

    def require_name(self, parameter: str, name: str) -> None:
        """:raises VoiceOSValueError: if nothing can be called so"""
        if not name.isprintable():
            raise VoiceOSValueError(f"{parameter} {name!r} holds a character that no name has.")
        if len(name.encode()) > self.longest_name:
            raise VoiceOSValueError(
                f"{parameter} makes the name {name!r}; {self.title} takes at most {self.longest_name} bytes."
            )

    def bare(self, place: Namespace, table: Table) -> str:
        """The table's name alone, quoted: how its columns are qualified inside a statement."""
        return self.quote(place.prefix + table.name)

    def at(self, place: Namespace, table: Table) -> str:
        """The table's whole name, quoted."""
        return (f"{self.quote(place.schema)}." if place.schema else "") + self.bare(place, table)

    def staging(self, place: Namespace) -> Namespace:
        """Where staging tables stand."""
        return Namespace(None if self.temporary else place.schema, f"{STAGED}{self._stamp}_")

    def begun(self, at: datetime) -> None:
        """A load begins: its staging tables are named for this moment."""
        self._stamp = at.strftime(STAMP)

    def is_abandoned(self, name: str) -> bool:
        """Whether this is the name of a staging table whose load began a day before this one."""
        staged = re.fullmatch(rf"{STAGED}(\d{{20}})_\w+", name, re.IGNORECASE)
        if staged is None:
            return False
        try:
            theirs, ours = (
                datetime.strptime(stamp, STAMP).replace(tzinfo=UTC) for stamp in (staged[1], self._stamp)
            )
        except ValueError:
            return False
        return ours - theirs > ABANDONED_AFTER

    def instant(self, moment: datetime) -> str:
        """A literal."""
        return moment.astimezone(UTC).strftime(self.instants)

    def text(self, value: str) -> str:
        """A literal."""
        return "'" + "".join(self.escapes.get(letter, letter) for letter in value) + "'"
