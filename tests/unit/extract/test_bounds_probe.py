"""Probe requests during the reading of an interval."""

from datetime import timedelta
from typing import Literal, get_args

import pytest

from tests.unit.extract.test_reader import NOON, connected, created
from voiceos_provider.client import RawPage, VoiceOSClient
from voiceos_provider.client.pages import PageSizes, parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.emulator.timestamps import Precision
from voiceos_provider.extract.bounds_probe import BoundsProbe
from voiceos_provider.extract.windows import HUNDREDTH, SECOND, TENTH


def probe(client: VoiceOSClient) -> BoundsProbe:
    """Return the probe of a reader."""

    def fetch(listing: Listing, index: int) -> RawPage:
        return client.send(listing.page(index), parse_page)

    return BoundsProbe(fetch, PageSizes(20), max_pages=1_000)


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("rounding", ["floor", "round", "ceil"])
@pytest.mark.parametrize("inclusive", [True, False])
def test_finer_unit_is_one_that_the_server_distinguishes(
    precision: Precision, rounding: Literal["floor", "round", "ceil"], *, inclusive: bool
) -> None:
    """A server that compares whole units never counts as finer. Conversations are spread over each second.

    Where each step holds some, and a server includes its bounds, no range is empty, so that nothing is proven.
    """
    finest = {"seconds": None, "tenths": TENTH}.get(precision, HUNDREDTH)
    if inclusive and precision in ("tenths", "hundredths"):
        finest = None
    emulator = created(
        [NOON + timedelta(milliseconds=at) for at in range(-900, 1_900, 7)],
        stored_precision=precision,
        bound_precision=precision,
        after_rounding=rounding,
        before_rounding=rounding,
        after_inclusive=inclusive,
        before_inclusive=inclusive,
    )
    with connected(emulator) as client:
        prober = probe(client)
        tenth = prober.finer_unit(SECOND, NOON)
        assert (prober.finer_unit(tenth, NOON) or tenth if tenth else None) == finest
        assert prober.finer_unit(HUNDREDTH, NOON) is None


def test_deletion_between_two_probes_proves_nothing() -> None:
    """The narrow range is requested first."""
    emulator = created(
        [NOON] * 30,
        stored_precision="seconds",
        bound_precision="seconds",
        after_inclusive=True,
        before_inclusive=True,
    )
    ids = emulator.world.ids()
    emulator.before_list = lambda nth: [emulator.world.delete(id_) for id_ in ids] if nth == 2 else None
    with connected(emulator) as client:
        assert probe(client).finer_unit(SECOND, NOON) is None


def test_conversations_of_one_instant_leave_the_precision_open() -> None:
    """After three such seconds the server counts as comparing seconds, and gets no more probes."""
    emulator = created([NOON] * 30)
    with connected(emulator) as client:
        prober = probe(client)
        assert [prober.finer_unit(SECOND, NOON) for _ in range(5)] == [None] * 5
        assert not prober.may_be_finer(SECOND)
    assert len(emulator.requests) == 12
