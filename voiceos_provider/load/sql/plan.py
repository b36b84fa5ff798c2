"""Plan of a load: the target namespace, the tables and the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

import pyarrow as pa

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS, COUNT, JSON, TEXT

WriteDisposition = Literal["merge", "append", "replace"]

AUDIT_COLUMNS = ("_interval_start", "_interval_end", "_exported_at")
"""Columns that identify the export that wrote a row."""

OWNER = "conversation_id"
"""Column of a child table that refers to its conversation."""

REJECTED = Table(
    "rejected_conversations",
    "One row per conversation that cannot be keyed, of the latest export of its interval.",
    ("_interval_start", "_interval_end", "ordinal"),
    (
        Column("ordinal", COUNT, "Counts them.", nullable=False),
        Column("reason", TEXT, "Why it is no row of `conversations`.", nullable=False),
        Column("conversation", JSON, "What was sent, without credentials."),
        *(column for column in CONVERSATIONS.columns if column.name in AUDIT_COLUMNS),
    ),
)
"""Table for conversations that cannot be loaded, if the export may set them aside."""


def check_write_disposition(disposition: str, options: ExportOptions) -> WriteDisposition:
    """Return a write disposition that fits the options of an export.

    :raises VoiceOSValueError: if it does not exist, or `carry_pending` cannot work with it
    """
    choices: tuple[WriteDisposition, ...] = get_args(WriteDisposition)
    found = next((choice for choice in choices if choice == disposition), None)
    if found is None:
        raise VoiceOSValueError(f"write_disposition {disposition!r} is not one of {', '.join(choices)}.")
    if options.carry_pending is not None:
        if found != "merge":
            raise VoiceOSValueError(
                f"carry_pending needs write_disposition 'merge', not {found!r}: it updates existing rows."
            )
        if options.statuses or CONVERSATIONS not in options.tables:
            raise VoiceOSValueError(
                "carry_pending needs every state and the table 'conversations': it finds the conversations whose rows "
                "have not ended. Leave status out, and add the table to tables."
            )
    return found


@dataclass(frozen=True, slots=True)
class Namespace:
    """Schema and table prefix of one export.

    :param schema: the schema, or its equivalent in the engine; None for the connection's default
    :param prefix: the beginning of each table name
    """

    schema: str | None = None
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.prefix}*" if self.schema else f"{self.prefix}*"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What an export does to the tables.

    :param tables: the tables to write
    :param create: create missing tables and columns
    """

    tables: tuple[Table, ...]
    disposition: WriteDisposition
    interval: Interval
    exported_at: datetime
    create: bool = True

    def keyed(self, table: Table) -> bool:
        """Return whether each key is unique in the table."""
        return self.disposition != "append" or table in (AGENT_CONFIGS, REJECTED)


@dataclass(frozen=True, slots=True)
class Rowset:
    """Rows of one table, readable any number of times.

    :param table: their table
    :param rows: the number of rows
    :param batches: reads the rows from the beginning
    :param columns: the columns to load
    """

    table: Table
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the loaded columns."""
        return pa.schema(self.table.schema.field(column.name) for column in self.columns)

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, with the loaded columns only."""
        return (batch.select(self.schema.names) for batch in self.batches())


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Merge of the staged rows `s` of one table into its existing rows `t`.

    :param target: qualified name of the table; `name` is the table name alone, quoted
    :param staging: qualified name of the staging table
    :param existing: types of the table's existing columns
    :param columns: the columns to write
    :param touch_unchanged: also update the row version of rows without a change
    :param stale: condition for existing rows to delete, qualified with `name`; empty for none
    """

    table: Table
    target: str
    name: str
    staging: str
    existing: Mapping[str, str]
    columns: tuple[Column, ...]
    touch_unchanged: bool
    stale: str = ""
