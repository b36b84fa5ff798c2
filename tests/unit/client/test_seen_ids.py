"""Has this been seen before?"""

from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.client.seen_ids import Seen, Sightings

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


@given(st.lists(HASHES, max_size=30), st.sampled_from([1, 4, 1_000]))
def test_sightings_remember_every_place(batches: list[list[int]], last: int) -> None:
    """Whoever was seen elsewhere before is told, with one of the places; and never where it is seen now."""
    sightings, places = Sightings(last=last), dict[int, set[int]]()
    for number, batch in enumerate(batches):
        place = number // 2  # a place may be looked at twice
        again = sightings.add(iter(batch), place)
        told = {at for at, _ in again}
        for at, key in enumerate(batch):
            elsewhere = places.get(key, set()) - {place}
            assert (at in told) == bool(elsewhere)
        assert all(other in places[batch[at]] and other != place for at, other in again)
        for key in batch:
            places.setdefault(key, set()).add(place)


def test_a_million_sightings_cost_sixteen_megabytes() -> None:
    """Eight for what, eight for where."""
    sightings = Sightings()
    for place, start in enumerate(range(0, 200_000, 1_000)):
        assert sightings.add(range(start, start + 1_000), place) == []
    put_away = sum(array.nbytes for run in sightings._runs for array in run)
    assert put_away + 16 * len(sightings._last) == 16 * 200_000
    assert len(sightings._last) < 4_096
    assert len(sightings._runs) <= 8
