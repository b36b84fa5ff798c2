"""Into which slices of creation time is a window cut, so that each fits on one page? No I/O.

One answer that says that nothing follows is an atomic read of its slice: no order, no tie and no change between two
requests can spoil it. Slices that meet without a gap cover the window, so nothing is missed. What is left to do is to
ask seldom: a slice is as wide as the density just seen suggests, and one that holds more than a page is cut again.

    lane 1   |####|#####|>>>.........|         a lane is read from one end to the other, a slice at a time;
    lane 2                           |##|>>..|  for more readers, the longest rest of a lane is cut in two
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from voiceos_provider.interval import TICK, Interval

_FILL = 0.75
"""How full a page is meant to be: fuller ones overflow too often, emptier ones are too many."""

_GUIDED_FILL = 0.97
"""The same, where the overflowing page has just told which slice to ask for."""

_SURPLUS = 1.25
"""How many times as many conversations to expect where more than a number of them are known to be."""

_GROWTH = 10
"""How many times wider the next slice may be: a quiet hour says little of the next."""

_WORTH_A_LANE = 8
"""Pages that the rest of a lane should have before it is cut in two: a new lane begins with a guess."""

_GRAINS = (timedelta(seconds=1), timedelta(milliseconds=1))
"""Where slices meet, if they are wide enough: to a server that drops fractions of a second they still do."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of creation time to be read by one request.

    :param interval: the stretch
    :param number: counted in the order in which slices are handed out, from 1
    """

    interval: Interval
    number: int

    @property
    def width(self) -> timedelta:
        """How long the stretch is."""
        return self.interval.end - self.interval.start

    @property
    def is_tick(self) -> bool:
        """Whether it cannot be cut any further."""
        return self.width <= TICK


@dataclass(slots=True)
class _Crowd:
    """A stretch that has overflowed, from where the lane stands to its far edge: it holds more than this."""

    edge: datetime
    more_than: int


@dataclass(slots=True)
class _Lane:
    """What is left of a stretch that is read a slice at a time."""

    start: datetime
    end: datetime
    width: timedelta
    newest_first: bool = False
    overflows: int = 0
    crowds: list[_Crowd] = field(default_factory=list)
    reading: Slice | None = None

    @property
    def left(self) -> timedelta:
        """How much of it nobody has been sent to read yet."""
        return self.end - self.start - (self.reading.width if self.reading else timedelta(0))


class Slices:
    """The slices of a window, for several readers at once. Every one taken must be accepted or have overflowed.

    `page_size` is how many conversations a page seems to hold at most.

    :param windows: what has to be covered
    :param page_size: conversations that a page is asked to hold; a server that gives fewer is noticed
    :param lanes: how many slices may be read at a time
    """

    def __init__(self, windows: Iterable[Interval], *, page_size: int, lanes: int = 1) -> None:
        self.page_size = page_size
        self._most = lanes
        # The whole window first: it may fit on a page, or else tells where to begin.
        self._lanes = [_Lane(window.start, window.end, window.end - window.start) for window in windows]
        self._handed_out = 0
        self._lock = threading.Lock()

    @property
    def done(self) -> bool:
        """Whether the window is covered."""
        return not self._lanes

    def take(self) -> Slice | None:
        """The next slice to read; None if there is none before one that is being read is known."""
        with self._lock:
            lane = next((lane for lane in self._lanes if lane.reading is None), None) or self._another_lane()
            if lane is None:
                return None
            self._handed_out += 1
            lane.reading = Slice(self._next(lane), self._handed_out)
            return lane.reading

    def accept(self, piece: Slice, listed: int) -> None:
        """The slice was read whole, and held so many conversations."""
        with self._lock:
            lane = self._lane_of(piece)
            self.page_size = max(self.page_size, listed)
            # An empty one always makes the next wider, or a server of tiny pages would be asked tick by tick.
            wider = _FILL * self.page_size / listed if listed else max(2.0, _FILL * self.page_size)
            lane.width = max(TICK, piece.width * min(wider, _GROWTH))
            lane.overflows = 0
            lane.reading = None
            if lane.newest_first:
                lane.end = piece.interval.start
            else:
                lane.start = piece.interval.end
            self._mind_crowds(lane, listed)
            if lane.start >= lane.end:
                self._lanes.remove(lane)

    def overflowed(self, piece: Slice, times: Sequence[datetime], *, listed: int) -> None:
        """The slice holds more than its page, and will be cut.

        :param times: about when the conversations of the page were created, as far as they tell; only a guide to
            where to cut: whatever it says, nothing is missed
        :param listed: conversations on the page, which is what the server gives at once
        """
        with self._lock:
            lane = self._lane_of(piece)
            self.page_size = max(1, listed)
            lane.overflows += 1
            lane.reading = None
            within = sorted(time for time in times if piece.interval.start <= time < piece.interval.end)
            guided = len(within) > listed // 2
            if guided and piece.width == lane.end - lane.start:  # nothing of it is read yet
                lane.newest_first = within[0] - piece.interval.start > (piece.interval.end - within[-1]) * 2
            narrower = piece.width / 2**lane.overflows
            if guided:
                guess = self._guess(within, piece.interval, newest_first=lane.newest_first)
                narrower = min(guess, piece.width * 0.75) if lane.overflows == 1 else min(guess, narrower)
            lane.width = max(TICK, narrower)
            far = piece.interval.start if lane.newest_first else piece.interval.end
            lane.crowds.append(_Crowd(far, listed))

    def _guess(self, times: Sequence[datetime], interval: Interval, *, newest_first: bool) -> timedelta:
        """How wide a slice at this end of the interval fits on a page, if the page that has overflowed is any guide."""
        # Spread over all of it, they are in no order of time: a sample, and all that is known is that it is too much.
        sample = times[-1] - times[0] > (interval.end - interval.start) / 2
        place = int(len(times) * (_FILL / 2 if sample else _GUIDED_FILL))
        if newest_first:
            return interval.end - times[-max(1, place)]
        return times[max(1, place) - 1] - interval.start

    def _mind_crowds(self, lane: _Lane, listed: int) -> None:
        """Do not ask for what is known to overflow: where more than a page was, and only so many have come of it."""
        at = lane.end if lane.newest_first else lane.start
        lane.crowds = [
            crowd for crowd in lane.crowds if (crowd.edge < at if lane.newest_first else crowd.edge > at)
        ]
        for crowd in lane.crowds:
            crowd.more_than -= listed
            if crowd.more_than > 0:
                share = _FILL * self.page_size / (crowd.more_than * _SURPLUS)
                lane.width = max(TICK, min(lane.width, abs(crowd.edge - at) * share))

    def _lane_of(self, piece: Slice) -> _Lane:
        return next(lane for lane in self._lanes if lane.reading is piece)

    def _another_lane(self) -> _Lane | None:
        if not self._handed_out or len(self._lanes) >= self._most or not self._lanes:
            return None
        lane = max(self._lanes, key=lambda lane: lane.left / lane.width)
        if lane.left < lane.width * _WORTH_A_LANE:
            return None
        if lane.newest_first:
            middle = _aligned(lane.start + lane.left / 2, lane.start, lane.left)
            new = _Lane(lane.start, middle, lane.width, newest_first=True)
            lane.start = middle
        else:
            middle = _aligned(lane.end - lane.left / 2, lane.end - lane.left, lane.left)
            new = _Lane(middle, lane.end, lane.width)
            lane.end = middle
        self._lanes.append(new)
        return new

    def _next(self, lane: _Lane) -> Interval:
        """The lane's next slice: as wide as it should be, or all that is left rather than leave a sliver."""
        left = lane.end - lane.start
        if left <= lane.width * 1.1:
            return Interval(lane.start, lane.end)
        if lane.newest_first:
            return Interval(_aligned(lane.end - lane.width, lane.start, lane.width, up=True), lane.end)
        return Interval(lane.start, _aligned(lane.start + lane.width, lane.start, lane.width))


def _aligned(moment: datetime, after: datetime, width: timedelta, *, up: bool = False) -> datetime:
    """The moment, moved to where a slice of this width should end: later than `after`, and never wider."""
    for grain in _GRAINS:
        if width >= 2 * grain:
            over = (moment - _EPOCH) % grain
            at = moment - over + (grain if up and over else timedelta(0))
            if at > after:
                return at
    return max(moment, after + TICK)
