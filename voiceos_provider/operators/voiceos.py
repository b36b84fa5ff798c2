"""A few conversations as the result of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voiceos_provider.operators.base import VoiceOSExportOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.load.memory import MemoryDestination
    from voiceos_provider.options import ExportOptions


class VoiceOSListConversationsOperator(VoiceOSExportOperator):
    """Return the conversations created in an interval as a list of plain dicts, small enough for XCom.

    Each dict has columns of the table ``conversations``; date-times are RFC 3339 text, and money is decimal text. Phone
    numbers and ``extra`` are left out unless `columns` names them. The task fails if the list would exceed a limit.

    :param columns: the columns to return; None for all but phone numbers and ``extra``. (templated)
    :param max_rows: the task fails if there are more conversations
    :param max_bytes: the task fails if the result is larger as JSON
    :param kwargs: the parameters of `VoiceOSExportOperator` and of every operator
    :return: one dict per conversation
    """

    template_fields: Sequence[str] = (*VoiceOSExportOperator.template_fields, "columns")

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        max_rows: int = 1_000,
        max_bytes: int = 1_000_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.columns = columns
        self.max_rows = max_rows
        self.max_bytes = max_bytes

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Wait until the interval is readable, then export it."""
        rows: list[dict[str, Any]] = self.export_when_readable(context)
        return rows

    def export_options(self, context: Context, **others: Any) -> ExportOptions:
        """Return the options of the export, and check the arguments."""
        return super().export_options(context, tables=["conversations"], **others)

    def destination(self, options: ExportOptions) -> MemoryDestination:
        """Return a table in memory, with the limits."""
        from voiceos_provider.load.memory import MemoryDestination
        from voiceos_provider.transform.schema import CONVERSATIONS

        columns = self.columns
        if columns is None:
            columns = [c.name for c in CONVERSATIONS.columns if not c.pii and c.name != "extra"]
        return MemoryDestination(columns=columns, max_rows=self.max_rows, max_bytes=self.max_bytes)

    def export(
        self, context: Context, options: ExportOptions, destination: MemoryDestination
    ) -> list[dict[str, Any]]:
        """Read the interval, and fail as soon as it is too large."""
        from voiceos_provider.load.memory import plain_rows

        self.hook.export_to(destination, options)
        assert destination.table is not None
        return plain_rows(destination.table)
