"""Worlds that move while they are read: what is in them, what happens before each request, and what is true.

A schedule says what happens before the nth list request is answered, so that anything may happen between any two
requests, also between those of one pass over the pages of an instant.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.emulator.server_model import ORDERS, Order
from voiceos_provider.interval import TICK, Interval

WINDOW = Interval(datetime(2026, 11, 1, 9, tzinfo=UTC), datetime(2026, 11, 1, 9, 20, tzinfo=UTC))
"""Short, so that those created in it still start, end and get their prices while it is read."""

SETTLED = WINDOW.end + timedelta(seconds=30)
_LONGEST_DELAY = SETTLED - WINDOW.end
_WIDTH = (WINDOW.end - WINDOW.start) // TICK


@dataclass(frozen=True)
class Setting:
    """A world, how its server reads what the API leaves open, and what happens while it is read.

    :param created: creation times, in ticks after the start of the window
    :param step: seconds that pass before each request is answered
    :param deletions: before which request something is deleted; which of those that are left
    :param insertions: before which requests something is created, outside the window: at the time it is
    """

    created: tuple[int, ...]
    order: Order
    after_inclusive: bool
    before_inclusive: bool
    visible_after: timedelta
    max_limit: int | None
    page_size: int
    readers: int
    step: float
    deletions: dict[int, int]
    insertions: frozenset[int]

    @property
    def largest_page(self) -> int:
        """What the server gives at once."""
        return min(self.page_size, self.max_limit or self.page_size)

    @property
    def fullest_tick(self) -> int:
        """The most conversations that a request for a single tick can list, with its neighbours where bounds count."""
        around = (-1 if self.after_inclusive else 0, 1 if self.before_inclusive else 0)
        return max(
            (
                sum(at + around[0] <= other <= at + around[1] for other in self.created)
                for center in set(self.created)
                for at in (center - 1, center, center + 1)
            ),
            default=0,
        )


@dataclass
class Moving:
    """A setting come alive."""

    setting: Setting
    deleted: set[str] = field(default_factory=set)
    requests: int = 0

    def __post_init__(self) -> None:
        self.now = SETTLED
        self._moving = threading.Lock()
        self.world = World(
            seed=7,
            start=WINDOW.start - timedelta(minutes=10),
            end=WINDOW.end + timedelta(minutes=10),
            created=[WINDOW.start + at * TICK for at in self.setting.created],
        )
        self.before = set(self.world.ids(created_after=WINDOW.start, created_before=WINDOW.end))
        self.ended_before = set(
            self.world.ids(
                created_after=WINDOW.start, created_before=WINDOW.end, status="ended", now=self.now
            )
        )
        self.emulator = Emulator(
            self.world,
            clock=lambda: self.now,
            order=self.setting.order,
            after_inclusive=self.setting.after_inclusive,
            before_inclusive=self.setting.before_inclusive,
            visible_after=self.setting.visible_after,
            max_limit=self.setting.max_limit,
            keep_requests=False,
        )
        self.emulator.before_list = self._move

    def _move(self, nth: int) -> None:
        with self._moving:
            self.requests += 1
            self.now += timedelta(seconds=self.setting.step)
            if nth in self.setting.deletions:
                left = self.world.ids()
                if left:
                    victim = left[self.setting.deletions[nth] % len(left)]
                    self.world.delete(victim)
                    self.deleted.add(victim)
            if nth in self.setting.insertions:
                self.world.insert(created_at=self.now)

    @property
    def throughout(self) -> set[str]:
        """Those that existed in the window from before the first request until now."""
        return self.before - self.deleted

    def may_be_listed(self, id_: str) -> bool:
        """Whether it was created in the window, or on its edge, which either reading of a bound may include."""
        return WINDOW.start - TICK <= self.world.created_at(id_) <= WINDOW.end

    def client(self, **options: Any) -> VoiceOSClient:
        """A client that does not wait."""
        settings = ClientConfig(
            token=self.emulator.token, base_url="http://emulator", page_size=self.setting.page_size
        )
        return VoiceOSClient(settings, transport=self.emulator.transport(), sleep=lambda _: None, **options)


def _clusters(rng: Any, most: int) -> Iterator[int]:
    """Creation times as they come: one by one, in bursts, all in one instant, and on the edges."""
    left = rng.randint(0, most)
    while left > 0:
        size = min(left, rng.choice([1, 1, 2, 5, 12, 40, most]))
        left -= size
        where = rng.choice(
            [-1, 0, 1, _WIDTH - 1, _WIDTH, _WIDTH + 1, *(rng.randrange(_WIDTH) for _ in range(8))]
        )
        spread = rng.choice([0, 0, 1, 3, 50, 10**6, 6 * 10**7, _WIDTH // 2])
        yield from (where + (rng.randint(0, spread) if spread else 0) for _ in range(size))


@st.composite
def settings_that_move(draw: st.DrawFn) -> Setting:
    """Any setting."""
    page_size = draw(st.integers(1, 20))
    max_limit = draw(st.none() | st.integers(1, 20))
    largest = min(page_size, max_limit or page_size)
    rng = draw(st.randoms(use_true_random=False))
    # Few pages' worth, so that many worlds can be read; the width of a page does not matter to what can go wrong.
    created = tuple(sorted(_clusters(rng, largest * draw(st.sampled_from([1, 3, 6])))))
    restless = draw(st.sampled_from([0, 1, 3, 12]))
    return Setting(
        created=created,
        order=draw(st.sampled_from(ORDERS)),
        after_inclusive=draw(st.booleans()),
        before_inclusive=draw(st.booleans()),
        visible_after=draw(st.sampled_from([timedelta(0), _LONGEST_DELAY / 2, _LONGEST_DELAY])),
        max_limit=max_limit,
        page_size=page_size,
        readers=draw(st.integers(1, 4)),
        step=draw(st.sampled_from([0.0, 0.5, 5.0, 60.0])),
        deletions={rng.randint(1, 30): rng.randrange(10**6) for _ in range(restless)},
        insertions=frozenset(rng.randint(1, 30) for _ in range(restless // 3)),
    )
