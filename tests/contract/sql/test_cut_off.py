"""Loads whose connection is cut at any moment, on every engine that is a separate process."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.databases import Engine
from tests.support.exporting import NOW, export_pages
from tests.support.run_load import database_state, notifying, readings
from voiceos_provider.client.pages import RawPage
from voiceos_provider.load.sql.dialect import STAMP
from voiceos_provider.transform import TABLES

if TYPE_CHECKING:
    from conftest import ProxiedEngine

    from tests.support.tcp_proxy import TcpProxy

LOCKING = ("postgres", "mariadb")

CUTS = {"postgres": 6, "mariadb": 6, "databricks": 2}
"""Number of loads to cut, 1 for other engines; the environment variable `CUTS` sets another number."""


def load(engine: Engine, pages: Iterable[RawPage], at: datetime, notify: Callable[[], None]) -> list[float]:
    """Load, and report each step of the publication; return the durations of the waits between attempts."""
    waits: list[float] = []
    publishing = threading.Event()

    def last() -> Iterator[RawPage]:
        yield from pages
        publishing.set()

    dialect = notifying(
        engine.dialect_for(f"{at:{STAMP}}"), lambda: notify() if publishing.is_set() else None
    )
    target = engine.destination(
        disposition="replace", use_dialect=dialect, sleep=waits.append, lock_timeout=20
    )
    export_pages(last(), Path(), exported_at=at, target=target, tables=TABLES)
    return waits


@dataclass
class Cut:
    """A callback that cuts the connections once, some seconds after a step has begun.

    :param step: which one, counted from 0
    """

    proxy: TcpProxy
    step: int
    delay: float

    def __call__(self) -> None:
        self.step -= 1
        if self.step == -1:
            threading.Timer(self.delay, self.proxy.cut).start()


def test_cut_off_at_any_moment_a_load_restarts_and_completes(
    proxied: ProxiedEngine,
) -> None:
    """The task needs no retry: no row is lost or duplicated, and no staging table remains."""
    engine, undisturbed = proxied.engine, proxied.undisturbed
    rng, cuts = random.Random(20261122), int(os.environ.get("CUTS", CUTS.get(proxied.name, 1)))
    pages = readings(200)
    steps: list[int] = []
    complete: dict[str, Any] = {}
    for hours, (reading, said) in enumerate(pages.items()):
        steps.clear()
        load(engine, said, NOW + timedelta(hours=hours), lambda: steps.append(1))
        complete[reading] = database_state(undisturbed)
    waits = []
    for number in range(cuts):
        reading = ("first", "second")[number % 2]
        cut = Cut(proxied.proxy, int((number + rng.random()) * len(steps) / cuts), rng.uniform(0, 0.02))
        at = NOW + timedelta(hours=10 + number)
        waits += load(engine, pages[reading], at, cut)
        assert database_state(undisturbed) == complete[reading] | {"readings": {at}}, number
    assert waits or proxied.name in ("bigquery", "databricks")  # clients of these may reconnect by themselves


def test_vanished_worker_releases_its_lock(proxied: ProxiedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gets no notice that the machine is gone, and ends its session."""
    if proxied.name not in LOCKING:
        assert not proxied.engine.fresh_dialect.capabilities.has_load_lock
        return
    engine, pages = proxied.undisturbed, readings(200)
    load(engine, pages["first"], NOW, list)
    gone = engine.fresh_dialect
    monkeypatch.setattr(type(gone), "capabilities", replace(gone.capabilities, idle_timeout=1))
    gone.open(engine.connect())
    gone.begin()
    gone.lock()
    load(engine, pages["second"], NOW + timedelta(hours=1), list)
    assert database_state(engine)["readings"] == {NOW + timedelta(hours=1)}
    with pytest.raises(Exception, match=r"(?i)gone|timeout|terminat"):
        gone.rows("SELECT 1")
    with suppress(Exception):
        gone.close()
