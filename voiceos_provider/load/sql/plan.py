"""What is an export to do to the tables, and with which rows?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import pyarrow as pa

from voiceos_provider.interval import Interval
from voiceos_provider.load.sql.namespace import CONSTANTS, Namespace
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS, COUNT, JSON, TEXT

WriteDisposition = Literal["merge", "append", "replace"]

REJECTED = Table(
    "rejected_conversations",
    "One row per conversation that cannot be keyed, of the latest export of its interval.",
    ("_interval_start", "_interval_end", "ordinal"),
    (
        Column("ordinal", COUNT, "Counts them.", nullable=False),
        Column("reason", TEXT, "Why it is no row of `conversations`.", nullable=False),
        Column("conversation", JSON, "What was sent, without credentials."),
        *(column for column in CONVERSATIONS.columns if column.name in CONSTANTS),
    ),
)
"""Where an export sets aside what it cannot load, if it may."""


@dataclass(frozen=True, slots=True)
class Rowset:
    """The rows of one table, to be read as often as it takes.

    :param table: where they belong
    :param rows: how many there are
    :param batches: reads them anew
    :param columns: those to load
    """

    table: Table
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """Of the loaded columns."""
        return pa.schema(self.table.schema.field(column.name) for column in self.columns)

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows, of the loaded columns only."""
        return (batch.select(self.schema.names) for batch in self.batches())


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What an export is to do to the tables.

    :param place: where they stand
    :param tables: those to write
    :param create: whether to create what is missing
    :param lock_timeout: seconds to wait for other writers
    """

    place: Namespace
    tables: tuple[Table, ...]
    disposition: WriteDisposition
    interval: Interval
    exported_at: datetime
    create: bool = True
    lock_timeout: float = 300.0

    def keyed(self, table: Table) -> bool:
        """Whether a key may stand in the table once only."""
        return self.disposition != "append" or table in (AGENT_CONFIGS, REJECTED)
