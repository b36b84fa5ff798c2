"""Writer of a destination that publishes all rows at once: until then they wait in a spool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from voiceos_provider.client.pages import Rejected
from voiceos_provider.exceptions import VoiceOSExportError
from voiceos_provider.load.checkpoint import Checkpoint, SpooledRows
from voiceos_provider.load.receipt import ExportReceipt, ReadCounts
from voiceos_provider.load.spool import Resumed, Spool
from voiceos_provider.load.workdir import disk_errors
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import Rows


class SpoolWriter(ABC):
    """Takes rows, and publishes them in the way of its destination.

    :param target: address of the destination, for the receipt
    """

    def __init__(
        self, folder: Path, options: ExportOptions, checkpoint: Checkpoint | None, *, target: str
    ) -> None:
        self._folder = folder
        self._options = options
        self._target = target
        with disk_errors(folder):
            self._spool = Spool(folder, options.tables, written=checkpoint.written if checkpoint else None)

    def write(self, rows: Mapping[str, Rows]) -> None:
        """Add rows. If a conversation is added several times, its last rows count."""
        with disk_errors(self._folder):
            self._spool.append(rows)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Set conversations aside that cannot be keyed.

        :raises VoiceOSExportError: if there are more than allowed
        """
        if not rejected:
            return
        with disk_errors(self._folder):
            self._spool.reject(rejected)
        if self._spool.rejected > self._options.max_bad_records:
            raise VoiceOSExportError(
                f"{self._spool.rejected:,} conversations cannot be keyed ({rejected[-1].reason}), more than "
                f"max_bad_records={self._options.max_bad_records}. {self._refuse_rejected()}"
            )

    @abstractmethod
    def _refuse_rejected(self) -> str:
        """Return what becomes of too many rejected conversations, once that has been done."""

    def checkpoint(self) -> SpooledRows:
        """Flush all rows to disk, and return the state that a retry needs to resume."""
        with disk_errors(self._folder):
            return self._spool.checkpoint()

    def resumed(self) -> Resumed:
        """Return what earlier attempts have written."""
        return self._spool.resumed()

    def publish(self, reading: ReadCounts) -> ExportReceipt:
        """Make the rows visible at once, as far as the destination can.

        :raises VoiceOSExportError: if the counters do not add up, or the destination refuses the rows
        """
        with disk_errors(self._folder):
            replaced = self._spool.close()
            reading = self._spool.correct(reading)
        exported = self._spool.conversations - replaced
        receipt = ExportReceipt.of(reading, exported=exported, replaced=replaced, target=self._target)
        return self._publish(receipt)

    @abstractmethod
    def _publish(self, receipt: ExportReceipt) -> ExportReceipt:
        """Make the rows of the spool visible, and return the receipt with what became of them."""
