"""Plan of a load: what an export does to the tables of a database or a lake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from voiceos_provider.exceptions import VoiceOSValueError
from voiceos_provider.interval import Interval
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS, COUNT, JSON, TEXT

WriteDisposition = Literal["merge", "append", "replace"]

AUDIT_COLUMNS = ("_interval_start", "_interval_end", "_exported_at")
"""Columns that identify the export that wrote a row."""

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
