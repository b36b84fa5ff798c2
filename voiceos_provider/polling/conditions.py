"""Conditions: all conversations of an interval, or conversations given by their ids, have ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from voiceos_provider.exceptions import VoiceOSNotFoundError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.queries import (
    OPEN,
    GetConversation,
    Query,
    Row,
    count_up_to,
    first_open,
    first_open_listed,
    list_interval,
    rows_of,
)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check.

    :param state: `ended`, `open`, or `unconfirmed`: no open conversation was found, and a second check has to agree
    :param reason: why the condition is not met
    :param abandoned: open conversations that are older than `max_age`, if the check knows them
    """

    state: Literal["open", "unconfirmed", "ended"]
    reason: str = ""
    abandoned: tuple[Row, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether the condition is met."""
        return self.state == "ended"

    @property
    def unconfirmed(self) -> bool:
        """Whether the next check has to confirm it."""
        return self.state == "unconfirmed"


MET = Result("ended")
UNCONFIRMED = Result(
    "unconfirmed", "no open conversation was found; the next poll reads the listing to confirm it"
)


@dataclass(frozen=True, slots=True)
class IntervalCondition:
    """All conversations created in an interval have ended.

    A value: tasks with equal conditions share one check.

    :param interval: the interval of creation time
    :param max_age: conversations created longer ago than this are not waited for; None waits for all
    :param visibility_delay: time after its creation in which a conversation may be missing from listings
    :param min_conversations: the least number of conversations that the interval must have
    """

    interval: Interval
    max_age: timedelta | None
    visibility_delay: timedelta
    min_conversations: int = 0

    @property
    def readable_at(self) -> datetime:
        """The instant from which on no further conversation of the interval appears."""
        return self.interval.end + self.visibility_delay

    def young_part(self, now: datetime) -> Interval | None:
        """Return the part whose conversations are waited for; None if all are older than `max_age`."""
        horizon = self._horizon(now)
        if horizon is None or horizon <= self.interval.start:
            return self.interval
        return Interval(horizon, self.interval.end) if horizon < self.interval.end else None

    def old_part(self, now: datetime) -> Interval | None:
        """Return the part whose conversations are older than `max_age`, if there is one."""
        horizon = self._horizon(now)
        if horizon is None or horizon <= self.interval.start:
            return None
        return Interval(self.interval.start, min(horizon, self.interval.end))

    def check(self, now: datetime, *, confirm: bool = False) -> Query[Result]:
        """Check the condition; sends nothing before the interval is readable.

        :param confirm: whether the last check left it unconfirmed. The listing is read then, which shows every state
            and is not misled by a replica that lags
        """
        if now < self.readable_at:
            return self.not_readable()
        young = self.young_part(now)
        if young:
            row = yield from first_open_listed(young) if confirm else first_open(young)
            if row:
                return Result("open", f"{row}")
            if not confirm:
                return UNCONFIRMED
        return (yield from self.check_count())

    def not_readable(self) -> Result:
        """Return the result before the interval is readable."""
        return Result(
            "open", f"reading starts at {isoformat(self.readable_at)}, visibility_delay after the interval"
        )

    def check_count(self) -> Query[Result]:
        """Check `min_conversations`, after all have ended."""
        if self.min_conversations:
            count = yield from count_up_to(self.interval, self.min_conversations)
            if count < self.min_conversations:
                return Result(
                    "open", f"the interval has {count:,} of at least {self.min_conversations:,} conversations"
                )
        return MET

    def find_abandoned(self, ended_at: datetime) -> Query[tuple[Row, ...]]:
        """Return the open conversations that were older than `max_age` when the others had ended."""
        old = self.old_part(ended_at)
        found: dict[str | None, Row] = {}
        for status in OPEN if old else ():
            assert old is not None
            rows = yield from list_interval(old, status=status)
            found.update({row.id: row for row in rows if row.is_open})
        return tuple(found.values())

    def _horizon(self, now: datetime) -> datetime | None:
        try:
            return None if self.max_age is None else now - self.max_age
        except OverflowError:  # before the year 1
            return None


@dataclass(eq=False, slots=True)
class IdsCondition:
    """The conversations with these ids have ended.

    A check stops at the first open one, and never requests an ended one again: `ended` is final. So the whole wait
    takes one request per id, and one per poll.

    :param ids: the ids
    :param max_age: an open conversation of this age is abandoned. Age counts from its start or, while it is queued,
        from the beginning of the wait, since the API does not return creation times
    :param visibility_delay: time after the beginning of the wait in which an id may be unknown
    :param since: the beginning of the wait
    :param ended: those that have ended so far
    """

    ids: tuple[str, ...]
    max_age: timedelta | None
    visibility_delay: timedelta
    since: datetime
    ended: set[str] = field(default_factory=set)

    def check(self, now: datetime) -> Query[Result]:
        """Check the condition.

        :raises VoiceOSNotFoundError: if an id is unknown after `visibility_delay`
        """
        abandoned: list[Row] = []
        for id_ in self.ids:
            if id_ in self.ended:
                continue
            try:
                page = yield GetConversation(id_)
            except VoiceOSNotFoundError as error:
                if now - self.since < self.visibility_delay:
                    return Result("open", f"conversation {id_} is not there yet")
                raise VoiceOSNotFoundError(
                    f"Check conversation_ids: there is no conversation {id_!r}, or it was deleted. {error}",
                    *error.args[1:],
                ) from error
            (row,) = rows_of(page)
            if not row.is_open:
                self.ended.add(id_)
            elif self.max_age is not None and now - (row.started_at or self.since) >= self.max_age:
                abandoned.append(row)
            else:
                return Result("open", f"{row}")
        return Result("ended", abandoned=tuple(abandoned))


Condition = IntervalCondition | IdsCondition
