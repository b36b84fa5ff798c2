"""Command line of the emulator."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from voiceos_provider.emulator.emulator import Emulator
from voiceos_provider.emulator.faults import ARGUMENTS, Fault, parse_fault
from voiceos_provider.emulator.server_model import ORDERS, ServerModel, ServerOptions, parse_option
from voiceos_provider.emulator.world import World

_PROGRAM = "python -m voiceos_provider.emulator"


def main(arguments: Sequence[str] | None = None, *, prog: str = _PROGRAM) -> int:
    """Serve until interrupted or terminated.

    :param arguments: command line; that of the process by default
    :param prog: name of the command in its help
    """
    options = _parser(prog).parse_args(arguments)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = midnight + timedelta(days=1)
    world = World(
        seed=options.seed,
        conversations=options.conversations,
        start=end - timedelta(days=options.days),
        end=end,
    )
    emulator = Emulator(
        world,
        token=options.token,
        latency=options.latency / 1000,
        seed=options.seed,
        gzip=options.gzip,
        requests_per_second=options.requests_per_second,
        # A list of all requests would grow without limit.
        keep_requests=False,
        **cast(
            "ServerOptions", {"order": options.order, "max_limit": options.max_limit, **dict(options.server)}
        ),
    )
    for fault, probability in options.fault:
        emulator.faults.add(fault, probability=probability)

    stopping = threading.Event()
    try:
        with (
            emulator.serve(host=options.host, port=options.port) as url,
            _on_signals(stopping.set, signal.SIGINT, signal.SIGTERM),
        ):
            print(_instructions(url, emulator), flush=True)
            stopping.wait()
    except OSError as error:
        print(f"Cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _on_signals(act: Callable[[], None], *signals: signal.Signals) -> Iterator[None]:
    before = [(number, signal.signal(number, lambda *_: act())) for number in signals]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _instructions(url: str, emulator: Emulator) -> str:
    world = emulator.world
    window = f"{world.start:%Y-%m-%d} to {world.end:%Y-%m-%d} (UTC)"
    connection = json.dumps({"conn_type": "voiceos", "host": url, "password": emulator.token})
    return f"""\
VoiceOS emulator: {len(world):,} conversations, created {window}, seed {world.seed}
  URL    {url}
  Token  {emulator.token}

  export AIRFLOW_CONN_VOICEOS_DEFAULT='{connection}'
  export VOICEOS_BASE_URL='{url}' VOICEOS_TOKEN='{emulator.token}'
  curl -H 'Authorization: Bearer {emulator.token}' '{url}/conversations?status=ended&limit=2'

Press Ctrl-C to stop."""


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve the VoiceOS conversations API on this machine, with synthetic conversations: "
        "the same ones for the same seed and day.",
        epilog="Faults: "
        + ", ".join(name if reads is None else f"{name}[:ARG]" for name, reads in ARGUMENTS.items())
        + ". For example: --fault rate_limit:2@0.05 --fault server_error:503@0.01. Server options: "
        + ", ".join(field.name for field in fields(ServerModel))
        + ". For example: --server stored_precision=seconds --server replica_lag=30 (durations in seconds).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8321, help="0 for any free port (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=7, help="seed of the conversations (default: %(default)s)"
    )
    parser.add_argument(
        "--conversations",
        type=int,
        default=2_000,
        metavar="N",
        help="number of conversations (default: %(default)s)",
    )
    parser.add_argument(
        "--days", type=_positive, default=7, metavar="N",
        help="number of days in which they are created, including today (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--token", default="emulator-token", help="accepted API token (default: %(default)s)")
    parser.add_argument(
        "--max-limit",
        type=_positive,
        metavar="N",
        help="largest page; larger ones are clamped silently (default: no clamp)",
    )
    parser.add_argument(
        "--latency",
        type=float,
        default=0.0,
        metavar="MS",
        help="milliseconds before every response (default: none)",
    )
    parser.add_argument(
        "--requests-per-second",
        type=_rate,
        metavar="N",
        help="rate beyond which the response is 429 (default: no limit)",
    )
    parser.add_argument(
        "--order", choices=ORDERS, default="created_desc", help="order of a listing (default: %(default)s)"
    )
    parser.add_argument("--gzip", action="store_true", help="compress for clients that accept it")
    parser.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar="NAME[:ARG]@PROBABILITY",
        help="fault of list requests and its probability; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--server", type=_server_option, action="append", default=[], metavar="NAME=VALUE",
        help="server behavior that the API contract leaves open; repeatable",
    )  # fmt: skip
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def _server_option(text: str) -> tuple[str, Any]:
    try:
        return parse_option(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _fault(text: str) -> tuple[Fault, float]:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
