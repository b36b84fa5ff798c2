"""The cookbook's queries, run on exports and compared with the emulator's conversations."""

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
    """Return the only SQL block of a section."""
    (block,) = re.findall(r"^```sql\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture(scope="module")
def world() -> World:
    """Return nine days of conversations."""
    return nine_days()


@pytest.fixture(scope="module")
def truth(world: World) -> list[Row]:
    """Return the conversations as the API sends them at the end."""
    return truth_of(world)


def exported(world: World, folder: Path, *, redaction: Redaction | None = None) -> Ask:
    """Return a function that exports the world day by day, and returns what runs the nth query."""
    for interval, now in EXPORTS:
        write(read(world, interval, now), folder, interval, now, redaction)
    return query_runner(folder)


def write(
    pages: Iterable[RawPage],
    folder: Path,
    interval: Interval,
    now: datetime,
    redaction: Redaction | None = None,
) -> None:
    """Export pages below the folder."""
    export_pages(pages, folder, interval=interval, exported_at=now, redaction=redaction or Redaction())


def query_runner(folder: Path) -> Ask:
    """Return a function that runs the nth query of the cookbook on the exports in a folder."""
    connection = duckdb.connect()
    connection.execute(query(VIEWS).replace("'voiceos/", f"'{folder}/"))

    def run_query(number: int) -> list[Row]:
        rows: list[Row] = connection.execute(query(SECTIONS[number - 1])).to_arrow_table().to_pylist()
        assert rows, f"question {number} has no rows"
        return rows

    return run_query


@pytest.fixture(scope="module")
def run_query(world: World, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Return what runs the nth query on an export without redaction."""
    return exported(world, tmp_path_factory.mktemp("exports"))


def test_cookbook_has_ten_questions_with_a_query_and_a_note() -> None:
    """Each heading is a numbered question."""
    for number, section in enumerate(SECTIONS, start=1):
        assert section.startswith(f"{number}. ")
        assert section.partition("\n")[0].endswith("?")
        assert query(section).strip().endswith(";")
        assert "\nNote: " in section
    assert len(SECTIONS) == 10


@pytest.mark.parametrize("number", CHECKS)
def test_each_query_agrees_with_the_conversations(number: int, run_query: Ask, truth: list[Row]) -> None:
    """Compare its result with what the API sends."""
    CHECKS[number](run_query(number), truth)


def test_repeat_callers_are_the_same_with_hashed_numbers(
    run_query: Ask, truth: list[Row], world: World, tmp_path: Path
) -> None:
    """Equal numbers have equal hashes."""
    repeated = repeat_callers(truth)
    hashed = exported(world, tmp_path, redaction=Redaction(phone_numbers="hash", hash_key=KEY))(8)
    assert sorted(row["calls"] for row in hashed) == sorted(repeated.values())
    assert not {row["person"] for row in hashed} & set(repeated)
    assert len({row["phone_key_id"] for row in hashed}) == 1


def test_undocumented_values_are_reported(truth: list[Row], tmp_path: Path) -> None:
    """A new value, a new key and a missing cost appear in the result of the last query."""
    odd = next(row for row in truth if row["status"] == "ended") | {
        "ended_reason": "voicemail",
        "cost_breakdown": None,
        "mood": "good",
    }
    body = json.dumps({"items": [odd], "has_more": False}).encode()
    page = parse_page(Listing(None, None, None, 100).page(1), Response(200, {}, body))
    write([page], tmp_path, Interval(START, START + DAY), START + 2 * DAY)
    assert {(row["finding"], row["what"]): row["conversations"] for row in query_runner(tmp_path)(10)} == {
        ("new value", "ended_reason: voicemail"): 1,
        ("kept in extra", "mood"): 1,
        ("ended, and no cost after an hour", odd["account_id"]): 1,
    }
