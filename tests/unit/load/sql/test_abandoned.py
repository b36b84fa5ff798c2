"""Staging tables of killed loads."""

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
def test_staging_tables_are_abandoned_a_day_after_their_load_began(name: str, abandoned: bool) -> None:  # noqa: FBT001
    """Until then the load may be alive; tables with other names belong to others."""
    assert dialect_named("clickhouse", stamp="20261122120000000000").is_abandoned(name) is abandoned


def test_load_without_a_start_time_removes_nothing() -> None:
    """Printing DDL uses such a dialect."""
    assert not dialect_named("clickhouse").is_abandoned("_voiceos_20001121115959999999_conversations")
