"""Waiting without a worker slot until an interval is readable."""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast

from airflow import __version__ as airflow_version

from voiceos_provider.interval import as_span, isoformat
from voiceos_provider.utils.errors import failing_for_good
from voiceos_provider.utils.interval import resolve_interval

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.client import VoiceOSClient

log = logging.getLogger(__name__)

_SHORT_WAIT = 5.0
"""Seconds that are waited for in the worker: to leave it and come back takes as long."""


class _Hook(Protocol):
    def get_conn(self) -> VoiceOSClient: ...


class DefersUntilReadable:
    """Mixin of operators that export an interval: releases the worker until the interval is readable.

    With `deferrable` the triggerer waits; otherwise the task is rescheduled, which needs no triggerer. Nothing has been
    read by then. The operator does its work in `export`.
    """

    deferrable: bool
    visibility_delay: timedelta | float
    interval_start: str | date | None
    interval_end: str | date | None
    lookback: timedelta | float = timedelta(0)

    def defer_until_readable(self, context: Context, hook: AbstractContextManager[_Hook]) -> None:
        """Release the worker if the interval is not readable yet.

        :param hook: the hook, which is entered and left
        """
        from voiceos_provider.extract.bounds_check import seconds_until_readable

        with failing_for_good():
            self.require_arguments()
            interval = resolve_interval(
                self.interval_start, self.interval_end, context, lookback=self.lookback
            )
            visibility_delay = as_span("visibility_delay", self.visibility_delay)
            with hook as connected:
                left = seconds_until_readable(connected.get_conn(), interval, visibility_delay)
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
        """Continue after the triggerer; `export` itself waits for a remaining difference of clocks."""
        return self.export(context)

    def require_arguments(self) -> None:
        """Check the arguments before the wait.

        :raises VoiceOSValueError: if one is wrong
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
