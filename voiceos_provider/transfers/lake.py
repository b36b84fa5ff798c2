"""Base of the operators that write tables of a lake."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from voiceos_provider.transfers.base import VoiceOSTransferOperator

if TYPE_CHECKING:
    from voiceos_provider.load.lake.destination import LakeDestination
    from voiceos_provider.load.lake.table import Lake
    from voiceos_provider.load.plan import WriteDisposition
    from voiceos_provider.options import ExportOptions


class VoiceOSToLakeOperator(VoiceOSTransferOperator):
    """Parameters of the operators that write tables of a lake, besides `VoiceOSTransferOperator`'s.

    :param table_prefix: prefix of the names of the tables. (templated)
    :param lookback: how much earlier than the run's own interval to begin, as ``timedelta`` or in seconds, to update
        rows that changed after they were written, such as late costs. Ignored if `interval_start` is set.
    :param write_disposition: ``merge`` inserts new rows and updates changed ones, never overwrites a newer row version,
        and does not write unchanged rows; ``replace`` also deletes all other rows of the interval; ``append``
        only inserts, and duplicates rows that were inserted before. ``agent_configs`` has one row per configuration in
        each case. (templated)

    Advanced:

    :param create_tables: create missing tables and columns; your own columns are never altered or dropped
    """

    template_fields: Sequence[str] = (
        "table_prefix",
        "write_disposition",
        *VoiceOSTransferOperator.template_fields,
    )

    def __init__(
        self,
        *,
        table_prefix: str = "",
        lookback: timedelta | float = timedelta(0),
        write_disposition: WriteDisposition = "merge",
        create_tables: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table_prefix = table_prefix
        self.lookback = lookback
        self.write_disposition = write_disposition
        self.create_tables = create_tables

    @abstractmethod
    def lake(self) -> Lake:
        """Return the tables of the format, which sends nothing.

        :raises VoiceOSValueError: if an argument is wrong
        """

    def destination(self, options: ExportOptions) -> LakeDestination:
        """Return the tables of the lake."""
        from voiceos_provider.load.lake.destination import LakeDestination
        from voiceos_provider.load.plan import check_write_disposition

        return LakeDestination(
            self.lake(),
            write_disposition=check_write_disposition(self.write_disposition, options),
            create_tables=self.create_tables,
        )
