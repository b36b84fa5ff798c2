"""Sensor: waits until conversations have ended."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSError, VoiceOSValueError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import VISIBILITY_DELAY, CalendarPeriod, as_duration, isoformat
from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedTrigger
from voiceos_provider.utils.errors import fail_without_retry
from voiceos_provider.utils.run_interval import IntervalLabelMixin, resolve_interval

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceos_provider.polling.conditions import Condition
    from voiceos_provider.polling.polling_client import PollingClient, Row, ServerClock

log = logging.getLogger(__name__)

_BACKSTOP = timedelta(minutes=1)
_CONFIRMS_WITHIN = 60.0
_NAMED = 20


class VoiceOSConversationsEndedSensor(IntervalLabelMixin, BaseSensorOperator):
    """Wait until all conversations created in an interval have ended, or conversations given by their ids.

    When a poke finds no open conversation, with two requests of ``limit=1``, a second check reads the whole listing,
    one poke or one minute later; in it, any state but ``ended`` counts as open. With `conversation_ids`, a poke
    requests each id that has not ended yet, up to the first open one. While the API does not respond, the sensor waits.

    ``soft_fail`` skips the task when the wait times out. Everything else fails it, also with ``soft_fail``: a refused
    token, an unknown id, a wrong argument.

    :param voiceos_conn_id: the Connection of the VoiceOS API. (templated)
    :param interval_start: first instant of creation time, ISO 8601 with an offset; a date, such as ``2026-11-20``, is
        that day in UTC. If not set, the run's data interval, or its asset partition. (templated)
    :param interval_end: exclusive end. Nothing is requested before it has passed. (templated)
    :param conversation_ids: wait for these conversations instead of an interval; one that does not exist fails the
        task. (templated)
    :param max_age: age, as ``timedelta`` or in seconds, at which the sensor stops waiting for an open conversation,
        because some never end. Their ids are returned. None waits for all, up to ``timeout``
    :param visibility_delay: how long a new conversation may be missing from listings, as ``timedelta`` or in seconds
    :param min_conversations: also wait until the interval has at least this number of conversations
    :param partition_period: ``hour``, ``day``, ``week`` or ``month``: the length of the run's asset partition, if
        neither the cron expression of the DAG nor a date as partition key determines it
    :param deferrable: wait in the triggerer, which takes no worker slot; polls come every ``poke_interval`` there,
        without ``exponential_backoff``. From Airflow 3.3 on, sensors with one connection and equal ``poke_interval``
        share their polls
    :return: the interval or the ids, ``counts`` by state, the ids of the ``abandoned``, and ``waited_seconds``. For an
        interval, the count of ended conversations is None.
    """

    template_fields: Sequence[str] = ("voiceos_conn_id", "interval_start", "interval_end", "conversation_ids")
    ui_color = "#e8f0ff"

    def __init__(
        self,
        *,
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        interval_start: str | date | None = None,
        interval_end: str | date | None = None,
        conversation_ids: Sequence[str] | None = None,
        max_age: timedelta | float | None = timedelta(hours=3),
        visibility_delay: timedelta | float = VISIBILITY_DELAY,
        min_conversations: int = 0,
        partition_period: CalendarPeriod | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.voiceos_conn_id = voiceos_conn_id
        self.interval_start = interval_start
        self.interval_end = interval_end
        self.conversation_ids = conversation_ids
        self.max_age = max_age
        self.visibility_delay = visibility_delay
        self.min_conversations = min_conversations
        self.partition_period = partition_period
        self.deferrable = deferrable
        self._wait: _Wait | None = None

    def execute(self, context: Context) -> Any:
        """Check the condition; while it is not met, check again later, here or in the triggerer."""
        self._wait = None
        with self._skipping_only_on_timeout():
            return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Check the condition, and defer if it is not met and `deferrable` is set.

        An API that does not respond is not an error; a refused request is. Without `deferrable` the second check
        follows here, because a rescheduled sensor has no memory, and exponential backoff may make the pause long.
        """
        state, xcom_value = self._check(context)
        if self.deferrable and state != "ended":
            self._defer(self._waiting(context), unconfirmed=state == "unconfirmed")
        if state == "unconfirmed":
            pause = min(self.poke_interval, _CONFIRMS_WITHIN)
            log.info("No open conversation was found; confirming it in %g s.", pause)
            time.sleep(pause)
            state, xcom_value = self._check(context, confirm=True)
        return PokeReturnValue(state == "ended", xcom_value)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Continue after the trigger has fired."""
        match event:
            case {"status": "ended", "waiting_since": str(since), "abandoned": rows}:
                from voiceos_provider.polling.polling_client import PollingClient, Row

                with fail_without_retry(), VoiceOSHook(self.voiceos_conn_id) as hook:
                    wait = self._waiting(context, datetime.fromisoformat(since))
                    client = PollingClient(hook.get_conn(), wait.clock)
                    return self._result(client, wait, [Row(*row) for row in rows])
            case {"status": "timeout", "message": message}:
                raise AirflowSensorTimeout(f"Not ended within {self.timeout:,.0f} s. {message}")
            case {"status": "failed", "message": message}:
                raise AirflowFailException(message)
            case {"status": "error", "message": message}:
                raise AirflowException(message)
            case _:
                raise AirflowException(
                    "Install the same version of airflow-provider-voiceos for the triggerer and the workers. The "
                    f"trigger sent {event!r}, which is no event of {VoiceOSConversationsEndedTrigger.__name__}."
                )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral."""
        with self._skipping_only_on_timeout():
            return super().resume_execution(next_method, next_kwargs, context)

    def _check(self, context: Context, *, confirm: bool = False) -> tuple[str, Any]:
        """Check the condition once, and return the state with, at the end, the task's result."""
        from voiceos_provider.polling.conditions import check_all
        from voiceos_provider.polling.polling_client import PollingClient, run, within_one_poll

        with fail_without_retry():
            wait = self._waiting(context)
            if time.monotonic() < wait.not_before:
                return "open", None
            try:
                with VoiceOSHook(self.voiceos_conn_id) as hook:
                    conn = hook.get_conn()
                    # An outage is waited out between pokes, where the log shows it, not within one.
                    conn.config = within_one_poll(conn.config, max(self.poke_interval, 1.0))
                    client = PollingClient(conn, wait.clock)
                    states = {wait.condition: "unconfirmed"} if confirm else {}
                    results = run(check_all(client, [wait.condition], states))
                    result = results[wait.condition]
                    if isinstance(result, VoiceOSError):
                        raise result
                    if result.state == "ended":
                        return "ended", self._result(client, wait, result.abandoned)
            except VoiceOSAPIError as error:
                if not error.retryable:
                    raise
                wait.not_before = time.monotonic() + (error.retry_after or 0)
                log.warning("%s VoiceOS did not respond; the sensor waits.", error)
                return "open", None
        if result.state == "open":
            log.info("Not ended yet: %s.", result.reason)
        return result.state, None

    def _waiting(self, context: Context, since: datetime | None = None) -> _Wait:
        """Return the wait of this process; at first, create it. Another process may have begun it, at `since`."""
        from voiceos_provider.polling.conditions import IdsCondition, IntervalCondition
        from voiceos_provider.polling.polling_client import ServerClock

        if self._wait is not None:
            return self._wait
        begins, since = since is None, since or self._first_poke(context)
        condition: Condition
        max_age = None if self.max_age is None else as_duration("max_age", self.max_age)
        visibility_delay = as_duration("visibility_delay", self.visibility_delay)
        if self.conversation_ids is not None:
            condition = IdsCondition(_ids(self.conversation_ids), max_age, visibility_delay, since)
        else:
            interval = resolve_interval(
                self.interval_start, self.interval_end, context, partition_period=self.partition_period
            )
            if self.min_conversations < 0:
                raise VoiceOSValueError(f"min_conversations {self.min_conversations} is negative.")
            condition = IntervalCondition(interval, max_age, visibility_delay, self.min_conversations)
        if begins:
            limits = self.poke_interval, timedelta(seconds=self.timeout)
            log.info("Waiting for %s to end; a poke every %g s, for at most %s.", condition, *limits)
        self._wait = _Wait(condition, since, ServerClock())
        return self._wait

    def _first_poke(self, context: Context) -> datetime:
        """Return the time of the first poke, which another process may have made."""
        first = None
        if self.reschedule and (instance := context.get("ti")):
            if hasattr(instance, "get_first_reschedule_date"):
                first = instance.get_first_reschedule_date(context)
            else:  # Airflow 2 keeps it where a task's start is
                first = instance.start_date
        now = datetime.now(UTC)
        return min(datetime.fromisoformat(first.isoformat()).astimezone(UTC), now) if first else now

    def _result(self, client: PollingClient, wait: _Wait, abandoned: Sequence[Row]) -> dict[str, Any]:
        """Return the task's result. `abandoned` is known for ids; of an interval, the conversations are listed here."""
        from voiceos_provider.client.requests import ENDED
        from voiceos_provider.polling.conditions import IntervalCondition
        from voiceos_provider.polling.polling_client import OPEN, run

        ended: int | None = None
        condition = wait.condition
        if isinstance(condition, IntervalCondition):
            abandoned = run(condition.find_abandoned(client))
        else:
            ended = len(condition.ids) - len(abandoned)
        waited = (datetime.now(UTC) - wait.since).total_seconds()
        log.info("All have ended of %s, after %.0f s.", condition, waited)
        if abandoned:
            named = ", ".join(map(str, abandoned[:_NAMED])) + (" ..." if abandoned[_NAMED:] else "")
            message = "Stopped waiting for %d open conversations that are older than max_age (%s): %s"
            log.warning(message, len(abandoned), condition.max_age, named)
        states = Counter(row.status or "unknown" for row in abandoned)
        return {
            **condition.scope,
            "counts": {**dict.fromkeys(OPEN, 0), **states, ENDED: ended},
            "abandoned": [row.id for row in abandoned],
            "waited_seconds": round(waited, 3),
        }

    def _defer(self, wait: _Wait, *, unconfirmed: bool) -> NoReturn:
        from voiceos_provider.polling.conditions import IdsCondition

        condition, deadline = wait.condition, wait.since + timedelta(seconds=self.timeout)
        scope = condition.scope
        if isinstance(condition, IdsCondition):
            scope["conversation_ids"] = condition.remaining
        trigger = VoiceOSConversationsEndedTrigger(
            voiceos_conn_id=self.voiceos_conn_id,
            **scope,
            max_age=None if condition.max_age is None else condition.max_age.total_seconds(),
            visibility_delay=condition.visibility_delay.total_seconds(),
            min_conversations=self.min_conversations,
            unconfirmed=unconfirmed,
            poke_interval=self.poke_interval,
            waiting_since=isoformat(wait.since),
            deadline=isoformat(deadline),
        )
        # The trigger keeps to the deadline itself; this timeout is for a triggerer that does not run.
        timeout = max(deadline - datetime.now(UTC), timedelta(0)) + _BACKSTOP
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)

    @contextmanager
    def _skipping_only_on_timeout(self) -> Iterator[None]:
        """Undo what `soft_fail` makes of failures: BaseSensorOperator skips the task for every AirflowException."""
        try:
            yield
        except AirflowSkipException as skipped:
            cause = skipped.__cause__
            # Airflow 2 passes on the timeout of a deferral, by a class that has no name common to both.
            is_timeout = isinstance(cause, AirflowSensorTimeout | AirflowTaskTimeout) or (
                type(cause).__name__ == "TaskDeferralTimeout"
            )
            if not self.soft_fail or cause is None or is_timeout:
                raise
            raise cause from cause.__cause__


@dataclass(slots=True)
class _Wait:
    """One wait, from its first poke to its last in this process."""

    condition: Condition
    since: datetime
    clock: ServerClock
    not_before: float = 0.0


def _ids(given: Any) -> tuple[str, ...]:
    ids = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(id_, str) and id_ for id_ in ids) or (isinstance(given, str) and given[:1] in "[("):
        raise VoiceOSValueError(
            f"conversation_ids {given!r} is no list of ids. If it is a template, it was rendered to text: pass the "
            "output of the task that has the ids (task.output), or set render_template_as_native_obj=True on the DAG."
        )
    return tuple(dict.fromkeys(ids))
