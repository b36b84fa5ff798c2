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
from statistics import median_low

from voiceos_provider.extract.arrival_rate import ArrivalRate, fitting
from voiceos_provider.interval import TICK, Interval

_GUIDED_FILL = 0.97
"""How full a page is meant to be where the overflowing one has just told what is on it."""

_SLIGHTLY, _FAR = 1.3, 2.5
"""How many pages a slice that has overflowed seems to hold: one that was expected to fit, and one of which nothing was
known."""

_SURPLUS = 1.25
"""How many times as many conversations to expect where more than a number of them are known to be."""

_GUESSED = 20
"""How many conversations a density rests on that was guessed, from a sample or from that of another stretch."""

_WORTH_A_LANE, _WORTH_IT_LATER = 8, 4
"""Pages that the rest of a lane should have before it is cut in two: a new lane begins with a guess."""

_LATER = 4
"""Slices for each reader after which few are lost with a guess, and more while readers wait for the last of them."""

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
    """What is left of a stretch that is read a slice at a time.

    :param density: how dense it seems to be; None before its first answer
    :param told: how wide the next slice should be after an overflow, whatever the density
    """

    start: datetime
    end: datetime
    density: ArrivalRate | None = None
    newest_first: bool = False
    told: timedelta | None = None
    overflows: int = 0
    crowds: list[_Crowd] = field(default_factory=list)
    reading: Slice | None = None

    @property
    def left(self) -> timedelta:
        """How much of it nobody has been sent to read yet."""
        return self.end - self.start - (self.reading.width if self.reading else timedelta(0))

    @property
    def at(self) -> datetime:
        """Where the next slice begins."""
        return self.end if self.newest_first else self.start

    def width(self, page_size: int) -> timedelta:
        """How wide the next slice should be."""
        if self.told is not None:
            return self.told
        all_of_it = self.end - self.start
        if self.density is None:
            # The whole window first: it may fit on a page, or else tells where to begin.
            return all_of_it
        width = timedelta(seconds=min(self.density.page(page_size), 2 * all_of_it.total_seconds()))
        for crowd in self.crowds:
            # Do not ask for what is known to overflow: more than a page was there, and only so many have come of it.
            share = fitting(page_size, self.density.seen) / max(1.0, crowd.more_than * _SURPLUS)
            share = max(share, 0.5)  # with tiny pages it would come near the edge, and never there
            if share < 1:
                width = min(width, abs(crowd.edge - self.at) * share)
        return max(TICK, width)

    def accept(self, piece: Slice, listed: int) -> None:
        """The slice was read whole, and held so many conversations."""
        seconds = piece.width.total_seconds()
        if self.density:
            self.density.learn(seconds, listed)
        self.told, self.overflows, self.reading = None, 0, None
        if self.newest_first:
            self.end = piece.interval.start
        else:
            self.start = piece.interval.end
        self.crowds = [
            _Crowd(crowd.edge, crowd.more_than - listed)
            for crowd in self.crowds
            if (crowd.edge < self.at if self.newest_first else crowd.edge > self.at)
        ]

    def overflowed(self, piece: Slice, times: Sequence[datetime], listed: int) -> None:
        """The slice holds more than its page, on which so many conversations were that started at these times."""
        self.overflows += 1
        self.reading = None
        known = self.density is not None and self.density.seen > listed / 2 and self.overflows == 1
        interval = piece.interval
        within = [time for time in times if interval.start <= time < interval.end]
        guided = len(within) > listed // 2
        order = _order(within) if guided else 0
        if order and piece.width == self.end - self.start:  # nothing of it is read yet
            self.newest_first = order < 0
        away = sorted(interval.end - time if self.newest_first else time - interval.start for time in within)
        exact = order == (-1 if self.newest_first else 1)
        if exact:
            # What is on the page lies next to where the lane is, and nothing else does.
            expected = max(1.0, len(away) * _GUIDED_FILL)
            told = away[int(expected) - 1]
        else:
            # What is on it may be anywhere, and all that is known is that it is too much.
            expected = fitting(listed, _GUESSED)
            share = expected / listed / (_SLIGHTLY if known else _FAR * 2 ** (self.overflows - 1))
            told = away[int(len(away) * share)] if guided and not order else piece.width * share
        most = piece.width / 2 ** (self.overflows - 1) - max(TICK, piece.width * 0.1)
        self.told = max(TICK, min(told, most))
        if not known:
            density = ArrivalRate(expected, self.told.total_seconds())
            self.density = density if exact else density.resting_on(_GUESSED)
        self.crowds.append(_Crowd(interval.start if self.newest_first else interval.end, listed))


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
        self._lanes = [_Lane(window.start, window.end) for window in windows]
        self._read = ArrivalRate(0.0, 0.0)
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
            self.page_size = max(self.page_size, listed)
            self._read += ArrivalRate(listed, piece.width.total_seconds())
            lane = self._lane_of(piece)
            lane.accept(piece, listed)
            if lane.start >= lane.end:
                self._lanes.remove(lane)

    def overflowed(self, piece: Slice, times: Sequence[datetime], *, listed: int) -> None:
        """The slice holds more than its page, and will be cut.

        :param times: about when the conversations of the page were created, in its order, as far as they tell; only a
            guide to where to cut: whatever it says, nothing is missed
        :param listed: conversations on the page, which is what the server gives at once
        """
        with self._lock:
            self.page_size = max(1, listed)
            self._lane_of(piece).overflowed(piece, times, self.page_size)

    def _lane_of(self, piece: Slice) -> _Lane:
        return next(lane for lane in self._lanes if lane.reading is piece)

    def _another_lane(self) -> _Lane | None:
        known = [(lane, lane.density) for lane in self._lanes if lane.density]
        if len(self._lanes) >= self._most or not known:
            return None
        lane, density = max(known, key=lambda one: one[1].expected(one[0].left.total_seconds()))
        worth = _WORTH_A_LANE if self._handed_out < _LATER * self._most else _WORTH_IT_LATER
        if density.expected(lane.left.total_seconds()) < worth * self.page_size:
            return None
        # Where the lane is there may be a crowd, so half of the guess is what all of them have seen.
        guess = density.resting_on(_GUESSED)
        if self._read.seen:
            guess += self._read.resting_on(_GUESSED)
        if lane.newest_first:
            middle = _aligned(lane.start + lane.left / 2, lane.start, lane.left)
            new = _Lane(lane.start, middle, guess, newest_first=True)
            lane.start = middle
        else:
            middle = _aligned(lane.end - lane.left / 2, lane.end - lane.left, lane.left)
            new = _Lane(middle, lane.end, guess)
            lane.end = middle
        self._lanes.append(new)
        return new

    def _next(self, lane: _Lane) -> Interval:
        """The lane's next slice: as wide as it should be, or all that is left rather than leave a sliver."""
        width = lane.width(self.page_size)
        if lane.end - lane.start <= width * 1.05:
            return Interval(lane.start, lane.end)
        wider = lane.told is None
        if lane.newest_first:
            return Interval(_aligned(lane.end - width, lane.start, width, up=not wider, near=wider), lane.end)
        end = _aligned(lane.start + width, lane.start, width, near=wider)
        return Interval(lane.start, min(end, lane.end))


def _order(times: Sequence[datetime]) -> int:
    """Whether they ascend (1) or descend (-1), in the main; 0 if neither."""
    middle, half = median_low(times), times[: len(times) // 2]
    later = sum(time > middle for time in half)
    return -1 if later > len(half) * 0.85 else 1 if later < len(half) * 0.15 else 0


def _aligned(
    moment: datetime, after: datetime, width: timedelta, *, up: bool = False, near: bool = False
) -> datetime:
    """The moment, moved to where a slice of this width should end, later than `after`.

    That is the grain before it, the one after it (`up`), or the nearest one (`near`).
    """
    for grain in _GRAINS:
        if width >= 2 * grain:
            over = (moment - _EPOCH) % grain
            later = over > grain / 2 if near else up and bool(over)
            at = moment - over + (grain if later else timedelta(0))
            if at > after:
                return at
    return max(moment, after + TICK)
