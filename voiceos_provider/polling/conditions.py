"""What is waited for, and is it so? An interval's conversations, or conversations by their ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from voiceos_provider.exceptions import VoiceOSNotFoundError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.queries import Look, One, Row, count_up_to, every_open, first_open


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look has found.

    :param ended: whether the wait is over
    :param why: what it is still waiting for, for people
    :param abandoned: conversations that were let go of, where the look knows them
    """

    ended: bool
    why: str = ""
    abandoned: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """Have all conversations created in an interval ended?

    A value: two tasks that wait for the same window ask the same question.

    :param interval: the interval of creation time
    :param max_age: a conversation that was created longer ago than this is not waited for; None waits for each
    :param visibility_delay: how long after the end of the interval a conversation of it may take to show up
    :param min_conversations: so many conversations must be there
    """

    interval: Interval
    max_age: timedelta | None
    visibility_delay: timedelta
    min_conversations: int = 0

    @property
    def settled_at(self) -> datetime:
        """From when on there is anything to ask: no conversation of the interval shows up later."""
        return self.interval.end + self.visibility_delay

    def young_part(self, now: datetime) -> Interval | None:
        """Where the conversations were created that are waited for; None if all are too old for that."""
        horizon = self._horizon(now)
        if horizon is None or horizon <= self.interval.start:
            return self.interval
        return Interval(horizon, self.interval.end) if horizon < self.interval.end else None

    def old_part(self, now: datetime) -> Interval | None:
        """Where those were created that are not waited for any more; None if there can be none."""
        horizon = self._horizon(now)
        if horizon is None or horizon <= self.interval.start:
            return None
        return Interval(self.interval.start, min(horizon, self.interval.end))

    def look(self, now: datetime) -> Look[Finding]:
        """Find out; costs no request before the window has settled, and one or two afterwards."""
        if now < self.settled_at:
            return self.not_settled()
        young = self.young_part(now)
        row = (yield from first_open(young)) if young else None
        if row:
            return Finding(False, f"{row}")
        return (yield from self.look_for_enough())

    def not_settled(self) -> Finding:
        """What there is to say before there is anything to ask."""
        return Finding(
            False, f"the interval and the time to visibility_delay are over at {isoformat(self.settled_at)}"
        )

    def look_for_enough(self) -> Look[Finding]:
        """All have ended; are there as many as there should be?"""
        if self.min_conversations:
            count = yield from count_up_to(self.interval, self.min_conversations)
            if count < self.min_conversations:
                return Finding(
                    False, f"{count:,} of at least {self.min_conversations:,} conversations are there"
                )
        return Finding(True)

    def look_for_abandoned(self, ended_at: datetime) -> Look[tuple[Row, ...]]:
        """Name those that were let go of, once the others have ended."""
        old = self.old_part(ended_at)
        return tuple((yield from every_open(old))) if old else ()

    def _horizon(self, now: datetime) -> datetime | None:
        try:
            return None if self.max_age is None else now - self.max_age
        except OverflowError:  # before the year 1
            return None


@dataclass(eq=False, slots=True)
class RollCall:
    """Have these conversations ended? They are asked one by one, and one that has ended is not asked again.

    A look stops at the first that is open. So the whole wait costs one request for each id, and one for each look.

    :param ids: the conversations
    :param max_age: one that is open is let go of after so long: since its start or, while it is queued, since the
        wait began. Creation times are not told
    :param visibility_delay: how long an id may be unknown from the beginning of the wait on
    :param since: when the wait began
    :param ended: those that have ended so far
    """

    ids: tuple[str, ...]
    max_age: timedelta | None
    visibility_delay: timedelta
    since: datetime
    ended: set[str] = field(default_factory=set)

    def look(self, now: datetime) -> Look[Finding]:
        """Find out.

        :raises VoiceOSNotFoundError: if there is no such conversation, and no hope that there will be
        """
        abandoned: list[Row] = []
        for id_ in self.ids:
            if id_ in self.ended:
                continue
            rows = yield One(id_)
            if not rows:
                if now - self.since < self.visibility_delay:
                    return Finding(False, f"conversation {id_} is not there yet")
                raise VoiceOSNotFoundError(_UNKNOWN.format(id_))
            (row,) = rows
            if not row.is_open:
                self.ended.add(id_)
            elif self.max_age is not None and now - (row.started_at or self.since) >= self.max_age:
                abandoned.append(row)
            else:
                return Finding(False, f"{row}")
        return Finding(True, abandoned=tuple(abandoned))


Question = Window | RollCall

_UNKNOWN = (
    "GET /conversations/{}: 404. There is no such conversation, or it was deleted, so its end cannot be waited for. "
    "Check conversation_ids."
)
