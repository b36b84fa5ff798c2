"""How does a task wait until its interval has settled without a worker's slot?"""

from __future__ import annotations

import logging
from abc import abstractmethod
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import as_span, isoformat
from voiceos_provider.pipeline.interval_export import seconds_to_settle
from voiceos_provider.utils.errors import failing_for_good
from voiceos_provider.utils.interval import resolve_interval

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

_WORTH_WHILE = 5.0
"""Seconds of waiting that are worth going to the triggerer and back."""


class SettlesDeferred:
    """For operators that export an interval: the triggerer waits for them until it has settled.

    Nothing has been read by then, so nothing is lost with the worker. The operator does its work in `export`.
    """

    deferrable: bool
    visibility_delay: timedelta | float
    voiceos_conn_id: str
    interval_start: str | date | None
    interval_end: str | date | None
    lookback: timedelta | float = timedelta(0)

    def defer_until_settled(self, context: Context) -> None:
        """Hand over to the triggerer, if that may be and is worth the while."""
        if not self.deferrable:
            return
        with failing_for_good(), VoiceOSHook(self.voiceos_conn_id) as hook:
            self.require_arguments()
            interval = resolve_interval(
                self.interval_start, self.interval_end, context, lookback=self.lookback
            )
            left = seconds_to_settle(
                hook.get_conn(), interval, as_span("visibility_delay", self.visibility_delay)
            )
        if left > _WORTH_WHILE:
            log.info(
                "The interval ended at %s; the triggerer waits %.0f s until what was created in it has shown up "
                "(visibility_delay).",
                isoformat(interval.end),
                left,
            )
            operator = cast("Any", self)
            operator.defer(trigger=TimeDeltaTrigger(timedelta(seconds=left)), method_name="execute_settled")

    def execute_settled(self, context: Context, event: Any = None) -> Any:
        """Go on after the triggerer; what may be left by the server's clock is waited for here."""
        return self.export(context)

    def require_arguments(self) -> None:
        """Refuse what the operator does not take, before anybody waits.

        :raises VoiceOSValueError: if there is such an argument
        """

    @abstractmethod
    def export(self, context: Context) -> Any:
        """What the operator does."""
