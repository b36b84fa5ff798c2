"""Requests per export as a multiple of conversations / page size: `python -m benchmarks.window_cost`.

Prints the table in docs/exact-reading.md. Counts requests and measures no time.
"""

from typing import Any

from tests.support.window_cost import DAYS, cost

COUNTS = (1_000, 10_000, 100_000)
SERVERS: dict[str, dict[str, Any]] = {
    "1 worker": {"workers": 1},
    "4 workers": {},
    "page 10": {"page_size": 10},
    "clamp 50": {"clamp": 50},
}


def main() -> None:
    """Print the table in Markdown."""
    print("| day | conversations | " + " | ".join(SERVERS) + " |")
    print("|---|---:|" + "---:|" * len(SERVERS))
    for kind in DAYS:
        for count in COUNTS:
            cells = [f"{cost(kind, count, **options):.1f}" for options in SERVERS.values()]
            print(f"| {kind} | {count:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
