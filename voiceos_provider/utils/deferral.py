"""Waiting without a worker slot until an interval is readable."""

from __future__ import annotations

import logging
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow import __version__ as airflow_version

from voiceos_provider.interval import isoformat
from voiceos_provider.utils.errors import fail_without_retry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.hooks.voiceos import VoiceOSHook
    from voiceos_provider.options import ExportOptions

log = logging.getLogger(__name__)

_LONGEST_DIFFERENCE = timedelta(hours=1)
"""Largest tolerated difference between the clocks of worker and server."""

_SHORT_WAIT = 5.0
"""Longest wait in seconds that stays in the worker, because a deferral takes as long."""


class DefersUntilReadable:
    """Mixin of operators that export an interval: releases the worker until the interval is readable.

    With `deferrable` the triggerer waits; otherwise the task is rescheduled, which needs no triggerer. Nothing is read
    before that. The operator does its work in `export`.
    """

    deferrable: bool

    @property
    @abstractmethod
    def hook(self) -> VoiceOSHook:
        """The hook of the task."""

    def defer_until_readable(self, context: Context) -> None:
        """Release the worker if the interval is not readable yet."""
        from voiceos_provider.extract.server_checks import check_readable
        from voiceos_provider.utils.resume import remove_leftovers

        remove_leftovers(context)
        with fail_without_retry(), self.hook as hook:
            options = self.export_options(context)
            interval = options.interval
            # Nothing is sent for an interval that is clearly in the future; a closer call is the server's.
            interval.require_past(datetime.now(UTC), tolerance=_LONGEST_DIFFERENCE)
            left = check_readable(hook.get_conn(), interval, options.visibility_delay)
        if left <= _SHORT_WAIT:
            return
        log.info(
            "%s until %s, visibility_delay after the interval ended at %s.",
            "Deferred" if self.deferrable else "Rescheduled",
            isoformat((datetime.now(UTC) + timedelta(seconds=left)).replace(microsecond=0)),
            isoformat(interval.end),
        )
        if self.deferrable:
            from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

            operator = cast("Any", self)
            operator.defer(trigger=TimeDeltaTrigger(timedelta(seconds=left)), method_name="execute_readable")
        from airflow.exceptions import AirflowRescheduleException

        raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=left))  # type: ignore[no-untyped-call]

    def execute_readable(self, context: Context, event: Any = None) -> Any:
        """Continue after a deferral; `export` waits for the remaining seconds if the clocks differ."""
        return self.export(context)

    @abstractmethod
    def export_options(self, context: Context) -> ExportOptions:
        """Return the options of the export, which sends nothing.

        :raises VoiceOSValueError: if an argument is wrong
        """

    @abstractmethod
    def export(self, context: Context) -> Any:
        """Export the interval."""

    # Before Airflow 3.1 the scheduler heeds the date of a reschedule only for sensors, and runs other tasks again at
    # once. These are the marks by which it knows a sensor in reschedule mode.
    if airflow_version.startswith("2."):
        from airflow.models.baseoperator import BaseOperator as _BaseOperator  # type: ignore[import-not-found]
        from airflow.ti_deps.deps.ready_to_reschedule import ReadyToRescheduleDep as _ReadyToRescheduleDep

        deps = _BaseOperator.deps | {_ReadyToRescheduleDep()}
    if airflow_version.startswith(("2.", "3.0.")):
        reschedule = True
        _is_sensor = True

        @classmethod
        def get_serialized_fields(cls) -> frozenset[str]:
            """Return the fields of the operator that the scheduler sees."""
            fields: frozenset[str] = super().get_serialized_fields()  # type: ignore[misc]
            marks = {"reschedule"} if airflow_version.startswith("2.") else {"reschedule", "_is_sensor"}
            return fields | marks
