"""Checks of the cookbook's ten questions: their results, compared with what the emulator has served."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from voiceos_provider.client import RawPage
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.interval import TICK, Interval

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LAST_READ = START + 12 * DAY
"""Time of the last exports; no conversation changes afterwards."""

EXPORTS = (
    # The first noon is exported twice: once while some of its calls are open, once when all have ended.
    (Interval(START, START + DAY / 2), START + DAY / 2 + timedelta(seconds=1)),
    (Interval(START, START + DAY), START + DAY + timedelta(hours=12)),
    *((Interval(START + n * DAY, START + (n + 1) * DAY), LAST_READ) for n in range(1, 9)),
)
"""The exported intervals, and when each was exported."""

Row = dict[str, Any]
Ask = Callable[[int], list[Row]]


def nine_days() -> World:
    """Return a world of nine days of conversations."""
    return World(seed=7, conversations=3_000, start=START, end=START + 9 * DAY)


def truth_of(world: World) -> list[Row]:
    """Return every conversation as the API sends it once nothing changes any more."""
    found = [world.conversation(id_, now=LAST_READ) for id_ in world.ids()]
    assert found
    return [conversation for conversation in found if conversation is not None]


def read(world: World, interval: Interval, now: datetime) -> list[RawPage]:
    """Return the pages of an interval, as the API sends them at a time."""
    emulator = Emulator(world, clock=lambda: now)
    settings = ClientConfig(token=emulator.token, base_url="http://emulator")
    with VoiceOSClient(settings, transport=emulator.transport()) as client:
        return list(client.list_raw(created_after=interval.start - TICK, created_before=interval.end))


def started(row: Row) -> datetime | None:
    """Return when a conversation started, as the API sends it."""
    return None if row["started_at"] is None else datetime.fromisoformat(row["started_at"])


def lasted(row: Row) -> float | None:
    """Return the seconds from its start to its end."""
    if row["ended_at"] is None:
        return None
    return (
        datetime.fromisoformat(row["ended_at"]) - datetime.fromisoformat(row["started_at"])
    ).total_seconds()


def total(rows: Iterable[Row]) -> float:
    """Return what conversations cost."""
    return sum((row["cost_breakdown"] or {}).get("total") or 0 for row in rows)


def check_unit_prices(rows: list[Row], truth: list[Row]) -> None:
    """Check that dollars are those of the breakdowns, weekly shares add up to one, and a fixed price is constant."""
    expected: defaultdict[str, float] = defaultdict(float)
    for breakdown in (row["cost_breakdown"] or {} for row in truth):
        for name, part in breakdown.items():
            if name != "total":
                expected[name] += (part or {}).get("cost") or 0
    for name, dollars in expected.items():
        found = sum(float(row["dollars"] or 0) for row in rows if row["component"] == name)
        assert found == pytest.approx(dollars), name
    for week in {row["week"] for row in rows}:
        assert sum(row["share"] or 0 for row in rows if row["week"] == week) == pytest.approx(1)
    agent = [row for row in rows if row["component"] == "agent"]
    assert len(agent) > 1
    assert all(row["drift"] is None or abs(row["drift"]) < 1e-9 for row in agent)
    assert any(row["own_key"] and row["dollars"] is None for row in rows)
    assert all(row["dollars_per_minute"] == pytest.approx(0.03, rel=0.02) for row in agent)


def check_daily_spend(rows: list[Row], truth: list[Row]) -> None:
    """Check that every conversation and every dollar is counted once."""
    assert sum(row["conversations"] for row in rows) == len(truth)
    assert sum(float(row["dollars"] or 0) for row in rows) == pytest.approx(total(truth))
    for account in {row["account_id"] for row in truth}:
        found = sum(float(row["dollars"] or 0) for row in rows if row["account_id"] == account)
        assert found == pytest.approx(total(row for row in truth if row["account_id"] == account))
    assert sum(row["not_priced_yet"] for row in rows) == 0


def check_durations(rows: list[Row], truth: list[Row]) -> None:
    """Check the number of conversations of each type, its shares, and the order of percentiles."""
    assert {row["type"] for row in rows} == {item["type"] for item in truth}
    for row in rows:
        same = [item for item in truth if item["type"] == row["type"]]
        seconds = [(lasted(item), item["agent_config"]["max_duration_seconds"]) for item in same]
        ended = [(duration, limit) for duration, limit in seconds if duration is not None]
        assert row["conversations"] == len(same)
        assert row["connect_rate"] == pytest.approx(
            sum(started(item) is not None for item in same) / len(same)
        )
        assert row["short_share"] == pytest.approx(sum(duration < 10 for duration, _ in ended) / len(ended))
        cut_off = sum(limit is not None and duration >= limit for duration, limit in ended)
        assert row["cut_off_share"] == pytest.approx(cut_off / len(ended), abs=2 / len(ended))
        durations = sorted(duration for duration, _ in ended)
        assert durations[0] < row["p50"] < row["p90"] < row["p99"] <= durations[-1]
        middle = durations[(len(durations) - 1) // 2 : len(durations) // 2 + 1]
        assert row["p50"] == pytest.approx(sum(middle) / len(middle))


def check_endings(rows: list[Row], truth: list[Row]) -> None:
    """Check that the reasons of each day are counted, and that their shares add up to one."""
    expected = Counter(
        (begun.date(), row["ended_reason"]) for row in truth if lasted(row) and (begun := started(row))
    )
    assert {(row["day"], row["ended_reason"]): row["conversations"] for row in rows} == expected
    for day in {row["day"] for row in rows}:
        assert sum(row["share"] for row in rows if row["day"] == day) == pytest.approx(1)


def check_hourly_load(rows: list[Row], truth: list[Row]) -> None:
    """Check that starts are counted in their hour, and the maximum against a count at every start."""
    starts = Counter(
        begun.replace(minute=0, second=0, microsecond=0)
        for row in truth
        if (begun := started(row)) is not None
    )
    assert {row["hour"]: row["started"] for row in rows if row["started"]} == starts
    spans = [
        (begun, begun + timedelta(seconds=lasted(row) or 0))
        for row in truth
        if lasted(row) and (begun := started(row))
    ]
    busiest = max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans)
    assert max(row["most_at_once"] for row in rows) == busiest
    assert all(row["most_at_once"] >= 0 for row in rows)


def check_agent_versions(rows: list[Row], truth: list[Row]) -> None:
    """Check that each version of each agent is a row with the customer's name for it."""
    ended = [row for row in truth if row["status"] == "ended"]
    expected = Counter((row["agent_id"], row["agent_config"]["metadata"]["prompt_version"]) for row in ended)
    assert Counter({(row["agent_id"], row["label"]): row["ended"] for row in rows}) == expected
    assert sum(row["ended"] * float(row["dollars"]) for row in rows) == pytest.approx(total(ended))


def check_talk(rows: list[Row], truth: list[Row]) -> None:
    """Check the number of turns and words of each side."""
    for role in ("agent", "user"):
        said = [
            message["content"]
            for row in truth
            if row["status"] == "ended"
            for message in row["messages"]
            if message["role"] == role
        ]
        found = [row for row in rows if row["role"] == role]
        assert sum(row["turns"] for row in found) == len(said)
        assert sum(row["words"] for row in found) == sum(len(content.split()) for content in said)


def repeat_callers(truth: list[Row]) -> dict[str, int]:
    """Return the numbers that occur in more than one call, with their number of calls."""
    numbers = Counter(
        call["from_number" if row["type"] == "inbound_phone_call" else "to_number"]
        for row in truth
        if (call := row["phone_call"])
    )
    return {number: calls for number, calls in numbers.items() if calls > 1}


def check_repeat_callers(rows: list[Row], truth: list[Row]) -> None:
    """Check that each repeated number is counted."""
    assert {row["person"]: row["calls"] for row in rows} == repeat_callers(truth)


def check_word_search(rows: list[Row], truth: list[Row]) -> None:
    """Check that five conversations with the word are shown completely."""
    transcripts = {row["id"]: [message["content"] for message in row["messages"]] for row in truth}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        found[row["conversation_id"]].append(row["content"])
    assert len(found) == 5
    for id_, said in found.items():
        assert said == transcripts[id_]
        assert "appointment" in " ".join(said).lower()


def check_findings(rows: list[Row], truth: list[Row]) -> None:
    """Check that only calls that never end and rounded totals are found, as nothing else is wrong here."""
    stuck = {row["what"]: row["conversations"] for row in rows if row["finding"] == "stuck"}
    assert stuck == Counter(row["status"] for row in truth if row["status"] != "ended")

    def differs(breakdown: Row) -> bool:
        parts = sum((part or {}).get("cost") or 0 for name, part in breakdown.items() if name != "total")
        return abs(breakdown["total"] - parts) > 0.0001

    odd = [row for row in truth if row["cost_breakdown"] and differs(row["cost_breakdown"])]
    assert odd
    found = {
        row["what"]: row["conversations"] for row in rows if row["finding"] == "the parts are not the total"
    }
    assert found == Counter(row["agent_id"] for row in odd)
    assert {row["finding"] for row in rows} == {"stuck", "the parts are not the total"}


CHECKS: dict[int, Callable[[list[Row], list[Row]], None]] = {
    1: check_unit_prices,
    2: check_daily_spend,
    3: check_durations,
    4: check_endings,
    5: check_hourly_load,
    6: check_agent_versions,
    7: check_talk,
    8: check_repeat_callers,
    9: check_word_search,
    10: check_findings,
}
"""The check of each question, by its number in the cookbook."""
