"""`voiceos preview`: the first rows, without personal data."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.transform import TABLES


def test_it_shows_the_first_rows(voiceos: Any, served: Emulator, world: World) -> None:
    """As many as requested, each a conversation that the API has."""
    rows = voiceos("preview", "--rows", 3, "--json").json
    assert len(rows) == 3
    assert {row["id"] for row in rows} <= set(world.ids())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_personal_data_is_hidden(voiceos: Any, served: Emulator, table: Any) -> None:
    """Unless --personal is given."""
    personal = {column.name for column in table.columns if column.pii}
    hidden = personal | {"extra"} & set(table.schema.names)
    (row, *_) = voiceos("preview", "--table", table.name, "--json").json
    assert set(row) == set(table.schema.names) - hidden
    (row, *_) = voiceos("preview", "--table", table.name, "--json", "--personal").json
    assert set(row) == set(table.schema.names)


def test_people_see_a_table_that_fits(voiceos: Any, served: Emulator, world: World) -> None:
    """One line per row, without the words of the conversation."""
    ran = voiceos("preview", "--rows", 2)
    assert ran.code == 0
    assert len([line for line in ran.out.splitlines() if any(id_ in line for id_ in world.ids())]) == 2
    assert "from_number" not in ran.out


def test_columns_are_chosen_by_name(voiceos: Any, served: Emulator) -> None:
    """In the order they are named in; a wrong one is told with those there are."""
    (row,) = voiceos("preview", "--rows", 1, "--json", "--columns", "status, id").json
    assert list(row) == ["status", "id"]
    ran = voiceos("preview", "--columns", "nope")
    assert ran.code == 2
    assert "conversations has no 'nope'; it has id, " in ran.err
    assert "started_at" in voiceos("preview", "--rows", 1, "--columns", "all").out


def test_a_day_and_a_state_choose_the_rows(
    voiceos: Any, served: Emulator, world: World, yesterday: tuple[datetime, datetime]
) -> None:
    """Only conversations of that day, in that state."""
    rows = voiceos(
        "preview", "--rows", 1000, "--json", "--day", f"{yesterday[0]:%Y-%m-%d}", "--status", "ended"
    ).json
    ids = world.ids(created_after=yesterday[0], created_before=yesterday[1])
    assert rows
    assert {row["id"] for row in rows} <= set(ids)
    assert {row["status"] for row in rows} == {"ended"}


def test_nothing_to_show_is_said(voiceos: Any, served: Emulator) -> None:
    """And is no error."""
    ran = voiceos("preview", "--day", "2001-01-01")
    assert (ran.code, ran.out) == (0, "No rows.\n")
