"""What a lake format implements: a lake of tables, and one table of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError
from voiceos_provider.interval import Interval
from voiceos_provider.transform import Table

EXPORT_ID = "voiceos.export-id"
"""Property of a commit that identifies the export; a retry finds its commit by it."""


class ConflictError(VoiceOSDestinationError):
    """Another writer has committed to the table since it was loaded; the change has to be computed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one commit does to one table.

    :param removed: values of the table's first key column; all existing rows that have one of them are removed
    :param intervals: every removed row is of an interval that touches one of these; None if it may be of any
    :param added: reads the rows to add, any number of times
    :param rows: number of rows to add
    :param properties: properties of the commit
    """

    removed: pa.Array
    intervals: Sequence[Interval] | None
    added: Callable[[], Iterator[pa.RecordBatch]]
    rows: int
    properties: Mapping[str, str] = field(default_factory=dict)


class LakeTable(ABC):
    """One table of a lake.

    The methods other than `exists` and `load` work with the state of the table that `load` has read.

    :param table: the declaration
    :param name: its name in the lake, for messages
    """

    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name

    @abstractmethod
    def exists(self) -> bool:
        """Return whether the table exists."""

    @abstractmethod
    def load(self, *, create: bool) -> None:
        """Read the current state of the table; create it, or add missing columns, if that is allowed.

        Columns and properties that are not ours stay as they are.

        :raises VoiceOSExportError: if the table or a column is missing and `create` is false, or if the type of a
            column cannot hold our values
        """

    @abstractmethod
    def find_commit(self, export_id: str) -> Mapping[str, str] | None:
        """Return the properties of the commit whose property `EXPORT_ID` has this value; None if there is none."""

    @abstractmethod
    def scan(self, columns: Sequence[str], intervals: Sequence[Interval] | None) -> Iterator[pa.RecordBatch]:
        """Yield existing rows of intervals that touch one of these; of all intervals for None.

        An existing row's interval touches another one if `_interval_start <= end` and `_interval_end >= start`.

        :param columns: our columns to read; their Arrow types are those of the declaration
        """

    @abstractmethod
    def commit(self, change: Change) -> None:
        """Remove and add rows in one commit, based on the state that `load` has read.

        :raises ConflictError: if another writer has committed meanwhile; then nothing is changed
        """

    @abstractmethod
    def refresh(self) -> None:
        """Read the current state of the existing table, whichever columns it has."""

    @abstractmethod
    def delete(self, values: pa.Array) -> None:
        """Remove all rows that have one of these values in the table's first key column, in one commit.

        :raises ConflictError: if another writer has committed meanwhile; then nothing is changed
        """

    @abstractmethod
    def purge(self) -> int:
        """Remove the history before the state that `refresh` has read, and return the number of data files deleted.

        Files of commits in progress stay.

        :raises VoiceOSExportError: if a part of the history cannot be removed, because something refers to it
        """


class Lake(ABC):
    """Tables of one format in one namespace.

    :param title: name of the format, for messages
    :param uri: address of the tables, without credentials
    """

    title: str
    uri: str

    @abstractmethod
    def table(self, table: Table) -> LakeTable:
        """Return one table, without reading anything."""

    @abstractmethod
    def describe(self, error: Exception, action: str) -> VoiceOSError:
        """Return the exception to raise for an error of the format's library; its message contains no value of a row.

        :param action: what was tried, such as "write to the table voiceos.conversations"
        """
