"""A few conversations as the result of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from voiceos_provider.hooks.voiceos import VoiceOSHook, as_statuses
from voiceos_provider.interval import Interval
from voiceos_provider.load.memory import MemoryDestination, plain_rows
from voiceos_provider.pipeline.interval_export import VISIBILITY_DELAY
from voiceos_provider.transform.schema import CONVERSATIONS
from voiceos_provider.utils.deferral import SettlesDeferred
from voiceos_provider.utils.errors import StopsWhenKilled, failing_for_good

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_IMPERSONAL = tuple(
    column.name for column in CONVERSATIONS.columns if not column.pii and column.name != "extra"
)


class VoiceOSListConversationsOperator(SettlesDeferred, StopsWhenKilled, BaseOperator):
    """Return the conversations created in an interval as a list of plain dicts, small enough for XCom.

    Each has columns of the table ``conversations``; date-times are RFC 3339 text, and money is decimal text. Phone
    numbers and `extra` are left out unless `columns` names them. The task fails rather
    than return a part.

    :param voiceos_conn_id: the Connection of the VoiceOS API. (templated)
    :param interval_start: first instant of creation time, ISO 8601 with an offset; the run's data interval by
        default. (templated)
    :param interval_end: its exclusive end, which must have passed. (templated)
    :param status: only conversations in this state or these states: ``queued``, ``started``, ``ended``; None for
        all. (templated)
    :param columns: the columns to return; None for all but phone numbers and ``extra``. (templated)
    :param redaction: what is kept of people, such as ``{"phone_numbers": "hash"}``; everything by default. (templated)
    :param max_rows: more conversations than this fail the task
    :param max_bytes: a larger result, as JSON, fails the task
    :param visibility_delay: how long after its creation a conversation may be missing from listings, as ``timedelta``
        or in seconds; reading starts this long after the interval ends, by the server's clock
    :param deferrable: wait for that in the triggerer, which takes no worker slot
    :param max_concurrency: requests that may be under way at a time
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
        interval_start: str | datetime = "{{ data_interval_start }}",
        interval_end: str | datetime = "{{ data_interval_end }}",
        status: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        max_rows: int = 1_000,
        max_bytes: int = 1_000_000,
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_concurrency: int = 4,
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

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Wait until the interval has settled, then export it."""
        self.defer_until_settled()
        return self.export(context)

    def require_arguments(self) -> None:
        """:raises VoiceOSValueError: if the status is none"""
        as_statuses(self.status)

    def export(self, context: Context) -> list[dict[str, Any]]:
        """Read the interval, and fail as soon as it is too large."""
        with failing_for_good(), VoiceOSHook(self.voiceos_conn_id) as hook:
            target = MemoryDestination(
                columns=_IMPERSONAL if self.columns is None else self.columns,
                max_rows=self.max_rows,
                max_bytes=self.max_bytes,
            )
            hook.export_to(
                target,
                interval=Interval.parse(self.interval_start, self.interval_end),
                statuses=as_statuses(self.status),
                tables=[CONVERSATIONS.name],
                redaction=self.redaction,
                visibility_delay=self.visibility_delay,
                max_concurrency=self.max_concurrency,
            )
        assert target.table is not None
        return plain_rows(target.table)
