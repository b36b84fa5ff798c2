"""Does the server heed the window it was asked for? A conversation cannot have started long before it was created."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from voiceos_provider.client.pages import RawPage, started_at
from voiceos_provider.exceptions import VoiceOSContractError
from voiceos_provider.interval import Interval, isoformat

log = logging.getLogger(__name__)

CLOCK_SKEW = timedelta(hours=1)
"""How much earlier than its creation a conversation may claim to have started."""

BEFORE_ANY = datetime(2000, 1, 1, tzinfo=UTC)
"""Long before there was a VoiceOS. What started before has no start, but what a program writes that knows none."""

_ENOUGH = 20
"""Conversations that are judged together: of a few, one that is odd would be most."""


def is_early(start: datetime | None, interval: Interval) -> bool:
    """Whether a conversation that started then cannot well have been created in the interval."""
    return start is not None and start >= BEFORE_ANY and interval.start - start > CLOCK_SKEW


def require_heeded(starts: Iterable[datetime | None], interval: Interval) -> int:
    """How many conversations claim to have started long before the interval: a few may, and are left as they are.

    :param starts: when the conversations started that were listed for it; None where that is not known
    :raises VoiceOSContractError: if most of them do
    """
    listed = list(starts)
    early = [start for start in listed if start is not None and is_early(start, interval)]
    if len(early) * 2 > len(listed):
        raise VoiceOSContractError(
            f"GET /conversations: asked for conversations created in {interval}, and most of them started before, one "
            f"at {isoformat(min(early))}. The server ignores created_after."
        )
    return len(early) + sum(start is not None and start < BEFORE_ANY for start in listed)


class WindowWatch:
    """Looks at the pages of an export as they pass, some conversations at a time.

    :param interval: what was asked for
    """

    def __init__(self, interval: Interval) -> None:
        self._interval = interval
        self._starts: list[datetime | None] = []
        self._looked_at = self._early = 0

    def look(self, pages: Iterable[RawPage], earliest: datetime | None) -> None:
        """Look at some pages.

        :param earliest: when the first of their conversations started; if that is late enough, none is looked at
        :raises VoiceOSContractError: as `require_heeded`
        """
        late_enough = earliest is None or self._interval.start - earliest <= CLOCK_SKEW
        for page in pages:
            self._looked_at += len(page.items)
            if late_enough and not self._starts:
                continue
            self._starts += map(started_at, page.items)
            if len(self._starts) >= _ENOUGH:
                self._judge()

    def close(self) -> None:
        """Look at the rest, and tell how many were odd.

        :raises VoiceOSContractError: as `require_heeded`
        """
        # Behind many that are well, the last few say nothing of the server.
        self._starts += [None] * min(_ENOUGH, self._looked_at - len(self._starts))
        self._judge()
        if self._early:
            log.warning(
                "Conversations that claim to have started long before they were created, kept as they are: %s.",
                f"{self._early:,}",
            )

    def _judge(self) -> None:
        self._early += require_heeded(self._starts, self._interval)
        self._starts.clear()
