"""Waiting without a worker slot until an interval is readable."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow import __version__ as airflow_version

from voiceos_provider.interval import isoformat

if TYPE_CHECKING:
    from voiceos_provider.client import VoiceOSClient
    from voiceos_provider.options import ExportOptions

log = logging.getLogger(__name__)

_LONGEST_DIFFERENCE = timedelta(hours=1)
"""Largest tolerated difference between the clocks of worker and server."""

_SHORT_WAIT = 5.0
"""Longest wait in seconds that stays in the worker, because a deferral takes as long."""


class DefersUntilReadable:
    """Mixin of operators that export an interval: releases the worker until the interval is readable.

    With `deferrable` the triggerer waits, and the task continues in the operator's `execute_readable`; otherwise it is
    rescheduled, which needs no triggerer. Nothing is read before that.
    """

    deferrable: bool

    def defer_until_readable(self, client: VoiceOSClient, options: ExportOptions) -> None:
        """Release the worker if the interval is not readable yet."""
        from voiceos_provider.extract.server_checks import check_readable

        interval = options.interval
        # Nothing is sent for an interval that is clearly in the future; a closer call is the server's.
        interval.require_past(datetime.now(UTC), tolerance=_LONGEST_DIFFERENCE)
        left = check_readable(client, interval, options.visibility_delay)
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
