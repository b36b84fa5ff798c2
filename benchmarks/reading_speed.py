"""Reading speed against a slow server and against a rate-limited one: `python -m benchmarks.reading_speed`.

The server runs in its own process. Each figure is the best of three runs.
"""

import logging
import multiprocessing
import threading
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from voiceos_provider.client import ClientConfig, VoiceOSClient
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.extract.reader import read_windows
from voiceos_provider.interval import Interval

START = datetime(2026, 11, 3, tzinfo=UTC)
DAY = Interval(START, START + timedelta(days=1))
TOKEN = "emulator-token"
RUNS = 3


def serve(conversations: int, options: dict[str, Any], parent: Connection) -> None:
    """Serve until stopped, then send the numbers of answered and refused requests."""
    world = World(seed=7, conversations=conversations, start=DAY.start, end=DAY.end)
    emulator = Emulator(world, token=TOKEN, clock=lambda: DAY.end + timedelta(days=7), **options)
    with emulator.serve() as url:
        parent.send(url)
        parent.recv()
    statuses = [request.status for request in emulator.requests]
    parent.send((statuses.count(200), statuses.count(429)))


def read(conversations: int, workers: int, options: dict[str, Any]) -> tuple[float, int, int]:
    """Return the seconds a read took, and the numbers of answered and refused requests."""
    parent_end, child_end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(conversations, options, child_end)
    )
    server.start()
    settings = ClientConfig(token=TOKEN, base_url=parent_end.recv(), verify=False)
    began = time.perf_counter()
    with VoiceOSClient(settings) as client:
        ids = {id_ for page in read_windows(client, DAY, max_concurrency=workers) for id_ in page.ids}
    seconds = time.perf_counter() - began
    parent_end.send("stop")
    answered, refused = parent_end.recv()
    server.join()
    assert len(ids) == conversations
    return seconds, answered, refused


def main() -> None:
    """Print the figures as a Markdown table."""
    logging.disable(logging.WARNING)
    assert threading.active_count() == 1
    print("| server | conversations | workers | requests | refused | seconds | at best |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    latency, rate = 0.1, 5.0
    for workers in (1, 4, 16):
        runs = [read(20_000, workers, {"latency": latency}) for _ in range(RUNS)]
        seconds, answered, refused = min(runs)
        ideal = answered / workers * latency
        print(
            f"| {latency * 1000:.0f} ms per response | 20,000 | {workers} | {answered} | {refused} | "
            f"{seconds:.2f} | {ideal:.2f} ({seconds / ideal:.2f}) |",
            flush=True,
        )
    for workers in (1, 4, 16):
        seconds, answered, refused = read(30_000, workers, {"latency": latency, "requests_per_second": rate})
        ideal = (answered - rate) / rate  # the first second's requests are answered immediately
        print(
            f"| {rate:.0f} requests per second | 30,000 | {workers} | {answered} | {refused} | "
            f"{seconds:.1f} | {ideal:.1f} ({seconds / ideal:.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
