"""What has become of the conversations that had not ended when their interval was exported?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from voiceos_provider.api.pages import RawPage, status
from voiceos_provider.targets.pending import Due

log = logging.getLogger(__name__)

_NAMED = 10


class LateEnders:
    """Conversations of earlier intervals, asked for by id. Those that have ended belong to this export.

    :param due: whom to ask for
    :param read_each: reads conversations by their ids; the page of one that is gone is empty
    """

    def __init__(self, due: Due, read_each: Callable[[Iterable[str]], Iterator[tuple[str, RawPage]]]) -> None:
        self._due = due
        self._read_each = read_each
        self._ended: list[str] = []
        self._gone: list[str] = []

    def pages(self) -> Iterator[RawPage]:
        """Those that have ended, each on a page of its own."""
        if self._due.abandoned:
            log.warning(
                "%d conversations have not ended within max_age and are not asked for any more: %s.",
                len(self._due.abandoned),
                ", ".join(self._due.abandoned[:_NAMED])
                + (", ..." if len(self._due.abandoned) > _NAMED else ""),
            )
        if not self._due.ids:
            return
        log.info("Asking for %d conversations that had not ended in earlier intervals.", len(self._due.ids))
        for id_, page in self._read_each(self._due.ids):
            if not page.items:
                self._gone.append(id_)
            elif status(page.items[0]) == "ended":
                self._ended.append(id_)
                yield page

    def account(self) -> dict[str, Any]:
        """What the receipt says of them, once all have been read."""
        return {
            "carried": len(self._ended),
            "gone": len(self._gone),
            "abandoned": len(self._due.abandoned),
            "settled_ids": sorted(self._ended + self._gone),
        }
