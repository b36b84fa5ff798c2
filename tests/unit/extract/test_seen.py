"""Index of conversations already read."""

from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.extract.seen import SeenIndex

KEYS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.lists(st.one_of(KEYS, st.integers(0, 9)), max_size=12), max_size=40), st.integers(1, 8))
def test_the_first_place_of_a_key_is_remembered(pages: list[list[int]], recent: int) -> None:
    """As a dictionary would, however few keys are held in the small one."""
    index, first = SeenIndex(recent=recent), dict[int, int]()
    for place, keys in enumerate(pages):
        expected = {at: first[key] for at, key in enumerate(keys) if key in first}
        assert index.add(keys, place) == expected
        first |= {key: first.get(key, place) for key in keys}
    assert all(index.contains(key) for key in first)
    assert not index.contains(next(key for key in range(-1, -1_000, -1) if key not in first))
