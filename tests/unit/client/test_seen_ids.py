"""Set of hashes of ids."""

from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.client.seen_ids import Seen

HASHES = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5), max_size=50)


@given(st.lists(HASHES, max_size=30))
def test_it_counts_like_a_set(batches: list[list[int]]) -> None:
    """After any sequence of batches, as many were new as a Python set says."""
    seen, model = Seen(), set[int]()
    for batch in batches:
        assert seen.add(iter(batch)) == len(set(batch) - model)
        model |= set(batch)


def test_a_million_cost_eight_megabytes() -> None:
    """Runs double in length, so there are few of them and nothing is held twice."""
    seen = Seen()
    for start in range(0, 200_000, 1_000):
        assert seen.add(range(start, start + 1_000)) == 1_000
    assert sum(run.nbytes for run in seen._runs) == 8 * 200_000
    assert len(seen._runs) <= 8
