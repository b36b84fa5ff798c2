"""Base of the operators that export an interval."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import VISIBILITY_DELAY, CalendarPeriod
from voiceos_provider.options import MAX_CONCURRENCY
from voiceos_provider.utils.deferral import DefersUntilReadable
from voiceos_provider.utils.errors import StopOnKillMixin, fail_without_retry
from voiceos_provider.utils.run_interval import IntervalLabelMixin, resolve_interval

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.options import ExportOptions


class VoiceOSExportOperator(IntervalLabelMixin, DefersUntilReadable, StopOnKillMixin, BaseOperator):
    """Parameters of every operator that exports an interval.

    :param voiceos_conn_id: the Connection of the VoiceOS API. (templated)
    :param interval_start: first instant of creation time, ISO 8601 with an offset; a date, such as ``2026-11-20``, is
        that day in UTC. If not set, the run's data interval, or its asset partition. (templated)
    :param interval_end: exclusive end, which must have passed. (templated)
    :param status: only conversations in this state or these states: ``queued``, ``started``, ``ended``; None for
        all. (templated)
    :param redaction: what is kept of personal data, such as ``{"phone_numbers": "hash", "messages": "drop", "prompts":
        "drop", "metadata": "drop"}``. Each class is ``keep`` by default. Phone numbers and metadata may also be
        ``hash``: HMAC-SHA256 with the extra ``phone_hash_key`` of the VoiceOS connection. If messages or prompts are
        dropped, texts in undocumented fields are masked, too. (templated)
    :param deferrable: wait in the triggerer until the interval is readable; otherwise the task is rescheduled. Neither
        occupies a worker slot, except for the last 5 seconds.

    Advanced:

    :param partition_period: ``hour``, ``day``, ``week`` or ``month``: the length of the run's asset partition, if
        neither the cron expression of the DAG nor a date as partition key determines it
    :param visibility_delay: how long a new conversation may be missing from listings, as ``timedelta`` or in seconds;
        reading starts this long after the interval ends, by the slower of the server's and the worker's clock
    :param max_concurrency: maximum number of concurrent requests
    """

    template_fields: Sequence[str] = (
        "voiceos_conn_id",
        "interval_start",
        "interval_end",
        "status",
        "redaction",
    )
    ui_color = "#e8f0ff"
    lookback: timedelta | float = timedelta(0)

    def __init__(
        self,
        *,
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        interval_start: str | date | None = None,
        interval_end: str | date | None = None,
        status: str | Sequence[str] | None = None,
        redaction: Mapping[str, str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        partition_period: CalendarPeriod | None = None,
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        max_concurrency: int = MAX_CONCURRENCY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.voiceos_conn_id = voiceos_conn_id
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.status = status
        self.redaction = redaction
        self.deferrable = deferrable
        self.partition_period = partition_period
        self.visibility_delay = visibility_delay
        self.max_concurrency = max_concurrency

    @cached_property
    def hook(self) -> VoiceOSHook:
        """The hook of the task."""
        return VoiceOSHook(self.voiceos_conn_id)

    def export_options(self, context: Context, **others: Any) -> ExportOptions:
        """Return the options of the export, and check the arguments.

        :param others: options that only some operators have
        """
        return self.hook.options(
            resolve_interval(
                self.interval_start,
                self.interval_end,
                context,
                lookback=self.lookback,
                partition_period=self.partition_period,
            ),
            status=self.status,
            redaction=self.redaction,
            visibility_delay=self.visibility_delay,
            max_concurrency=self.max_concurrency,
            **others,
        )

    @abstractmethod
    def destination(self, options: ExportOptions) -> Any:
        """Return where the conversations go, which sends nothing.

        :raises VoiceOSValueError: if an argument is wrong
        """

    @abstractmethod
    def export(self, context: Context, options: ExportOptions, destination: Any) -> Any:
        """Export the interval, within a `with` block of the hook."""

    def export_when_readable(self, context: Context) -> Any:
        """Wait until the interval is readable, then export it."""
        from voiceos_provider.utils.resume import remove_leftovers

        remove_leftovers(context)
        return self._export(context, wait=True)

    def execute_readable(self, context: Context, event: Any = None) -> Any:
        """Continue after a deferral; the export waits for the remaining seconds if the clocks differ."""
        return self._export(context, wait=False)

    def _export(self, context: Context, *, wait: bool) -> Any:
        with fail_without_retry(), self.hook as hook:
            options = self.export_options(context)
            destination = self.destination(options)
            if wait:
                self.defer_until_readable(hook.get_conn(), options)
            return self.export(context, options, destination)
