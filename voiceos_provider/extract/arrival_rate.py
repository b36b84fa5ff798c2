"""How long a stretch of creation time holds about a page, after what has been seen? No I/O.

Conversations come by chance, so what is expected to fill a page overflows it half the time, and that costs a request.
What is expected to fill four fifths of it seldom does; and the fewer have been seen, the less their rate is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_CAUTION = 1.6
"""How many standard deviations stay free on a page."""

_KEPT = 0.7
"""What counts of the slices before, with each one that is seen: the rate changes with the hour."""

_SURPRISE = 3.0
"""After how many standard deviations off what was expected it is taken for another rate."""

_GROWTH = 10.0
"""How many times longer the next slice may be: a quiet hour says little of the next."""

_FEWEST = 0.5
"""What no conversation counts as, where one divides by it."""


def fitting(page_size: int, seen: float) -> float:
    """How many to expect on a page so that it seldom overflows, if their rate is known from so many.

    The count varies by chance and, with `expected² / seen`, by what is not known of the rate; this is where
    `_CAUTION` times the root of both, on top of what is expected, makes a page.
    """
    squared = _CAUTION**2
    share, half = 1 - squared / max(seen, _FEWEST), page_size + squared / 2
    # The smaller root of share * x² - 2 * half * x + page_size² = 0, in the form that has no 0 / 0.
    return page_size**2 / (half + math.sqrt(half**2 - share * page_size**2))


@dataclass(slots=True)
class ArrivalRate:
    """How many were seen in how long.

    :param seen: conversations
    :param seconds: of creation time
    :param shortest: seconds that the next slice should last at least
    :param longest: seconds that it should last at most
    """

    seen: float
    seconds: float
    shortest: float = 0.0
    longest: float = math.inf

    def expected(self, seconds: float) -> float:
        """How many there should be in so long."""
        return self.seen / self.seconds * seconds

    def page(self, page_size: int) -> float:
        """Seconds that should fit on a page."""
        seconds = self.seconds / max(self.seen, _FEWEST) * fitting(page_size, self.seen)
        return max(self.shortest, min(seconds, self.longest))

    def learn(self, seconds: float, listed: int) -> None:
        """Take notice of a slice that was read whole."""
        expected = self.expected(seconds)
        deviation = math.sqrt(expected + expected**2 / max(self.seen, _FEWEST) + 1)
        kept = _KEPT if abs(listed - expected) <= _SURPRISE * deviation else 0.0
        self.seen = self.seen * kept + listed
        self.seconds = self.seconds * kept + seconds
        self.longest = _GROWTH * seconds
        # An empty one always makes the next longer, or a server of tiny pages would be asked tick by tick.
        self.shortest = 0.0 if listed else 2 * seconds

    def resting_on(self, conversations: float) -> ArrivalRate:
        """The same density, known from so many."""
        scale = conversations / max(self.seen, _FEWEST)
        return ArrivalRate(self.seen * scale, self.seconds * scale)

    def __add__(self, other: ArrivalRate) -> ArrivalRate:
        """What both have seen."""
        return ArrivalRate(self.seen + other.seen, self.seconds + other.seconds)
