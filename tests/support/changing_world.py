"""Worlds that change while they are read: what is in them, what happens before each request, and what is true.

A schedule says what happens before the nth list request is handled, so that anything may happen between any two
requests, also between those of one pass over the pages of a window.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from voiceos_provider.client import ClientConfig, VoiceOSClient
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.emulator.server_model import ORDERS, ServerModel
from voiceos_provider.interval import TICK, Interval

WINDOW = Interval(datetime(2026, 11, 1, 9, tzinfo=UTC), datetime(2026, 11, 1, 9, 20, tzinfo=UTC))
"""Short, so that those created in it still start, end and get their prices while it is read."""

READABLE = WINDOW.end + timedelta(seconds=30)
_VISIBILITY_DELAY = READABLE - WINDOW.end
_WIDTH = (WINDOW.end - WINDOW.start) // TICK
GRAINS = {
    "microseconds": TICK,
    "milliseconds": timedelta(milliseconds=1),
    "three_hundredths": timedelta(microseconds=3_334),
    "hundredths": timedelta(milliseconds=10),
    "tenths": timedelta(milliseconds=100),
    "seconds": timedelta(seconds=1),
}
_PRECISIONS = tuple(GRAINS)
_ROUNDINGS = ("floor", "round", "ceil")


@dataclass(frozen=True)
class Setting:
    """A world, its server, and what happens while it is read.

    :param created: creation times, in microseconds after the start of the window
    :param model: the server
    :param workers: how many requests are in flight at a time
    :param step: seconds that pass before each request is handled
    :param deletions: before which request something is deleted; which of those that are left
    :param soft: whether what is deleted can still be read by its id
    :param insertions: before which requests something is created, outside the window: at the time it is
    """

    created: tuple[int, ...]
    model: ServerModel
    page_size: int
    workers: int
    step: float = 0.0
    deletions: dict[int, int] = field(default_factory=dict)
    soft: bool = False
    insertions: frozenset[int] = frozenset()

    @property
    def is_static(self) -> bool:
        """Whether the listings of the window stay the same while it is read, order included."""
        return (
            not self.deletions
            and not self.step
            and self.model.order != "shuffled"
            and not self.model.replica_lag
        )


@dataclass
class ChangingWorld:
    """A running world with a setting."""

    setting: Setting
    deleted: set[str] = field(default_factory=set)
    requests: int = 0

    def __post_init__(self) -> None:
        self.now = READABLE
        self._moving = threading.Lock()
        self.world = World(
            seed=7,
            start=WINDOW.start - timedelta(minutes=10),
            end=WINDOW.end + timedelta(minutes=10),
            created=[WINDOW.start + at * TICK for at in self.setting.created],
        )
        model = {name: getattr(self.setting.model, name) for name in ServerModel.__slots__}
        self.emulator = Emulator(self.world, clock=lambda: self.now, keep_requests=False, **model)
        self.emulator.before_list = self._move
        self.before = {
            id_ for id_ in self.world.ids() if WINDOW.start <= self.emulator.stored_at(id_) < WINDOW.end
        }
        self.ended_before = set(self.world.ids(status="ended", now=self.now)) & self.before

    def _move(self, nth: int) -> None:
        with self._moving:
            self.requests += 1
            self.now += timedelta(seconds=self.setting.step)
            if nth in self.setting.deletions:
                left = self.world.ids()
                if left:
                    victim = left[self.setting.deletions[nth] % len(left)]
                    self.world.delete(victim, soft=self.setting.soft)
                    self.deleted.add(victim)
            if nth in self.setting.insertions:
                self.world.insert(created_at=self.now)

    @property
    def throughout(self) -> set[str]:
        """Those that existed in the window from before the first request until now, by the times the server stores."""
        return self.before - self.deleted

    @property
    def required(self) -> set[str]:
        """Those of them that no other interval has: see the lemma on edges in docs/exact-reading.md."""
        if not self.rounds_up or not self.setting.model.before_inclusive:
            return self.throughout
        return {id_ for id_ in self.throughout if self.emulator.stored_at(id_) > WINDOW.start}

    @property
    def rounds_up(self) -> bool:
        """Whether a bound just before the start of the window may be rounded up to it."""
        model = self.setting.model
        return model.bound_precision != "microseconds" and "floor" not in (
            model.after_rounding,
            model.before_rounding,
        )

    def may_be_listed(self, id_: str) -> bool:
        """Whether it was created in the window, or on its edge: within the server's precision of it."""
        model = self.setting.model
        grain = max(GRAINS[model.bound_precision], GRAINS[model.stored_precision])
        return WINDOW.start - grain <= self.emulator.stored_at(id_) <= WINDOW.end + grain

    def client(self, **options: Any) -> VoiceOSClient:
        """Return a client that does not wait."""
        config = ClientConfig(
            token=self.emulator.token, base_url="http://emulator", page_size=self.setting.page_size
        )
        return VoiceOSClient(config, transport=self.emulator.transport(), sleep=lambda _: None, **options)


def _clusters(rng: Any, most: int) -> Iterator[int]:
    """Yield creation times as they come: one by one, in bursts, all in one instant, and on the edges."""
    left = rng.randint(0, most)
    while left > 0:
        size = min(left, rng.choice([1, 1, 2, 5, 12, 40, most]))
        left -= size
        where = rng.choice(
            [-1, 0, 1, _WIDTH - 1, _WIDTH, _WIDTH + 1, *(rng.randrange(_WIDTH) for _ in range(8))]
        )
        spread = rng.choice(
            [0, 0, 1, 3, 50, 2_000, 20_000, 200_000, 10**6, 3 * 10**6, 6 * 10**7, _WIDTH // 2]
        )
        yield from (where + (rng.randint(0, spread) if spread else 0) for _ in range(size))


@st.composite
def server_models(draw: st.DrawFn) -> ServerModel:
    """Draw a server of the stated model: see docs/exact-reading.md."""
    rounding = draw(st.sampled_from(_ROUNDINGS))
    return ServerModel(
        order=draw(st.sampled_from(ORDERS)),
        stored_precision=draw(st.sampled_from(_PRECISIONS)),
        stored_rounding=draw(st.sampled_from(_ROUNDINGS)),
        bound_precision=draw(st.sampled_from(_PRECISIONS)),
        after_rounding=rounding,
        before_rounding=rounding,
        after_inclusive=draw(st.booleans()),
        before_inclusive=draw(st.booleans()),
        visible_after=draw(st.sampled_from([timedelta(0), _VISIBILITY_DELAY / 2, _VISIBILITY_DELAY])),
        max_limit=draw(st.none() | st.integers(1, 20)),
        has_more=draw(
            st.sampled_from(
                ["correct", "missing", "requested_limit", "applied_limit", "total", "stale_total"]
            )
        ),
        empty_page_has_more=draw(st.sampled_from([False, False, False, True])),
        empty_items=draw(st.sampled_from(["array", "null"])),
    )


@st.composite
def settings(draw: st.DrawFn, *, moving: bool = True) -> Setting:
    """Draw any setting."""
    model = draw(server_models())
    page_size = draw(st.integers(1, 20))
    rng = draw(st.randoms(use_true_random=False))
    # Few pages' worth, so that many worlds can be read; the width of a page does not matter to what can go wrong.
    created = tuple(
        sorted(_clusters(rng, model.page_size(page_size, total=0) * draw(st.sampled_from([1, 3, 6]))))
    )
    changes = draw(st.sampled_from([0, 1, 3, 12])) if moving else 0
    return Setting(
        created=created,
        model=model,
        page_size=page_size,
        workers=draw(st.integers(1, 4)),
        step=draw(st.sampled_from([0.0, 0.5, 5.0, 60.0])) if moving else 0.0,
        deletions={rng.randint(1, 30): rng.randrange(10**6) for _ in range(changes)},
        soft=draw(st.booleans()),
        insertions=frozenset(rng.randint(1, 30) for _ in range(changes // 3)),
    )
