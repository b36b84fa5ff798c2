"""`voiceos schema` and `voiceos ddl`: the tables, from their declaration."""

from __future__ import annotations

from typing import Any

from voiceos_provider.transform import TABLES


def test_json_has_every_column_of_every_table(voiceos: Any) -> None:
    """With type, nullability and what it tells of people."""
    tables = voiceos("schema", "--json").json
    assert [table["name"] for table in tables] == [table.name for table in TABLES]
    for told, table in zip(tables, TABLES, strict=True):
        assert told["key"] == list(table.key)
        assert [(c["name"], c["type"], c["nullable"]) for c in told["columns"]] == [
            (field.name, str(field.type), field.nullable) for field in table.schema
        ]
        assert [c["personal"] for c in told["columns"]] == [c.pii for c in table.columns]


def test_markdown_and_the_screen_name_every_column(voiceos: Any) -> None:
    """A line each."""
    for arguments in (["--markdown"], []):
        shown = voiceos("schema", *arguments).out
        for table in TABLES:
            for column in table.columns:
                assert column.name in shown


def test_one_table_is_chosen_by_name(voiceos: Any) -> None:
    """A wrong name is told with those there are."""
    assert [t["name"] for t in voiceos("schema", "--table", "agent_configs", "--json").json] == [
        "agent_configs"
    ]
    ran = voiceos("schema", "--table", "calls")
    assert ran.code == 2
    assert "'calls' is not one of conversations" in ran.err
