"""The cookbook runs: every query, on an export, and its answers are the emulator's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from tests.support.cookbook import (
    CHECKS,
    DAY,
    EXPORTS,
    START,
    Ask,
    Row,
    nine_days,
    read,
    repeat_callers,
    truth_of,
)
from tests.support.exporting import export_pages
from voiceos_provider.client import RawPage
from voiceos_provider.client.pages import parse_page
from voiceos_provider.client.requests import Listing
from voiceos_provider.client.responses import Response
from voiceos_provider.emulator import World
from voiceos_provider.interval import Interval
from voiceos_provider.transform import Redaction

COOKBOOK = (Path(__file__).parents[2] / "docs" / "cookbook.md").read_text()
VIEWS, *SECTIONS = re.split(r"^## ", COOKBOOK, flags=re.MULTILINE)

KEY = "a key of the tests' own"


def query(text: str) -> str:
    """Return the one SQL block of a part of the cookbook."""
    (block,) = re.findall(r"^```sql\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture(scope="module")
def world() -> World:
    """Nine days of conversations."""
    return nine_days()


@pytest.fixture(scope="module")
def truth(world: World) -> list[Row]:
    """Return what the exports must say of every conversation."""
    return truth_of(world)


def exported(world: World, folder: Path, *, redaction: Redaction | None = None) -> Ask:
    """Export the world day by day; returns what asks the nth question of the cookbook."""
    for interval, now in EXPORTS:
        write(read(world, interval, now), folder, interval, now, redaction)
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
    """Return a function that runs the nth query of the cookbook on the exports in a folder."""
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


def test_there_are_ten_questions_with_a_query_and_a_note() -> None:
    """Each heading is a numbered question, answered by one query and a note about its limits."""
    for number, section in enumerate(SECTIONS, start=1):
        assert section.startswith(f"{number}. ")
        assert section.partition("\n")[0].endswith("?")
        assert query(section).strip().endswith(";")
        assert "\nNote: " in section
    assert len(SECTIONS) == 10


@pytest.mark.parametrize("number", CHECKS)
def test_each_question_is_answered_as_the_api_would(number: int, ask: Ask, truth: list[Row]) -> None:
    """Compare the result of each query with the conversations themselves."""
    CHECKS[number](ask(number), truth)


def test_repeat_callers_are_the_same_ones_when_numbers_are_hashed(
    ask: Ask, truth: list[Row], world: World, tmp_path: Path
) -> None:
    """A hash tells as much as the number, but for the number."""
    repeated = repeat_callers(truth)
    hashed = exported(world, tmp_path, redaction=Redaction(phone_numbers="hash", hash_key=KEY))(8)
    assert sorted(row["calls"] for row in hashed) == sorted(repeated.values())
    assert not {row["person"] for row in hashed} & set(repeated)
    assert len({row["phone_key_id"] for row in hashed}) == 1


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
