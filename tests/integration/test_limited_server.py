"""Exports with several workers against a rate-limited server."""

from datetime import UTC, datetime

import pytest

from voiceos_provider.client import ClientConfig, VoiceOSClient
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.extract.reader import read_windows
from voiceos_provider.interval import Interval

DAY = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))


@pytest.mark.parametrize("workers", [1, 8])
def test_no_request_fails_and_few_are_rejected(workers: int) -> None:
    """The workers together stay near the limit."""
    world = World(seed=7, conversations=2_000, start=DAY.start, end=DAY.end)
    emulator = Emulator(world, clock=lambda: datetime(2026, 11, 22, tzinfo=UTC), requests_per_second=20)
    with emulator.serve() as url:
        config = ClientConfig(token=emulator.token, base_url=url, page_size=50, verify=False)
        with VoiceOSClient(config) as client:
            pages = list(read_windows(client, DAY, max_concurrency=workers))
    assert sorted(id_ for page in pages for id_ in page.ids if id_) == sorted(world.ids())
    statuses = [request.status for request in emulator.requests]
    assert set(statuses) <= {200, 429}
    assert sum(page.requests for page in pages) == statuses.count(200)
    assert statuses.count(429) <= workers + statuses.count(200) // 4


def test_configured_rate_below_the_limit_is_never_rejected() -> None:
    """`requests_per_second` of the connection sets it."""
    world = World(seed=7, conversations=600, start=DAY.start, end=DAY.end)
    emulator = Emulator(world, clock=lambda: datetime(2026, 11, 22, tzinfo=UTC), requests_per_second=20)
    with emulator.serve() as url:
        config = ClientConfig(
            token=emulator.token, base_url=url, page_size=50, verify=False, requests_per_second=18
        )
        with VoiceOSClient(config) as client:
            pages = list(read_windows(client, DAY, max_concurrency=8))
    assert len({id_ for page in pages for id_ in page.ids}) == 600
    assert {request.status for request in emulator.requests} == {200}
