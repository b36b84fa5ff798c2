"""Window planner: into which windows of creation time an interval is cut, so that each fits on one page. No I/O.

Windows meet on whole seconds, which every server compares alike, whatever precision it stores and however it rounds;
on finer units once the server is known to compare them.
A window is as wide as the arrival rate just seen suggests; one that overflows its page is put back and cut in half.
Where that wastes requests, because conversations come in batches, windows grow to several pages, which are paged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from voiceos_provider.interval import Interval

SECOND = timedelta(seconds=1)
TENTH = timedelta(milliseconds=100)
HUNDREDTH = timedelta(milliseconds=10)
MILLISECOND = timedelta(milliseconds=1)

_FILL = 0.8
"""Share of a page that a window should fill: one that overflows costs a request."""

_KEPT = 0.6
"""Weight of the earlier windows in the arrival rate, with each further window."""

_OVERFLOWING = 1.5
"""Pages that a window which overflows is taken to hold, in the arrival rate."""

_GROWTH = 4
"""How many times wider the next window may be: a quiet hour says little about the next."""

_PER_WORKER = 8
"""Windows accepted before one more worker takes part: early guesses of the rate are bad, and each costs a request."""

_DENSE = 3.0
"""Width of a window of one page, in units, below which windows hold several: else most of one is listed again."""

_COARSE = {SECOND: 12.0, TENTH: _DENSE}
"""Width of a window of one page, in units, below which a finer unit saves more requests than it takes to prove it."""

_LONGEST = timedelta(days=100_000_000)
_PAGED = 8
"""Pages that a window should hold while conversations come in batches."""

_WASTEFUL = 5.0
"""Requests per full page above which windows of one page are given up for a while."""

_EVEN = 0.25
"""Mean relative error of the expected number of conversations below which they do not come in batches."""

_DECIDE_AFTER, _DECIDE_PAGED_AFTER = 16, 4
"""Windows of one page, and of several, after which the size of windows is decided anew."""

_WIDENING = 1.09
"""Growth of the widest window that the server is thought to list, with each that it lists: a refusal may pass."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """A range of creation time that is read on its own.

    :param start: first instant
    :param end: exclusive end
    :param unit: precision in which the server is known to compare: windows meet on multiples of it
    """

    start: datetime
    end: datetime
    unit: timedelta = SECOND

    @property
    def interval(self) -> Interval:
        """The range."""
        return Interval(self.start, self.end)

    @property
    def width(self) -> timedelta:
        """The length of the range."""
        return self.end - self.start

    @property
    def can_be_cut(self) -> bool:
        """Whether the range contains a multiple of the unit, other than its start."""
        return floor(self.end - timedelta(microseconds=1), self.unit) > self.start

    @property
    def created_after(self) -> datetime:
        """The lower bound to send: one unit before the last multiple of it that is not after the start.

        Sent as a whole number of units, it survives any rounding, and every conversation of the window is later,
        whether the server includes the bound or not. The conversations of that extra unit are listed again. The upper
        bound to send is the end.
        """
        return minus(floor(self.start, self.unit), self.unit)


@dataclass(slots=True)
class ArrivalRate:
    """Conversations per second of creation time, and how many conversations that estimate rests on."""

    seen: float = 0.0
    seconds: float = 0.0

    def add(self, conversations: float, seconds: float) -> None:
        """Take a window into account; earlier windows fade."""
        self.seen = self.seen * _KEPT + conversations
        self.seconds = self.seconds * _KEPT + seconds

    def expected(self, seconds: float) -> float:
        """Return how many conversations arrive in a time."""
        return self.seen / max(self.seconds, 1e-6) * seconds

    def seconds_for(self, conversations: float) -> float:
        """Return the seconds in which a number of conversations arrives."""
        return self.seconds * conversations / max(self.seen, 0.5)


class WindowPlanner:
    """Hands out the windows of some ranges; each one taken must be accepted, put back or refused.

    Not thread-safe: the workers that share a planner take turns.

    :param ranges: what is to be covered
    :param page_size: conversations requested per page; a server that gives fewer is noticed
    """

    def __init__(self, ranges: Iterable[Interval], *, page_size: int) -> None:
        self._page_size = page_size
        self._ranges = [Window(each.start, each.end) for each in ranges][::-1]
        self._in_progress = self._accepted = 0
        self._unit = SECOND
        self._rate = ArrivalRate()  # meaningless until a window is accepted
        self._width = self._widest = _LONGEST
        self._overflows = 0  # since the last window that was accepted
        self._trial = _Trial()
        self._batches = False  # whether conversations come in batches
        self._pages = 1  # that a window should hold

    @property
    def done(self) -> bool:
        """Whether everything is covered."""
        return not self._ranges and not self._in_progress

    @property
    def is_capped_by_server(self) -> bool:
        """Whether windows are as narrow as they are because the server refuses wider ones."""
        return self._widest < self._width

    @property
    def is_coarse(self) -> bool:
        """Whether a finer unit would save requests, because much of each window is listed again."""
        page = self._rate.seconds_for(_FILL * self._page_size)
        return self._accepted > 0 and page < _COARSE.get(self._unit, 0.0) * self._unit.total_seconds()

    @property
    def worth_paging(self) -> int:
        """Pages of a window that are worth reading before it is cut."""
        return 4 * self._pages if self._pages > 1 and not self._overflows else 1

    def take(self) -> Window | None:
        """Return the next window, or None while there is none: because all is taken, or the rate is unknown."""
        if not self._ranges or self._in_progress > self._accepted // _PER_WORKER:
            return None
        window = self._ranges.pop()
        width = min(self._width, self._widest)
        if window.width > width * 1.05:
            end = max(
                floor(window.start + width, window.unit), floor(window.start, window.unit) + window.unit
            )
            if end < window.end:
                self._ranges.append(Window(end, window.end, window.unit))
                window = Window(window.start, end, window.unit)
        self._in_progress += 1
        return window

    def accept(self, window: Window, *, listed: int, requests: int) -> None:
        """Note that a window was read completely.

        :param listed: conversations on its pages
        """
        self._in_progress -= 1
        self._overflows = 0
        if window.width * 2 > self._widest:
            self._widest *= _WIDENING
        if self._accepted:
            self._decide(requests, listed, expected=self._rate.expected(_seconds(window)))
        self._accepted += 1
        self._rate.add(listed, _seconds(window))
        fitting_width = self._fitting_width(window.unit)
        widest = _GROWTH * max(window.width, window.unit)
        # After an empty one always wider, or pages of one conversation would be read in ever the same steps.
        self._width = min(fitting_width, widest) if listed else widest

    def put_back(self, window: Window, *, requests: int, page_size: int) -> None:
        """Return a window that overflows, to be cut.

        :param page_size: conversations on a full page
        """
        self._return(window)
        self._overflows += 1
        self._page_size = max(1, page_size)
        self._width = min(self._width, window.width / 2)
        if self._accepted:
            self._rate.add(_OVERFLOWING * page_size, _seconds(window))
            self._width = min(self._width, self._fitting_width(window.unit))
            if not self._batches:
                self._decide(requests, 0, expected=None)

    def refuse(self, window: Window) -> None:
        """Return a window that the server refuses for its width, to be cut."""
        self._return(window)
        self._widest = min(self._widest, window.width / 2)

    def refine(self, unit: timedelta) -> None:
        """Cut all that remains with a unit, if it is finer than the one before."""
        if unit < self._unit:
            self._unit = unit
            self._ranges = [replace(each, unit=unit) for each in self._ranges]

    def _return(self, window: Window) -> None:
        """Put a window in front of the range that it was cut from, if that has not been touched since."""
        self._in_progress -= 1
        end = window.end
        if self._ranges and self._ranges[-1].start == end:
            end = self._ranges.pop().end
        self._ranges.append(Window(window.start, end, self._unit))

    def _fitting_width(self, unit: timedelta) -> timedelta:
        """Return how wide a window should be, without the unit that is listed again."""
        seconds = self._rate.seconds_for(_FILL * self._page_size)
        dense = seconds < _DENSE * unit.total_seconds()
        self._pages = _PAGED if self._batches or dense else 1
        if self._pages > 1:
            seconds = self._rate.seconds_for(self._pages * self._page_size)
        return timedelta(seconds=min(max(seconds - unit.total_seconds(), 0.001), _LONGEST.total_seconds()))

    def _decide(self, requests: int, listed: int, *, expected: float | None) -> None:
        """Choose between windows of one page and of several, by what the last windows cost."""
        trial = self._trial
        trial.add(requests, listed, expected)
        if trial.windows < (_DECIDE_PAGED_AFTER if self._batches else _DECIDE_AFTER):
            return
        if self._batches:
            self._batches = trial.error >= _EVEN
        elif trial.put_back * 3 > trial.windows:
            self._batches = trial.requests > _WASTEFUL * max(1.0, trial.listed / self._page_size)
        self._trial = _Trial()


@dataclass(slots=True)
class _Trial:
    """What some windows in a row took and brought."""

    windows: int = 0
    put_back: int = 0
    requests: int = 0
    listed: int = 0
    errors: float = 0.0

    def add(self, requests: int, listed: int, expected: float | None) -> None:
        self.windows += 1
        self.requests += requests
        self.listed += listed
        if expected is None:
            self.put_back += 1
        else:
            self.errors += abs(listed - expected) / max(1.0, expected)

    @property
    def error(self) -> float:
        """Mean relative error of the expected number of conversations."""
        return self.errors / max(1, self.windows - self.put_back)


def _seconds(window: Window) -> float:
    """Return the length of what a window lists, with the unit that is listed again."""
    return (window.width + window.unit).total_seconds()


def floor(instant: datetime, unit: timedelta) -> datetime:
    """Return the last multiple of the unit that is not later."""
    return instant - (instant - _EPOCH) % unit


def minus(instant: datetime, span: timedelta) -> datetime:
    """Return an instant earlier by a span, but not before the first of the calendar."""
    return instant - min(span, instant - _EARLIEST)
