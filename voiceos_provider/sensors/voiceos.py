"""Wait until conversations have ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from voiceos_provider.exceptions import VoiceOSAPIError, VoiceOSValueError
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.interval import Interval, as_span, isoformat
from voiceos_provider.polling.conditions import Question, RollCall, Window
from voiceos_provider.polling.drivers import look, patient_for
from voiceos_provider.polling.queries import ENDED, OPEN, Look, Row
from voiceos_provider.triggers.voiceos import VoiceOSConversationsEndedTrigger
from voiceos_provider.utils.errors import failing_for_good

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context

T = TypeVar("T")

log = logging.getLogger(__name__)

_BACKSTOP = timedelta(minutes=1)
_NAMED = 20


class VoiceOSConversationsEndedSensor(BaseSensorOperator):
    """Wait until no conversation created in an interval is queued or started; or until given conversations have ended.

    Each look costs two requests that return one conversation at most. While the API does not answer the sensor waits
    on, up to its ``timeout``; a refused token fails it at once.

    :param voiceos_conn_id: the Connection of the VoiceOS API. (templated)
    :param interval_start: first instant of creation time, ISO 8601 with an offset; the run's data interval by
        default. (templated)
    :param interval_end: its exclusive end. Nothing is asked before it has passed. (templated)
    :param conversation_ids: wait for these conversations and for no interval; one that does not exist fails the task.
        (templated)
    :param max_age: a conversation that is older than this, in seconds or as a ``timedelta``, is not waited for any
        more: some never end. They are returned by their ids. None waits for each one, up to ``timeout``
    :param visibility_delay: how long after its creation a conversation may be missing from listings, as ``timedelta``
        or in seconds; clocks may differ by as much
    :param min_conversations: wait until the interval has so many conversations, too
    :param deferrable: wait in the triggerer, which takes no worker slot
    :return: what was waited for, ``counts`` by state, the ids of the ``abandoned``, and ``waited_seconds``. Ended
        conversations are counted where ids were given; those of an interval are not read, so their count is None.
    """

    template_fields: Sequence[str] = (
        "voiceos_conn_id",
        "interval_start",
        "interval_end",
        "conversation_ids",
    )
    ui_color = "#e8f0ff"

    def __init__(
        self,
        *,
        voiceos_conn_id: str = VoiceOSHook.default_conn_name,
        interval_start: str | datetime = "{{ data_interval_start }}",
        interval_end: str | datetime = "{{ data_interval_end }}",
        conversation_ids: Sequence[str] | None = None,
        max_age: timedelta | float | None = timedelta(hours=3),
        visibility_delay: timedelta | float = timedelta(minutes=5),
        min_conversations: int = 0,
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
        self.deferrable = deferrable
        self._wait: _Wait | None = None

    def execute(self, context: Context) -> Any:
        """Look; and unless all have ended, look again later, here or in the triggerer."""
        self._wait = None
        if not self.deferrable:
            return super().execute(context)
        with self._failing_softly():
            found = self.poke(context)
        if found:
            return found.xcom_value
        wait = self._begun(context)
        left = timedelta(seconds=self.timeout) - (datetime.now(UTC) - wait.since)
        self.defer(
            trigger=self._trigger(wait),
            method_name="execute_complete",
            # The trigger keeps to the deadline itself; this is for a triggerer that is not there.
            timeout=max(left, timedelta(0)) + _BACKSTOP,
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once. That the API does not answer is no failure; that it refuses is one."""
        with failing_for_good():
            wait = self._begun(context)
            if time.monotonic() < wait.not_before:
                return PokeReturnValue(False)
            now = datetime.now(UTC)
            try:
                with VoiceOSHook(self.voiceos_conn_id) as hook:
                    found = self._look(hook, wait.question.look(now))
                    if not found.ended:
                        log.info("Not yet: %s.", found.why)
                        return PokeReturnValue(False)
                    return PokeReturnValue(True, self._result(hook, wait, found.abandoned, ended_at=now))
            except VoiceOSAPIError as error:
                if not error.retryable:
                    raise
                wait.not_before = time.monotonic() + (error.retry_after or 0)
                log.warning("%s VoiceOS could not be asked; waiting on.", error)
                return PokeReturnValue(False)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after the trigger has fired."""
        match event:
            case {"status": "ended", "ended_at": str(ended_at), "waiting_since": str(since)}:
                with failing_for_good(), VoiceOSHook(self.voiceos_conn_id) as hook:
                    wait = _Wait(self._question(datetime.fromisoformat(since)), datetime.fromisoformat(since))
                    rows = tuple(Row(*row) for row in event.get("abandoned", ()))
                    at = datetime.fromisoformat(ended_at)
                    return self._result(hook, wait, rows, ended_at=at, patient=True)
            case {"status": "timeout", "message": message}:
                raise AirflowSensorTimeout(f"Not ended within {self.timeout:,.0f} s. {message}")
            case {"status": "failed", "message": message}:
                raise AirflowFailException(message)
            case _:
                raise AirflowException(
                    f"The trigger sent {event!r}, which is no event of {VoiceOSConversationsEndedTrigger.__name__}. "
                    "Do the triggerer and the workers run the same version of airflow-provider-voiceos?"
                )

    def _begun(self, context: Context) -> _Wait:
        if self._wait is None:
            since = self._waiting_since(context)
            self._wait = _Wait(self._question(since), since)
            log.info(
                "Waiting for %s to end; looking every %g s, for at most %s.",
                self._wait,
                self.poke_interval,
                timedelta(seconds=self.timeout),
            )
        return self._wait

    def _waiting_since(self, context: Context) -> datetime:
        """Now; or when the task was first rescheduled."""
        first = None
        if self.reschedule and (instance := context.get("ti")):
            if hasattr(instance, "get_first_reschedule_date"):
                first = instance.get_first_reschedule_date(context)
            else:  # Airflow 2 keeps it where a task's start is
                first = instance.start_date
        now = datetime.now(UTC)
        return min(datetime.fromisoformat(first.isoformat()).astimezone(UTC), now) if first else now

    def _question(self, since: datetime) -> Question:
        max_age = None if self.max_age is None else as_span("max_age", self.max_age)
        visibility_delay = as_span("visibility_delay", self.visibility_delay)
        if self.conversation_ids is not None:
            return RollCall(_ids(self.conversation_ids), max_age, visibility_delay, since)
        interval = Interval.parse(self.interval_start, self.interval_end)
        if self.min_conversations < 0:
            raise VoiceOSValueError(f"min_conversations {self.min_conversations} is negative.")
        return Window(interval, max_age, visibility_delay, self.min_conversations)

    def _look(self, hook: VoiceOSHook, looking: Look[T]) -> T:
        # An outage is waited out between the looks; not within one, where nobody could see it.
        client = hook.get_conn()
        client.config = patient_for(client.config, max(self.poke_interval, 1.0))
        return look(client, looking)

    def _result(
        self,
        hook: VoiceOSHook,
        wait: _Wait,
        abandoned: tuple[Row, ...],
        *,
        ended_at: datetime,
        patient: bool = False,
    ) -> dict[str, Any]:
        ended: int | None = None
        question = wait.question
        if isinstance(question, Window):
            looking = question.look_for_abandoned(ended_at)
            abandoned = look(hook.get_conn(), looking) if patient else self._look(hook, looking)
        else:
            ended = len(question.ids) - len(abandoned)
        waited = (datetime.now(UTC) - wait.since).total_seconds()
        log.info("All have ended of %s, after %.0f s.", wait, waited)
        if abandoned:
            log.warning(
                "%d of them have not, and were not waited for, because they are older than max_age (%s): %s",
                len(abandoned),
                question.max_age,
                ", ".join(str(row) for row in abandoned[:_NAMED]) + (" ..." if abandoned[_NAMED:] else ""),
            )
        return {
            "interval_start": isoformat(question.interval.start) if isinstance(question, Window) else None,
            "interval_end": isoformat(question.interval.end) if isinstance(question, Window) else None,
            "conversation_ids": list(question.ids) if isinstance(question, RollCall) else None,
            "counts": {**_tally(abandoned), ENDED: ended},
            "abandoned": [row.id for row in abandoned],
            "waited_seconds": round(waited, 3),
        }

    def _trigger(self, wait: _Wait) -> VoiceOSConversationsEndedTrigger:
        question = wait.question
        bounds: dict[str, Any]
        if isinstance(question, Window):
            bounds = {
                "interval_start": isoformat(question.interval.start),
                "interval_end": isoformat(question.interval.end),
                "min_conversations": question.min_conversations,
            }
        else:
            bounds = {"conversation_ids": [id_ for id_ in question.ids if id_ not in question.ended]}
        return VoiceOSConversationsEndedTrigger(
            voiceos_conn_id=self.voiceos_conn_id,
            max_age=None if question.max_age is None else question.max_age.total_seconds(),
            visibility_delay=question.visibility_delay.total_seconds(),
            poke_interval=self.poke_interval,
            exponential_backoff=bool(self.exponential_backoff),
            max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            waiting_since=isoformat(wait.since),
            deadline=isoformat(wait.since + timedelta(seconds=self.timeout)),
            **bounds,
        )

    @contextmanager
    def _failing_softly(self) -> Iterator[None]:
        """What BaseSensorOperator does around each poke, for the one before a deferral."""
        try:
            yield
        except AirflowFailException as error:
            for choice in ("soft_fail", "never_fail"):
                if getattr(self, choice):
                    raise AirflowSkipException(f"Skipping due to {choice} is set to True.") from error
            raise


@dataclass(slots=True)
class _Wait:
    """One wait, from its first look to its last in this process."""

    question: Question
    since: datetime
    not_before: float = 0.0

    def __str__(self) -> str:
        if isinstance(self.question, RollCall):
            return f"{len(self.question.ids):,} conversations"
        return f"the conversations created in {self.question.interval}"


def _ids(given: Any) -> tuple[str, ...]:
    ids = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(id_, str) and id_ for id_ in ids) or (isinstance(given, str) and given[:1] in "[("):
        raise VoiceOSValueError(
            f"conversation_ids {given!r} is no list of ids. If it is a template, it was rendered to text: pass the "
            "output of the task that has the ids (task.output), or set render_template_as_native_obj=True on the DAG."
        )
    return tuple(dict.fromkeys(ids))


def _tally(rows: Sequence[Row]) -> dict[str, int]:
    counts = dict.fromkeys(OPEN, 0)
    for row in rows:
        status = row.status or "unknown"
        counts[status] = counts.get(status, 0) + 1
    return counts
