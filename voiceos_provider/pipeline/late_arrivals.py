"""Late arrivals: conversations of earlier intervals that had not ended when their interval was exported.

The destination finds their ids in what earlier exports have left there (`Destination.find_pending`, `load.pending`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from voiceos_provider.client.pages import RawPage, status
from voiceos_provider.client.requests import ENDED
from voiceos_provider.interval import Interval
from voiceos_provider.load.pending import PendingConversations

log = logging.getLogger(__name__)

_NAMED = 10
_AT_ONCE = 500


class LateArrivals:
    """Conversations of earlier intervals, requested by id. Those that have ended become part of this export.

    Their rows keep the interval that they were created in, so that replacing this interval does not remove them.

    :param read_each: reads conversations by their ids; the page of one that is gone is empty
    """

    def __init__(
        self, due: PendingConversations, read_each: Callable[[Iterable[str]], Iterator[tuple[str, RawPage]]]
    ) -> None:
        self._due = due
        self._read_each = read_each
        self._ended: list[str] = []
        self._gone: list[str] = []

    def pages(self) -> Generator[tuple[Interval, list[RawPage]]]:
        """Yield an interval and pages of its conversations that have ended, one conversation a page."""
        if self._due.abandoned:
            log.warning(
                "%d conversations have not ended within carry_pending and are abandoned: %s.",
                len(self._due.abandoned),
                ", ".join(self._due.abandoned[:_NAMED])
                + (", ..." if len(self._due.abandoned) > _NAMED else ""),
            )
        if not self._due.ids:
            return
        log.info("Requesting %d conversations that had not ended in earlier intervals.", len(self._due.ids))
        found: dict[Interval, list[RawPage]] = {}
        for id_, page in self._read_each(self._due.ids):
            if page.unreadable:
                continue  # it stays pending
            if not page.items:
                self._gone.append(id_)
            elif status(page.items[0]) == ENDED:
                self._ended.append(id_)
                interval = self._due.ids[id_]
                found.setdefault(interval, []).append(page)
                if len(found[interval]) == _AT_ONCE:
                    yield interval, found.pop(interval)
        yield from found.items()

    def counters(self) -> dict[str, Any]:
        """Return the counters of the receipt, once all pages have been taken."""
        return {
            "carried": len(self._ended),
            "gone": len(self._gone),
            "abandoned": len(self._due.abandoned),
            "resolved_ids": sorted(self._ended + self._gone),
        }
