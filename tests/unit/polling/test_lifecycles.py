"""Waits over random conversations: they never end early, and always end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.support.lifecycles import add, change, end
from voiceos_provider.client import ClientConfig, Retry, VoiceOSClient
from voiceos_provider.emulator import Emulator, Fault, World
from voiceos_provider.interval import Interval
from voiceos_provider.polling.conditions import (
    MET,
    Condition,
    IdsCondition,
    IntervalCondition,
    Result,
    Results,
    check_all,
)
from voiceos_provider.polling.polling_client import PollingClient, ServerClock, run

DAY = datetime(2026, 11, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INTERVAL = Interval(DAY + timedelta(hours=1), DAY + timedelta(hours=2))
NEIGHBOUR = Interval(INTERVAL.end, INTERVAL.end + timedelta(hours=1))
MAX_AGE = timedelta(hours=1, minutes=30)
VISIBLE_AFTER, REPLICA_LAG, VISIBILITY_DELAY = (
    timedelta(minutes=1),
    timedelta(minutes=2),
    timedelta(minutes=4),
)


class Lifecycles(RuleBasedStateMachine):
    """Calls start, end and get stuck, replicas lag, the API fails, and a task waits for the end of an interval."""

    calls = Bundle("calls")

    @initialize(
        has_max_age=st.booleans(), order=st.sampled_from(["created_desc", "created_asc"]), lag=st.booleans()
    )
    def begin(self, *, has_max_age: bool, order: Any, lag: bool) -> None:
        """Start at midnight without conversations."""
        self.now = DAY
        self.max_age = MAX_AGE if has_max_age else None
        self.world = World(seed=5, conversations=0, start=DAY, end=DAY + timedelta(days=1))
        self.created: dict[str, datetime] = {}
        self.ended: set[str] = set()
        self.emulator = Emulator(
            self.world,
            clock=lambda: self.now,
            order=order,
            visible_after=VISIBLE_AFTER,
            seed=3,
            replica_lag=REPLICA_LAG if lag else timedelta(0),
        )
        client = ClientConfig(
            token=self.emulator.token, base_url="http://emulator", page_size=3, retry=Retry(max_attempts=1)
        )
        self.client = VoiceOSClient(client, transport=self.emulator.transport())
        self.window = IntervalCondition(INTERVAL, self.max_age, VISIBILITY_DELAY)
        self.neighbour = IntervalCondition(NEIGHBOUR, self.max_age, VISIBILITY_DELAY)
        self.states: dict[Condition, str] = {}
        self.over: set[IntervalCondition] = set()

    @rule(target=calls, started=st.booleans(), count=st.integers(1, 3))
    def call(self, *, started: bool, count: int) -> Any:
        """Create calls; those that have not started are queued."""
        ids = [add(self.world, created=self.now, started=self.now if started else None) for _ in range(count)]
        self.created.update(dict.fromkeys(ids, self.now))
        return multiple(*ids)

    @rule(id_=calls)
    def start(self, id_: str) -> None:
        """Start a queued call."""
        self._start(id_)

    @rule(id_=consumes(calls))
    def hang_up(self, id_: str) -> None:
        """End a call, whether it has started or not."""
        self._end(id_)

    @rule(minutes=st.integers(1, 40))
    def let_time_pass(self, minutes: int) -> None:
        """Advance the clock."""
        self.now += minutes * MINUTE

    @rule(data=st.data())
    def check(self, data: st.DataObject) -> None:
        """Check the conditions while calls may start or end between any two requests."""
        meanwhile = data.draw(
            st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["start", "end"]), st.integers(0, 50)))
        )
        first = self.emulator.faults._counted["list"]

        def proceed(nth: int) -> None:
            alive = sorted(self.created.keys() - self.ended)
            for at, what, which in meanwhile:
                if at == nth - first and alive:
                    id_ = alive[which % len(alive)]
                    self._start(id_) if what == "start" else self._end(id_)

        self.emulator.before_list = proceed
        self._judge(self._poll())
        for confirm in (False, True):
            alone = self._check(self.window, "unconfirmed" if confirm else "unchecked")
            assert alone.state != "ended" or self._waited_for(self.window) == []
        self.emulator.before_list = None

    @rule(nth=st.integers(1, 4))
    def check_while_the_api_fails(self, nth: int) -> None:
        """Check that a failing API gives no result."""
        self.emulator.faults.add(Fault.server_error(), at=[self.emulator.faults._counted["list"] + nth])
        self._judge(self._poll())
        self.emulator.faults.clear()

    @invariant()
    def what_is_over_stays_over(self) -> None:
        """Check that no ended wait would have to restart."""
        for window in self.over:
            assert self._waited_for(window) == []

    def teardown(self) -> None:
        """Check that all calls end or are abandoned, and that all waits end."""
        if not hasattr(self, "world"):
            return
        self.now = max(self.now, NEIGHBOUR.end + VISIBILITY_DELAY)
        if self.max_age is None:
            for id_ in self.created.keys() - self.ended:
                self._end(id_)
        self.now += MAX_AGE + timedelta(seconds=3)
        self.now += REPLICA_LAG
        met: set[IntervalCondition] = set()
        for _ in range(2):
            found = self._poll()
            self._judge(found)
            met |= {window for window, result in found.items() if result == MET}
        assert met == {self.window, self.neighbour}
        for window in found:
            abandoned = {row.id for row in run(window.find_abandoned(self._polling()))}
            truth = {id_ for id_, at in self.created.items() if id_ not in self.ended and _in(window, at)}
            assert abandoned == truth
        condition = IdsCondition(tuple(self.created), self.max_age, VISIBILITY_DELAY, self.now - MAX_AGE)
        result = self._check(condition)
        assert result.state == "ended"
        assert {row.id for row in result.abandoned} == self.created.keys() - self.ended

    def _polling(self) -> PollingClient:
        return PollingClient(self.client, ServerClock(lambda: self.now))

    def _poll(self) -> Results:
        windows = [self.window, self.neighbour]
        return run(check_all(self._polling(), windows, self.states))

    def _check(self, condition: Condition, state: str = "unchecked") -> Result:
        results = run(check_all(self._polling(), [condition], {condition: state}))
        result = results[condition]
        assert isinstance(result, Result), result
        return result

    def _judge(self, found: Results) -> None:
        for window, result in found.items():
            if isinstance(result, Result):
                self.states[window] = result.state
                if result.state == "ended":
                    assert self.now >= window.readable_at
                    assert self._waited_for(window) == []
                    self.over.add(window)

    def _waited_for(self, window: IntervalCondition) -> list[str]:
        """Return the conversations of the interval that have not ended and are below the maximum age."""
        young = DAY if self.max_age is None else self.now - self.max_age
        return [
            id_
            for id_, at in self.created.items()
            if _in(window, at) and at >= young and id_ not in self.ended
        ]

    def _start(self, id_: str) -> None:
        if id_ in self.created.keys() - self.ended:
            conversation = self.world.conversation(id_, now=self.now)
            if conversation is not None and conversation["status"] == "queued":
                change(self.world, id_, started=self.now)

    def _end(self, id_: str) -> None:
        if id_ not in self.ended:
            end(self.world, id_, self.now)
            self.ended.add(id_)


def _in(window: IntervalCondition, created: datetime) -> bool:
    return window.interval.start <= created < window.interval.end


Lifecycles.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestLifecycles = Lifecycles.TestCase
