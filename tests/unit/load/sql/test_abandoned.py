"""Staging tables that killed loads have left."""

from __future__ import annotations

import pytest

from voiceos_provider.load.sql import dialect_named


@pytest.mark.parametrize(
    ("name", "abandoned"),
    [
        ("_voiceos_20261121115959999999_conversations", True),
        ("_VOICEOS_20261121115959999999_CONVERSATIONS", True),
        ("_voiceos_20261121120000000001_conversations", False),
        ("_voiceos_20261123120000000000_conversations", False),
        ("_voiceos_99999999999999999999_conversations", False),
        ("_voiceos_2026_conversations", False),
        ("my_voiceos_20261121115959999999_conversations", False),
        ("conversations", False),
    ],
)
def test_only_staging_tables_of_loads_that_began_a_day_before_are(name: str, abandoned: bool) -> None:  # noqa: FBT001
    """Until then a load may be alive, and a table of another name belongs to another."""
    assert dialect_named("clickhouse", stamp="20261122120000000000").is_abandoned(name) is abandoned


def test_without_a_time_of_its_own_a_load_removes_nothing() -> None:
    """As when only its definitions are asked for."""
    assert not dialect_named("clickhouse").is_abandoned("_voiceos_20001121115959999999_conversations")
