"""`voiceos schema` and `voiceos ddl`: the tables, from their declaration."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from voiceos_provider.load.sql import DIALECTS
from voiceos_provider.transform import TABLES


def test_json_has_every_column_of_every_table(voiceos: Any) -> None:
    """With type, nullability and the class of personal data."""
    tables = voiceos("schema", "--json").json
    assert [table["name"] for table in tables] == [table.name for table in TABLES]
    for shown, table in zip(tables, TABLES, strict=True):
        assert shown["key"] == list(table.key)
        assert [(c["name"], c["type"], c["nullable"]) for c in shown["columns"]] == [
            (field.name, str(field.type), field.nullable) for field in table.schema
        ]
        assert [c["personal"] for c in shown["columns"]] == [c.pii for c in table.columns]


def test_markdown_and_the_screen_name_every_column(voiceos: Any) -> None:
    """A line each."""
    for arguments in (["--markdown"], []):
        shown = voiceos("schema", *arguments).out
        for table in TABLES:
            for column in table.columns:
                assert column.name in shown


def test_the_data_contract_has_every_column_of_every_table(voiceos: Any) -> None:
    """With its key, nullability, class of personal data and references."""
    contract = yaml.safe_load(voiceos("schema", "--odcs").out)
    assert [table["name"] for table in contract["schema"]] == [table.name for table in TABLES]
    for shown, table in zip(contract["schema"], TABLES, strict=True):
        assert [(c["name"], c.get("required", False)) for c in shown["properties"]] == [
            (c.name, not c.nullable) for c in table.columns
        ]
        keys = {c["primaryKeyPosition"]: c["name"] for c in shown["properties"] if c.get("primaryKey")}
        assert tuple(keys[position] for position in sorted(keys)) == table.key
        assert [c["tags"][1] for c in shown["properties"] if "tags" in c] == [
            c.pii for c in table.columns if c.pii
        ]
    references = {
        (table["name"], c["relationships"][0]["to"])
        for table in contract["schema"]
        for c in table["properties"]
        if "relationships" in c
    }
    assert references == {
        ("conversations", "agent_configs.agent_config_hash"),
        ("conversation_costs", "conversations.id"),
        ("conversation_messages", "conversations.id"),
    }


def test_one_table_is_chosen_by_name(voiceos: Any) -> None:
    """A wrong name is shown with those there are."""
    assert [t["name"] for t in voiceos("schema", "--tables", "agent_configs", "--json").json] == [
        "agent_configs"
    ]
    ran = voiceos("schema", "--tables", "calls")
    assert ran.code == 2
    assert "'calls' is not one of conversations" in ran.err


def test_names_are_separated_by_commas_or_repeated(voiceos: Any) -> None:
    """In every option that takes several."""
    for arguments in (
        ["--tables", "agent_configs,conversations"],
        ["--tables", "agent_configs", "--tables", "conversations"],
        ["--tables", "agent_configs, conversations", "--tables", "conversations"],
    ):
        names = {table["name"] for table in voiceos("schema", "--json", *arguments).json}
        assert names == {"agent_configs", "conversations"}


def test_ddl_creates_the_tables(voiceos: Any) -> None:
    """In the schema, with the table for rejected conversations."""
    ran = voiceos("ddl", "postgres", "--schema", "voice", "--rejected")
    assert ran.code == 0
    assert ran.out.count("CREATE TABLE") == 5
    assert '"voice"."rejected_conversations"' in ran.out


def test_ddl_lists_every_dialect(voiceos: Any) -> None:
    """The help names those that the package has, and each of them works."""
    shown = " ".join(voiceos("ddl", "--help").out.split())
    assert f"one of {', '.join(DIALECTS)}." in shown
    for dialect in DIALECTS:
        assert voiceos("ddl", dialect).code == 0


def test_schema_prints_one_format(voiceos: Any) -> None:
    """Two are refused, since one of them would be ignored."""
    ran = voiceos("schema", "--odcs", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "Use one of --json, --markdown and --odcs" in ran.err


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("postgresql", "did you mean postgres?"),
        ("MariaDB", "did you mean mysql?"),
        ("snowflak", "did you mean snowflake?"),
        ("oracle", "choose from postgres, redshift"),
    ],
)
def test_ddl_suggests_a_dialect(voiceos: Any, name: str, suggestion: str) -> None:
    """For another name of the database, a typing error, and a database that is not supported."""
    ran = voiceos("ddl", name)
    assert ran.code == 2
    assert suggestion in ran.err
