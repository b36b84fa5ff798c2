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
from voiceos_provider.extract.windows import HUNDREDTH, MILLISECOND, SECOND, TENTH


def probe(client: VoiceOSClient) -> BoundsProbe:
    """Return the probe of a reader."""

    def fetch(listing: Listing, index: int) -> RawPage:
        return client.send(listing.page(index), parse_page)

    return BoundsProbe(fetch, PageSizes(20), max_pages=1_000)


FINEST = {"seconds": SECOND, "tenths": TENTH, "hundredths": HUNDREDTH, "three_hundredths": HUNDREDTH}
"""The finest unit that is a multiple of the precision; a millisecond if there is none here."""


def finest_unit(prober: BoundsProbe) -> timedelta:
    """Return the finest unit that a probe finds."""
    unit = SECOND
    while finer := prober.finer_unit(unit, NOON, overflows=True):
        unit = finer
    return unit


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("rounding", ["floor", "round", "ceil"])
@pytest.mark.parametrize("inclusive", [True, False])
def test_unit_is_never_finer_than_what_the_server_distinguishes(
    precision: Precision, rounding: Literal["floor", "round", "ceil"], *, inclusive: bool
) -> None:
    """Conversations are spread over the time. If bounds are included, no range may be empty, and nothing is proven."""
    times = [NOON + timedelta(milliseconds=at) for at in range(-900, 1_900, 7)]
    times += [NOON + timedelta(microseconds=at) for at in range(-30_000, 30_000, 310)]
    emulator = created(
        times,
        stored_precision=precision,
        bound_precision=precision,
        after_rounding=rounding,
        before_rounding=rounding,
        after_inclusive=inclusive,
        before_inclusive=inclusive,
    )
    with connected(emulator) as client:
        found, finest = finest_unit(probe(client)), FINEST.get(precision, MILLISECOND)
    assert found >= finest if inclusive else found == finest


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
        assert finest_unit(probe(client)) == SECOND


def test_conversations_of_one_instant_leave_the_precision_open() -> None:
    """After three such seconds the server counts as comparing seconds, and gets no more probes."""
    emulator = created([NOON] * 30)
    with connected(emulator) as client:
        prober = probe(client)
        for _ in range(5):
            assert prober.finer_unit(SECOND, NOON, overflows=True) is None
        assert not prober.may_be_finer(SECOND)
    assert len(emulator.requests) == 12


def test_probes_of_empty_seconds_decide_nothing() -> None:
    """A window that does not overflow may begin where nothing was created. It gets three probes, too."""
    dense = [NOON + timedelta(milliseconds=at) for at in range(0, 1_000, 7)]
    emulator = created(dense)
    with connected(emulator) as client:
        prober = probe(client)
        for second in range(1, 6):
            assert prober.finer_unit(SECOND, NOON + second * SECOND, overflows=False) is None
        assert len(emulator.requests) == 12
        assert prober.may_be_finer(SECOND)
        assert prober.finer_unit(SECOND, NOON, overflows=True) == TENTH
