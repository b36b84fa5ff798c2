"""Conditions: all conversations of an interval, or conversations given by their ids, have ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from voiceos_provider.exceptions import VoiceOSNotFoundError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.polling.polling_client import OPEN, PollingClient, Row

State = Literal["open", "unconfirmed", "ended"]
"""Result of a check. `unconfirmed`: no open conversation was found, and the next check has to agree."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check.

    :param reason: why the condition is not met
    :param abandoned: open conversations that are older than `max_age`, if the check knows them
    """

    state: State
    reason: str = ""
    abandoned: tuple[Row, ...] = ()


MET = Result("ended")
UNCONFIRMED = Result(
    "unconfirmed", "no open conversation was found; the next poll reads the listing to confirm it"
)


@dataclass(frozen=True, slots=True)
class IntervalCondition:
    """All conversations created in an interval have ended.

    A value: tasks with equal conditions share one check.

    :param max_age: conversations created longer ago than this are not waited for; None waits for all
    :param visibility_delay: time after its creation in which a conversation may be missing from listings
    :param min_conversations: the least number of conversations that the interval must have
    """

    interval: Interval
    max_age: timedelta | None
    visibility_delay: timedelta
    min_conversations: int = 0

    def __str__(self) -> str:
        return f"the conversations created in {self.interval}"

    @property
    def scope(self) -> dict[str, Any]:
        """The arguments by which users choose the conversations."""
        start, end = isoformat(self.interval.start), isoformat(self.interval.end)
        return {"interval_start": start, "interval_end": end, "conversation_ids": None}

    @property
    def readable_at(self) -> datetime:
        """The instant from which on no further conversation of the interval appears."""
        return self.interval.end + self.visibility_delay

    def young_part(self, now: datetime) -> Interval | None:
        """Return the part whose conversations are waited for; None if all are older than `max_age`."""
        start = self.interval.start
        with suppress(OverflowError):  # before the year 1
            start = max(start, now - self.max_age) if self.max_age is not None else start
        return Interval(start, self.interval.end) if start < self.interval.end else None

    async def check_count(self, client: PollingClient) -> Result:
        """Check `min_conversations`, after all have ended."""
        if not self.min_conversations:
            return MET
        count = len(await client.list_interval(self.interval, enough=self.min_conversations))
        if count >= self.min_conversations:
            return MET
        return Result(
            "open", f"the interval has {count:,} of at least {self.min_conversations:,} conversations"
        )

    async def find_abandoned(self, client: PollingClient) -> tuple[Row, ...]:
        """Return the open conversations that are older than `max_age`."""
        young = self.young_part(client.clock.now())
        found: dict[str | None, Row] = {}
        for old in self.interval.without([young] if young else []):
            for status in OPEN:
                rows = await client.list_interval(old, status=status)
                found.update({row.id: row for row in rows if row.is_open})
        return tuple(found.values())


@dataclass(eq=False, slots=True)
class IdsCondition:
    """The conversations with these ids have ended.

    A check stops at the first open one, and never requests an ended one again: `ended` is final. So the whole wait
    takes one request per id, and one per poll.

    :param max_age: an open conversation of this age is abandoned. Age counts from its start or, while it is queued,
        from the beginning of the wait, since the API does not return creation times
    :param visibility_delay: time after the beginning of the wait in which an id may be unknown
    :param since: the beginning of the wait
    """

    ids: tuple[str, ...]
    max_age: timedelta | None
    visibility_delay: timedelta
    since: datetime
    ended: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{len(self.ids):,} conversations"

    @property
    def scope(self) -> dict[str, Any]:
        """The arguments by which users choose the conversations."""
        return {"interval_start": None, "interval_end": None, "conversation_ids": list(self.ids)}

    @property
    def remaining(self) -> list[str]:
        """The ids that are not known to have ended."""
        return [id_ for id_ in self.ids if id_ not in self.ended]

    async def check(self, client: PollingClient) -> Result:
        """Check the condition.

        :raises VoiceOSNotFoundError: if an id is unknown after `visibility_delay`
        """
        now = client.clock.now()
        abandoned: list[Row] = []
        for id_ in self.remaining:
            try:
                row = await client.get(id_)
            except VoiceOSNotFoundError as error:
                if now - self.since < self.visibility_delay:
                    return Result("open", f"conversation {id_} is not there yet")
                raise VoiceOSNotFoundError(
                    f"Check conversation_ids: there is no conversation {id_!r}, or it was deleted. {error}",
                    *error.args[1:],
                ) from error
            if not row.is_open:
                self.ended.add(id_)
            elif self.max_age is not None and now - (row.started_at or self.since) >= self.max_age:
                abandoned.append(row)
            else:
                return Result("open", f"{row}")
        return Result("ended", abandoned=tuple(abandoned))


Condition = IntervalCondition | IdsCondition
