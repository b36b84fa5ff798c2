"""Requests per export as a multiple of conversations / page size: `python -m benchmarks.request_count`."""

from tests.support.slicing import ORDERS, cost

WORKERS = (1, 4, 16)


def main() -> None:
    """Print the table in Markdown."""
    print("| conversations in a day | order | " + " | ".join(f"{n} workers" for n in WORKERS) + " |")
    print("|---:|---|" + "---:|" * len(WORKERS))
    for campaigns in (True, False):
        for conversations in (1_000, 10_000, 100_000, 1_000_000):
            for order in ORDERS:
                cells = [cost(conversations, order=order, workers=n, campaigns=campaigns) for n in WORKERS]
                name = f"{conversations:,}" + ("" if campaigns else ", without campaigns")
                print(
                    f"| {name} | {order} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True
                )


if __name__ == "__main__":
    main()
