"""What every destination of an export provides: files, SQL databases, lakes and memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from voiceos_provider.client import Rejected
from voiceos_provider.interval import Interval
from voiceos_provider.load.checkpoint import SpooledRows
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.load.receipt import ExportReceipt, ReadCounts
from voiceos_provider.load.spool import Resumed
from voiceos_provider.load.workdir import WorkDir
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import Rows


class Writer(Protocol):
    """Takes rows, which become visible when they are published."""

    def write(self, rows: dict[str, Rows]) -> None:
        """Add rows of every table. If a conversation is added several times, its last rows count."""

    def reject(self, rejected: list[Rejected]) -> None:
        """Set aside conversations that cannot be rows."""

    def checkpoint(self) -> SpooledRows:
        """Flush all rows to disk, and return the state that another writer needs to resume."""
        ...

    def resumed(self) -> Resumed:
        """Return what the writer of an earlier attempt has written."""
        ...

    def publish(self, reading: ReadCounts) -> ExportReceipt:
        """Make all rows visible at once."""
        ...


class Destination(Protocol):
    """Where an export writes its tables."""

    @property
    def uri(self) -> str:
        """The name of the destination, without credentials."""
        ...

    def open(
        self, options: ExportOptions, workdir: WorkDir, *, exported_at: datetime
    ) -> AbstractContextManager[Writer]:
        """Yield a writer; without `publish`, no row becomes visible.

        :param workdir: where rows wait until all of them are written
        :param exported_at: when the export began
        :raises VoiceOSError: at once, if the destination cannot be reached, or cannot take the rows
        """
        ...

    def find_pending(self, interval: Interval, max_age: timedelta) -> PendingConversations:
        """Return the conversations of earlier intervals that had not ended when they were exported.

        :param max_age: how long after the end of its interval a conversation is requested
        :raises VoiceOSError: if the destination cannot be reached
        """
        ...
