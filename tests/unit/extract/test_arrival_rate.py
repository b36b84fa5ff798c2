"""How long a stretch of creation time holds about a page?"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.extract.arrival_rate import ArrivalRate, fitting


@given(st.integers(1, 10_000), st.floats(0, 1e6))
def test_what_is_expected_to_fit_leaves_room_for_chance(page_size: int, seen: float) -> None:
    """With so many deviations free, what comes is a page."""
    expected = fitting(page_size, seen)
    assert 0 < expected < page_size
    seen = max(seen, 0.5)
    assert expected + 1.6 * math.sqrt(expected + expected**2 / seen) == pytest.approx(page_size, rel=1e-6)


def test_the_more_is_known_the_fuller_a_page_may_be() -> None:
    """What nobody has seen might be anything."""
    fills = [fitting(100, seen) for seen in (0, 1, 10, 100, 1_000)]
    assert fills == sorted(fills)
    assert fills[0] < 50 < 80 < fills[-1]


def test_pages_of_a_steady_stream_seldom_overflow() -> None:
    """And they are not half empty either."""
    rng = np.random.default_rng(7)
    density = ArrivalRate(100.0, 50.0)
    listed = []
    for _ in range(2_000):
        seconds = density.page(100)
        listed.append(int(rng.poisson(2.0 * seconds)))
        density.learn(seconds, listed[-1])
    assert 75 < np.mean(listed) < 85
    assert np.mean(np.array(listed) > 100) < 0.08


def test_another_rate_is_believed_at_once() -> None:
    """A campaign says nothing of the minutes after it."""
    density = ArrivalRate(250.0, 3_000.0)
    density.learn(10.0, 80)
    assert density.expected(10.0) == pytest.approx(80)


def test_silence_makes_the_next_slice_longer_and_not_endless() -> None:
    """Twice to ten times as long."""
    density = ArrivalRate(100.0, 100.0)
    for _ in range(5):
        seconds = density.page(1)
        density.learn(seconds, 0)
        assert 2 * seconds <= density.page(1) <= 10 * seconds
