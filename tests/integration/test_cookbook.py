"""The cookbook runs: every query, on an export, and its answers are the emulator's own."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.exporting import export_pages
from voiceos_provider.client import RawPage
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import ClientConfig
from voiceos_provider.client.pages import parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.emulator import Emulator, World
from voiceos_provider.interval import TICK, Interval
from voiceos_provider.transform import Redaction

COOKBOOK = (Path(__file__).parents[2] / "docs" / "cookbook.md").read_text()
VIEWS, *SECTIONS = re.split(r"^## ", COOKBOOK, flags=re.MULTILINE)

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EXPORTS = (
    # The first noon comes twice: once while some of its calls go on, once when all is over.
    (Interval(START, START + DAY / 2), START + DAY / 2 + timedelta(seconds=1)),
    (Interval(START, START + DAY), START + DAY + timedelta(hours=12)),
    *((Interval(START + n * DAY, START + (n + 1) * DAY), START + 12 * DAY) for n in range(1, 9)),
)
KEY = "a key of the tests' own"
Row = dict[str, Any]
Ask = Callable[[int], list[Row]]


def query(text: str) -> str:
    """The one SQL block of a part of the cookbook."""
    (block,) = re.findall(r"^```sql\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture(scope="module")
def world() -> World:
    """Nine days of conversations."""
    return World(seed=7, conversations=3_000, start=START, end=START + 9 * DAY)


@pytest.fixture(scope="module")
def truth(world: World) -> list[Row]:
    """What the exports must say of every conversation: all of them were read when the last had changed."""
    found = []
    for id_ in world.ids():
        conversation = world.conversation(id_, now=START + 12 * DAY)
        assert conversation is not None
        found.append(conversation)
    return found


def exported(world: World, folder: Path, *, redaction: Redaction | None = None) -> Ask:
    """Export the world day by day; returns what asks the nth question of the cookbook."""
    for interval, now in EXPORTS:
        emulator = Emulator(world, clock=lambda now=now: now)
        settings = ClientConfig(token=emulator.token, base_url="http://emulator")
        with VoiceOSClient(settings, transport=emulator.transport()) as client:
            pages = client.list_raw(created_after=interval.start - TICK, created_before=interval.end)
            write(pages, folder, interval, now, redaction)
    return asking(folder)


def write(
    pages: Iterable[RawPage],
    folder: Path,
    interval: Interval,
    now: datetime,
    redaction: Redaction | None = None,
) -> None:
    """Export pages below the folder."""
    export_pages(pages, folder, interval=interval, exported_at=now, redaction=redaction or Redaction())


def asking(folder: Path) -> Ask:
    """What asks the nth question of the exports in a folder."""
    connection = duckdb.connect()
    connection.execute(query(VIEWS).replace("'voiceos/", f"'{folder}/"))

    def ask(number: int) -> list[Row]:
        rows: list[Row] = connection.execute(query(SECTIONS[number - 1])).to_arrow_table().to_pylist()
        assert rows, f"question {number} has no answer"
        return rows

    return ask


@pytest.fixture(scope="module")
def ask(world: World, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Ask of an export that keeps everything."""
    return exported(world, tmp_path_factory.mktemp("exports"))


def started(row: Row) -> datetime | None:
    """When a conversation started, as the API says it."""
    return None if row["started_at"] is None else datetime.fromisoformat(row["started_at"])


def lasted(row: Row) -> float | None:
    """How long it went on."""
    if row["ended_at"] is None:
        return None
    return (
        datetime.fromisoformat(row["ended_at"]) - datetime.fromisoformat(row["started_at"])
    ).total_seconds()


def total(rows: Iterable[Row]) -> float:
    """What conversations cost."""
    return sum((row["cost_breakdown"] or {}).get("total") or 0 for row in rows)


def test_there_are_ten_questions_with_a_query_and_a_note() -> None:
    """Each heading is a numbered question, answered by one query and a note about its limits."""
    for number, section in enumerate(SECTIONS, start=1):
        assert section.startswith(f"{number}. ")
        assert section.partition("\n")[0].endswith("?")
        assert query(section).strip().endswith(";")
        assert "\nNote: " in section
    assert len(SECTIONS) == 10


def test_costs_are_those_of_every_component(ask: Ask, truth: list[Row]) -> None:
    """Dollars by component are the breakdowns', shares of a week make one, and a fixed price does not drift."""
    rows = ask(1)
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


def test_spend_adds_up_by_account_agent_and_day(ask: Ask, truth: list[Row]) -> None:
    """Every conversation is counted once, and every dollar."""
    rows = ask(2)
    assert sum(row["conversations"] for row in rows) == len(truth)
    assert sum(float(row["dollars"] or 0) for row in rows) == pytest.approx(total(truth))
    for account in {row["account_id"] for row in truth}:
        found = sum(float(row["dollars"] or 0) for row in rows if row["account_id"] == account)
        assert found == pytest.approx(total(row for row in truth if row["account_id"] == account))
    assert sum(row["not_priced_yet"] for row in rows) == 0


def test_durations_connects_and_limits(ask: Ask, truth: list[Row]) -> None:
    """Of each type: how many, how many connected, were short, reached their limit; the percentiles are in order."""
    for row in ask(3):
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


def test_endings_of_each_day_are_all_of_them(ask: Ask, truth: list[Row]) -> None:
    """The reasons of a day are counted rightly and their shares make one."""
    rows = ask(4)
    expected = Counter(
        (begun.date(), row["ended_reason"]) for row in truth if lasted(row) and (begun := started(row))
    )
    assert {(row["day"], row["ended_reason"]): row["conversations"] for row in rows} == expected
    for day in {row["day"] for row in rows}:
        assert sum(row["share"] for row in rows if row["day"] == day) == pytest.approx(1)


def test_volume_and_concurrency_of_each_hour(ask: Ask, truth: list[Row]) -> None:
    """Starts are counted in their hour; the most at once is what a count at every start finds."""
    rows = ask(5)
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


def test_versions_are_told_apart_and_named(ask: Ask, truth: list[Row]) -> None:
    """Each version of each agent is a row with the name that the customer gave it."""
    rows = ask(6)
    ended = [row for row in truth if row["status"] == "ended"]
    expected = Counter((row["agent_id"], row["agent_config"]["metadata"]["prompt_version"]) for row in ended)
    assert Counter({(row["agent_id"], row["label"]): row["ended"] for row in rows}) == expected
    assert sum(row["ended"] * float(row["dollars"]) for row in rows) == pytest.approx(total(ended))


def test_turns_and_words_of_each_side(ask: Ask, truth: list[Row]) -> None:
    """What each side has said, by turns and by words."""
    rows = ask(7)
    for role in ("agent", "user"):
        said = [
            message["content"]
            for row in truth
            if row["status"] == "ended"
            for message in row["messages"]
            if message["role"] == role
        ]
        mine = [row for row in rows if row["role"] == role]
        assert sum(row["turns"] for row in mine) == len(said)
        assert sum(row["words"] for row in mine) == sum(len(content.split()) for content in said)


def test_repeat_callers_are_the_same_ones_when_numbers_are_hashed(
    ask: Ask, truth: list[Row], world: World, tmp_path: Path
) -> None:
    """A hash tells as much as the number, but for the number."""
    numbers = Counter(
        call["from_number" if row["type"] == "inbound_phone_call" else "to_number"]
        for row in truth
        if (call := row["phone_call"])
    )
    repeated = {number: calls for number, calls in numbers.items() if calls > 1}
    assert {row["person"]: row["calls"] for row in ask(8)} == repeated
    hashed = exported(world, tmp_path, redaction=Redaction(phone_numbers="hash", hash_key=KEY))(8)
    assert sorted(row["calls"] for row in hashed) == sorted(repeated.values())
    assert not {row["person"] for row in hashed} & set(numbers)
    assert len({row["phone_key_id"] for row in hashed}) == 1


def test_a_search_shows_whole_transcripts(ask: Ask, truth: list[Row]) -> None:
    """Five conversations in which it was said, from the first word to the last."""
    transcripts = {row["id"]: [message["content"] for message in row["messages"]] for row in truth}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in ask(9):
        found[row["conversation_id"]].append(row["content"])
    assert len(found) == 5
    for id_, said in found.items():
        assert said == transcripts[id_]
        assert "appointment" in " ".join(said).lower()


def test_what_is_unhealthy_is_found(ask: Ask, truth: list[Row]) -> None:
    """Calls that never end, and totals that were rounded; nothing else is wrong with this world."""
    rows = ask(10)
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


def test_what_the_contract_does_not_know_is_named(truth: list[Row], tmp_path: Path) -> None:
    """A new value, a new key, and a cost that does not come."""
    odd = next(row for row in truth if row["status"] == "ended") | {
        "ended_reason": "voicemail",
        "cost_breakdown": None,
        "mood": "good",
    }
    body = json.dumps({"items": [odd], "has_more": False}).encode()
    page = parse_page(Listing(None, None, None, 100).page(1), Response(200, {}, body))
    write([page], tmp_path, Interval(START, START + DAY), START + 2 * DAY)
    assert {(row["finding"], row["what"]): row["conversations"] for row in asking(tmp_path)(10)} == {
        ("new value", "ended_reason: voicemail"): 1,
        ("kept in extra", "mood"): 1,
        ("ended, and no cost after an hour", odd["account_id"]): 1,
    }
