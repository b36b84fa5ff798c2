"""Print how fast a day is read from a server that takes a while, and from one that takes so many requests a second.

    python dev/reading_speed.py

The server is in a process of its own. Each figure is the best of some runs.
"""

import logging
import multiprocessing
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from voiceos_provider.client import ClientConfig, VoiceOSClient
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.interval import Interval

START = datetime(2026, 11, 3, tzinfo=UTC)
DAY = Interval(START, START + timedelta(days=1))
TOKEN = "emulator-token"
RUNS = 3


def serve(conversations: int, options: dict[str, Any], told: Connection) -> None:
    """Say the address, serve until told to stop, and say how many requests were answered and refused."""
    world = World(seed=7, conversations=conversations, start=DAY.start, end=DAY.end)
    emulator = Emulator(world, token=TOKEN, clock=lambda: DAY.end + timedelta(days=7), **options)
    with emulator.serve() as url:
        told.send(url)
        told.recv()
    statuses = [request.status for request in emulator.requests]
    told.send((statuses.count(200), statuses.count(429)))


def read(conversations: int, readers: int, options: dict[str, Any]) -> tuple[float, int, int]:
    """Seconds, requests answered, requests refused."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(conversations, options, there))
    server.start()
    settings = ClientConfig(token=TOKEN, base_url=here.recv(), verify=False)
    began = time.perf_counter()
    with VoiceOSClient(settings) as client:
        ids = {id_ for page in client.read_windows([DAY], max_concurrency=readers) for id_ in page.ids}
    lasted = time.perf_counter() - began
    here.send("stop")
    answered, refused = here.recv()
    server.join()
    assert len(ids) == conversations
    return lasted, answered, refused


def main() -> None:
    """The figures, in Markdown."""
    logging.disable(logging.WARNING)
    assert threading.active_count() == 1
    print("| server | conversations | readers | requests | refused | seconds | at best |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    latency, rate = 0.1, 5.0
    for readers in (1, 4, 16):
        runs = [read(20_000, readers, {"latency": latency}) for _ in range(RUNS)]
        lasted, answered, refused = min(runs)
        ideal = answered / readers * latency
        print(
            f"| {latency * 1000:.0f} ms an answer | 20,000 | {readers} | {answered} | {refused} | "
            f"{lasted:.2f} | {ideal:.2f} ({lasted / ideal:.2f}) |",
            flush=True,
        )
    for readers in (1, 4, 16):
        lasted, answered, refused = read(30_000, readers, {"latency": latency, "requests_per_second": rate})
        ideal = (answered - rate) / rate  # those of the first second come at once
        print(
            f"| {rate:.0f} requests a second | 30,000 | {readers} | {answered} | {refused} | "
            f"{lasted:.1f} | {ideal:.1f} ({lasted / ideal:.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
