"""Keys of conversations that were listed before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.client import paging
from voiceos_provider.client.paging import SeenKeys

KEYS = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5)


@given(st.lists(st.lists(KEYS, max_size=12), max_size=40), st.integers(1, 8), st.integers(1, 64))
def test_first_position_of_a_key_is_remembered(pages: list[list[int]], recent: int, longest: int) -> None:
    """A dictionary gives the same result."""
    seen, first = SeenKeys(recent=recent), dict[int, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "_LONGEST_RUN", longest)
        for place, keys in enumerate(pages):
            expected = {at: first[key] for at, key in enumerate(keys) if key in first}
            assert seen.find(keys) == expected
            assert seen.add(keys, place) == expected
            first |= {key: first.get(key, place) for key in keys}
    assert seen.find([*first]) == dict(enumerate(first.values()))
    assert not seen.find([next(key for key in range(-1, -1_000, -1) if key not in first)])


def test_a_key_takes_twelve_bytes_beside_a_bitmap_of_four_megabytes() -> None:
    """Runs double in length, so few exist and no key is held twice."""
    seen = SeenKeys(recent=1_000)
    for start in range(0, 200_000, 1_000):
        assert not seen.add(range(start, start + 1_000))
    assert sum(part.nbytes for run in seen._runs for part in run) == 12 * 200_000
    assert seen._bitmap.nbytes == 2**22
    assert len(seen._runs) <= 8
