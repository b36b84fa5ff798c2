"""Loads into one namespace that wait for one another: logs, durations and limits."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.conversations import conversation
from tests.support.databases import Engine, duckdb_engine
from tests.support.exporting import NOW, export_pages, page
from voiceos_provider.exceptions import VoiceOSDestinationError
from voiceos_provider.load.receipt import ExportReceipt
from voiceos_provider.load.sql import DIALECTS, dialect_named
from voiceos_provider.load.sql.plan import Namespace
from voiceos_provider.transform.schema import CONVERSATIONS

LATER = NOW + timedelta(hours=1)

LOAD_LOCKS = [name for name in DIALECTS if dialect_named(name).capabilities.has_load_lock]
"""The dialects that serialize loads into one namespace with a lock; others detect a conflict."""


def load(engine: Engine, **options: Any) -> ExportReceipt:
    """Load one conversation."""
    at = options.pop("at", NOW)
    target = engine.destination(**options)
    return export_pages([page(conversation("a", status=str(at.hour)))], exported_at=at, target=target)


@contextmanager
def held(take: Callable[[], Callable[[], None]], *, until_waited_for: bool = False) -> Iterator[None]:
    """Hold a lock in another thread until the end, or until a load logs that it waits."""
    taken, end = threading.Event(), threading.Event()

    def hold() -> None:
        release = take()
        taken.set()
        end.wait(60)
        time.sleep(0.3 if until_waited_for else 0)
        release()

    handler = logging.Handler()
    handler.emit = lambda record: end.set() if "Waiting for another" in record.msg else None  # type: ignore[method-assign]
    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(20)
    log = logging.getLogger("voiceos_provider.load.sql")
    if until_waited_for:
        log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        end.set()
        holder.join()


def load_lock(engine: Engine, namespace: Namespace | None = None) -> Callable[[], Callable[[], None]]:
    """Return a context that takes the lock of a load, as another load does."""

    def take() -> Callable[[], None]:
        dialect = engine.fresh_dialect
        dialect.namespace = namespace or engine.namespace
        dialect.open(engine.connect())
        dialect.configure()
        dialect.begin()
        dialect.lock()

        def release() -> None:
            dialect.rollback()
            dialect.unlock()
            dialect.close()

        return release

    return take


def row_lock(engine: Engine) -> Callable[[], Callable[[], None]]:
    """Return a context that locks a row, as a user does."""

    def take() -> Callable[[], None]:
        connection = engine.connect()
        cursor = connection.cursor()
        cursor.execute(
            f"UPDATE {engine.table(CONVERSATIONS)} SET {engine.fresh_dialect.quote('status')} = 'x'"
        )

        def release() -> None:
            connection.rollback()
            connection.close()

        return release

    return take


@pytest.mark.dialects(*LOAD_LOCKS)
def test_wait_for_another_load_is_logged_and_in_the_receipt(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The receipt gives seconds, and 0 without another load."""
    assert load(engine).lock_wait_seconds == 0
    with caplog.at_level(logging.INFO), held(load_lock(engine), until_waited_for=True):
        receipt = load(engine, at=LATER)
    assert 0.2 < receipt.lock_wait_seconds < 10
    assert receipt.as_dict()["lock_wait_seconds"] == receipt.lock_wait_seconds
    assert "Waiting for another load into" in caplog.text


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(load_lock, marks=pytest.mark.dialects(*LOAD_LOCKS)),
        pytest.param(row_lock, marks=pytest.mark.dialects("postgres", "mysql")),
    ],
)
def test_wait_ends_after_lock_timeout(engine: Engine, lock: Any) -> None:
    """The load does not wait again, and the error is retryable."""
    load(engine)
    started = time.monotonic()
    with (
        held(lock(engine)),
        pytest.raises(VoiceOSDestinationError, match="lock_timeout") as refused,
    ):
        load(engine, at=LATER, lock_timeout=2, sleep=time.sleep)
    assert time.monotonic() - started < 8
    assert refused.value.retryable
    assert engine.count(CONVERSATIONS) == 1


@pytest.mark.dialects("postgres")
def test_default_schema_and_its_name_are_one_namespace(engine: Engine) -> None:
    """Two loads into the same tables wait for one another, however they name them."""
    with held(load_lock(engine, Namespace(None, "x_"))), engine.session() as session:
        session.namespace = Namespace("public", "x_")
        assert not session.try_lock()
        session.namespace = Namespace("public", "y_")
        assert session.try_lock()


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"


def duckdb_file(path: Path) -> Callable[[], Callable[[], None]]:
    """Return a context that keeps a file open in another process."""

    def take() -> Callable[[], None]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        return lambda: holder.communicate() and None

    return take


def test_load_waits_for_a_duckdb_file_that_another_process_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """DuckDB itself does not wait; `lock_timeout` limits it."""
    engine = duckdb_engine(tmp_path)
    load(engine)
    file = duckdb_file(tmp_path / "voiceos.duckdb")
    with caplog.at_level(logging.INFO), held(file, until_waited_for=True):
        receipt = load(engine, at=LATER, lock_timeout=60, sleep=time.sleep)
    assert receipt.lock_wait_seconds > 0.2
    started = time.monotonic()
    with held(file), pytest.raises(VoiceOSDestinationError, match="lock_timeout"):
        load(engine, at=LATER, lock_timeout=1, sleep=time.sleep)
    assert time.monotonic() - started < 8
