"""A few conversations as the result of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import VISIBILITY_DELAY
from voiceos_provider.options import MAX_CONCURRENCY
from voiceos_provider.utils.deferral import DefersUntilReadable
from voiceos_provider.utils.errors import StopOnKillMixin, fail_without_retry
from voiceos_provider.utils.run_interval import resolve_interval

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.load.memory import MemoryDestination
    from voiceos_provider.options import ExportOptions


class VoiceOSListConversationsOperator(DefersUntilReadable, StopOnKillMixin, BaseOperator):
    """Return the conversations created in an interval as a list of plain dicts, small enough for XCom.

    Each dict has columns of the table ``conversations``; date-times are RFC 3339 text, and money is decimal text. Phone
    numbers and ``extra`` are left out unless `columns` names them. The task fails if the list would exceed a limit.

    :param voiceos_conn_id: the Connection of the VoiceOS API. (templated)
    :param interval_start: first instant of creation time, ISO 8601 with an offset; a date, such as ``2026-11-20``, is
        that day in UTC. If not set, the run's data interval, or its asset partition. (templated)
    :param interval_end: exclusive end, which must have passed. (templated)
    :param status: only conversations in this state or these states: ``queued``, ``started``, ``ended``; None for
        all. (templated)
    :param columns: the columns to return; None for all but phone numbers and ``extra``. (templated)
    :param redaction: which personal data is masked, such as ``{"phone_numbers": "hash"}``; none by default. (templated)
    :param max_rows: the task fails if there are more conversations
    :param max_bytes: the task fails if the result is larger as JSON
    :param deferrable: wait in the triggerer until the interval is readable; otherwise the task is rescheduled. Neither
        takes a worker slot; only the last 5 seconds are waited for in the worker.

    Advanced:

    :param visibility_delay: how long after its creation a conversation may be missing from listings, as ``timedelta``
        or in seconds; reading starts this long after the interval ends, by the server's clock
    :param max_concurrency: requests in flight at a time
    :return: one dict per conversation
    """

    template_fields: Sequence[str] = (
        "voiceos_conn_id",
        "interval_start",
        "interval_end",
        "status",
        "columns",
        "redaction",
    )
    ui_color = "#e8f0ff"

    def __init__(
        self,
        *,
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        interval_start: str | date | None = None,
        interval_end: str | date | None = None,
        status: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        max_rows: int = 1_000,
        max_bytes: int = 1_000_000,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        max_concurrency: int = MAX_CONCURRENCY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.voiceos_conn_id = voiceos_conn_id
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.status = status
        self.columns = columns
        self.redaction = redaction
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.visibility_delay = visibility_delay
        self.deferrable = deferrable
        self.max_concurrency = max_concurrency

    @cached_property
    def hook(self) -> VoiceOSHook:
        """The hook of the task."""
        return VoiceOSHook(self.voiceos_conn_id)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Wait until the interval is readable, then export it."""
        self.defer_until_readable(context)
        return self.export(context)

    def export_options(self, context: Context) -> ExportOptions:
        """Return the options of the export, and check the other arguments."""
        self._destination()
        return self.hook.options(
            resolve_interval(self.interval_start, self.interval_end, context),
            status=self.status,
            tables=["conversations"],
            redaction=self.redaction,
            visibility_delay=self.visibility_delay,
            max_concurrency=self.max_concurrency,
        )

    def export(self, context: Context) -> list[dict[str, Any]]:
        """Read the interval, and fail as soon as it is too large."""
        from voiceos_provider.load.memory import plain_rows

        with fail_without_retry(), self.hook as hook:
            destination = self._destination()
            hook.export_to(destination, self.export_options(context))
        assert destination.table is not None
        return plain_rows(destination.table)

    def _destination(self) -> MemoryDestination:
        from voiceos_provider.load.memory import MemoryDestination
        from voiceos_provider.transform.schema import CONVERSATIONS

        columns = self.columns
        if columns is None:
            columns = [c.name for c in CONVERSATIONS.columns if not c.pii and c.name != "extra"]
        return MemoryDestination(columns=columns, max_rows=self.max_rows, max_bytes=self.max_bytes)
