"""Probe requests while an interval is read, which show how the server compares times."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from voiceos_provider.client import RawPage
from voiceos_provider.client.pages import PageSizes
from voiceos_provider.client.requests import Listing
from voiceos_provider.exceptions import VoiceOSBadRequestError, VoiceOSContractError, VoiceOSResponseError
from voiceos_provider.extract.window_reader import drive, read_window
from voiceos_provider.extract.windows import HUNDREDTH, MILLISECOND, SECOND, TENTH, Window, floor, minus
from voiceos_provider.interval import TICK, Interval

log = logging.getLogger(__name__)

_FINER = {SECOND: TENTH, TENTH: HUNDREDTH, HUNDREDTH: MILLISECOND}
"""By unit: the next one, which is a multiple of every step that a server may still compare in; see `_STEPS`."""

_STEPS = {SECOND: SECOND, TENTH: TENTH, HUNDREDTH: HUNDREDTH / 3}
"""By unit: the step that a server is shown to compare more finely than. The last is the 1/300 s of SQL Server, whose
multiples include hundredths of a second, and no single millisecond."""

_PROBES = 3
"""Probes without proof, after which a unit is not probed again."""


class BoundsProbe:
    """Probe requests that show how the server compares times, sent while an interval is read.

    :param sizes: what is known of the server's pages
    :param max_pages: pages after which a listing is considered endless
    """

    def __init__(self, fetch: Callable[[Listing, int], RawPage], sizes: PageSizes, *, max_pages: int) -> None:
        self._fetch = fetch
        self._sizes = sizes
        self._max_pages = max_pages
        self._probes: Counter[tuple[timedelta, bool]] = Counter()
        self._finer: dict[timedelta, bool] = {}
        self._lock = threading.Lock()

    def earlier(self, start: datetime) -> set[int]:
        """Return the keys of conversations that windows from a start list, and that belong to the range before it.

        A conversation is earlier if it is listed before the start; unless it is one created at the very start, which
        a server that includes its bounds lists there, too.
        """
        begin = minus(floor(minus(start, TICK), SECOND), SECOND)
        before = self._keys(begin, start)
        if not before:
            return before
        on_the_edge = self._keys(start - TICK, start)
        if not on_the_edge:
            return before
        return before - (on_the_edge - self._keys(begin, start - TICK))

    def may_be_finer(self, unit: timedelta) -> bool:
        """Return whether there is a finer unit, and the server is not taken to compare more coarsely."""
        return unit in _FINER and self._finer.get(unit, True)

    def finer_unit(self, unit: timedelta, instant: datetime, *, overflows: bool) -> timedelta | None:
        """Return a finer unit that the server compares, found by a few requests of one row; None if none is known.

        A server that compares whole steps lists the same for any two bounds in the same half of a step: always nothing,
        or always what was created at that step. Something in a wide range, and nothing in a narrow one, is proof. The
        narrow one comes first: a deletion between the two cannot empty it.

        :param instant: a time about which many conversations were created
        :param overflows: whether the unit at that time overflows. Three probes without proof then mean that the server
            compares whole units, or that everything was created at once. Otherwise they mean nothing
        """
        if unit not in _FINER:
            return None
        probed = unit, overflows
        with self._lock:
            if unit not in self._finer and self._probes[probed] < _PROBES:
                self._probes[probed] += 1
                if self._compares_finer(_STEPS[unit], floor(instant, unit)):
                    self._finer[unit] = True
                elif overflows and self._probes[probed] == _PROBES:
                    self._finer[unit] = False
            return _FINER[unit] if self._finer.get(unit) else None

    def is_empty(self, after: datetime, before: datetime) -> bool:
        """Return whether the server lists nothing between two bounds."""
        return not self._fetch(Listing(None, after, before, 1), 1).items

    def require_moved(self, id_: str | None, first: Window, second: Window) -> None:
        """Make sure that a conversation listed in two windows far apart has only changed its creation time.

        Requests what was created after the later window's start and before the earlier one's end: nothing, unless the
        server ignores one of the two bounds.

        :raises VoiceOSContractError: if the server ignores a bound
        :raises VoiceOSResponseError: if the server refuses the question
        """
        earlier, later = sorted((first, second), key=lambda window: window.start)
        seen = (
            f"GET /conversations: {id_!r} is listed among the conversations created in {earlier.interval}, and "
            f"among those created in {later.interval}"
        )
        try:
            proven = not self.is_empty(later.start, earlier.end)
        except VoiceOSBadRequestError:
            raise VoiceOSResponseError(f"{seen}. Retry later.") from None
        if proven:
            raise VoiceOSContractError(f"{seen}. The server ignores created_after or created_before.")
        log.warning("%s; it is exported once.", seen)

    def _compares_finer(self, step: timedelta, begin: datetime) -> bool:
        """Return whether the server is seen to compare more finely than a step, in the one that begins then."""
        try:
            for half in (begin, begin + step / 2):
                tick = half + 0.123457 * step
                narrow_is_empty = self.is_empty(tick, tick + TICK)
                if narrow_is_empty and not self.is_empty(half + 0.001 * step, half + 0.498 * step):
                    return True
        except VoiceOSBadRequestError:  # it refuses bounds that are equal once they are rounded
            pass
        return False

    def _keys(self, after: datetime, before: datetime) -> set[int]:
        """Return the keys of all conversations listed between two bounds."""
        listing = Listing(None, after, before, self._sizes.requested)
        keys: set[int] = set()
        reading = read_window(
            Interval(after, before),
            self._sizes,
            lambda page: keys.update(page.keys),
            can_be_cut=False,
            max_pages=self._max_pages,
        )
        drive(reading, lambda index: self._fetch(listing, index))
        return keys


def are_far_apart(first: Window, second: Window) -> bool:
    """Return whether two windows are too far apart to list the same conversation, however bounds are rounded."""
    earlier, later = sorted((first, second), key=lambda window: window.start)
    return later.start - earlier.end > 2 * SECOND
