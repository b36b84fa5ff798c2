"""What a lake format implements: a lake of tables, and one table of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.plan import AUDIT_COLUMNS
from voiceos_provider.load.workdir import disk_error, is_disk_full
from voiceos_provider.transform import Column, Table

State = TypeVar("State")
"""What the format's library has read of a table."""

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


class LakeTable(ABC, Generic[State]):
    """One table of a lake.

    The methods other than `load` and `refresh` work with the state of the table that one of these has read.

    :param table: the declaration
    :param name: its name in the lake, for messages
    """

    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        self._read_state: State | None = None

    @property
    def bounded_columns(self) -> list[str]:
        """Columns whose smallest and largest values are in the metadata, so that readers skip files: the keys first.

        Those of other columns, such as phone numbers and messages, would stay there after their rows were deleted.
        """
        names = dict.fromkeys((*self.table.key, "account_id", "started_at", *AUDIT_COLUMNS))
        return [name for name in names if name in self.table.schema.names]

    def refresh(self) -> bool:
        """Read the current state of the table, whichever columns it has, and return whether it exists."""
        self._read_state = self._open()
        return self._read_state is not None

    def load(self, *, create: bool) -> None:
        """Read the current state of the table; create it, or add missing columns, if that is allowed.

        Columns and properties that are not ours stay as they are.

        :raises VoiceOSExportError: if the table or a column is missing and `create` is false, or if the type of a
            column cannot hold our values
        """
        if not self.refresh():
            if not create:
                raise VoiceOSExportError(f"The table {self.name} does not exist, and create_tables is false.")
            self._read_state = self._create()
        existing, needed = self._types()
        for name, type_ in needed.items():
            if existing.get(name, type_) != type_:
                raise VoiceOSExportError(
                    f"The column {name} of the table {self.name} has the type {existing[name]}; it needs {type_}. "
                    "Use another table_prefix."
                )
        missing = [column for column in self.table.columns if column.name not in existing]
        if missing and not create:
            names = ", ".join(column.name for column in missing)
            raise VoiceOSExportError(
                f"The table {self.name} lacks the columns {names}, and create_tables is false."
            )
        if missing:
            self._add_columns(missing)

    @property
    def _state(self) -> State:
        assert self._read_state is not None, "load() or refresh() comes first"
        return self._read_state

    def _conflict(self) -> ConflictError:
        return ConflictError(f"Another writer has committed to the table {self.name}.")

    @abstractmethod
    def _open(self) -> State | None:
        """Return the current state of the table; None if it does not exist."""

    @abstractmethod
    def _create(self) -> State:
        """Create the table, unless another export has created it meanwhile, and return its state."""

    @abstractmethod
    def _types(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return the types of the existing columns by name, and those that our columns need."""

    @abstractmethod
    def _add_columns(self, columns: Sequence[Column]) -> None:
        """Add nullable columns.

        :raises ConflictError: if another writer has committed meanwhile
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
        """Remove and add rows in one commit, based on the state that has been read.

        :raises ConflictError: if another writer has committed meanwhile; then nothing is changed
        """

    @abstractmethod
    def delete(self, values: pa.Array) -> None:
        """Remove all rows that have one of these values in the table's first key column, in one commit.

        :raises ConflictError: if another writer has committed meanwhile; then nothing is changed
        """

    @abstractmethod
    def purge(self) -> int:
        """Remove the history before the state that has been read, and return the number of data files deleted.

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
    def table(self, table: Table) -> LakeTable[Any]:
        """Return one table, without reading anything."""

    @abstractmethod
    def describe(self, error: Exception, action: str) -> VoiceOSError:
        """Return the exception to raise for an error of the format's library; its message contains no value of a row.

        :param action: what was tried, such as "write to the table voiceos.conversations"
        """

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Raise errors of the format's library as ours.

        :param action: as for `describe`
        """
        failure: VoiceOSError | None = None
        try:
            yield
        except VoiceOSError:
            raise
        except Exception as error:  # noqa: BLE001  each library has errors of its own
            failure = disk_error(error) if is_disk_full(error) else self.describe(error, action)
        if failure is not None:
            # Outside of the `except`, so that the library's error, which may contain rows, is not its context.
            raise failure
