"""Tables and columns, and a column for every documented field."""

import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel

from voiceos_provider.client import Conversation
from voiceos_provider.transform import TABLES, Table, fingerprint
from voiceos_provider.transform.schema import (
    AGENT_CONFIGS,
    CONVERSATION_MESSAGES,
    CONVERSATIONS,
    is_json,
)

DOCUMENTED = [
    *("id", "uri", "type", "account_id", "status", "started_at", "ended_at", "ended_reason", "agent_id"),
    *(f"phone_call.{key}" for key in ("provider", "to_number", "from_number")),
    "cost_breakdown.total",
    *(f"cost_breakdown.agent.{key}" for key in ("provider", "cost", "seconds")),
    *(
        f"cost_breakdown.language_model.{key}"
        for key in ("provider", "cost", "input_tokens", "output_tokens")
    ),
    *(f"cost_breakdown.transcriber.{key}" for key in ("provider", "cost", "seconds")),
    *(f"cost_breakdown.voice.{key}" for key in ("provider", "cost", "characters")),
    *(f"cost_breakdown.telephony.{key}" for key in ("provider", "cost", "seconds")),
    *(f"messages.[].{key}" for key in ("role", "content")),
]
"""Every scalar of the contract's conversation object outside of `agent_config`."""

WHERE = {
    "credential_id": "_own_key",
    "temperature": "temperatures",
    "max_tokens": "limits",
    "tools": "tools",
    "language": "languages",
    "languages": "languages",
    "keywords": "keywords",
    "metadata": "metadata",
    "webhooks": "webhooks",
    "hooks": "hooks",
}
"""Leaves of the configuration without a column, as descriptions name them."""

MONEY = pa.decimal128(38, 24)
table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field that the models of the API declare and that is not a model itself."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        here, inner = (*path, name), field.annotation
        members = [member for member in typing.get_args(inner) if member is not type(None)]
        inner = members[0] if len(members) == 1 else inner
        if typing.get_origin(inner) is list:
            here, inner = (*here, "[]"), typing.get_args(inner)[0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, here)
        else:
            yield here[:-1] if here[-1] == "[]" else here


LEAVES = list(leaves(Conversation))
paths = {column.path for table in TABLES for column in table.columns if column.path}


def test_list_of_documented_fields_equals_the_models() -> None:
    """Both must be updated together."""
    assert sorted(".".join(leaf) for leaf in LEAVES if leaf[0] != "agent_config") == sorted(DOCUMENTED)
    assert {leaf[1] for leaf in LEAVES if leaf[0] == "agent_config"} == {
        *("initial_message", "prompt", "max_duration_seconds", "metadata"),
        *("voice", "language_model", "transcriber", "webhooks", "hooks"),
    }


@pytest.mark.parametrize("leaf", LEAVES, ids=".".join)
def test_each_documented_leaf_has_a_column_or_is_described(leaf: tuple[str, ...]) -> None:
    """The description of the configuration's JSON column names the others."""
    if leaf in paths:
        return
    assert leaf[0] == "agent_config"
    descriptions = {column.name: column.description for column in AGENT_CONFIGS.columns}
    whole = descriptions["agent_config"]
    if leaf[-1] == "credential_id":
        assert f"`{'.'.join(leaf)}`" in descriptions[f"{leaf[1]}_own_key"]
    else:
        (word,) = {WHERE[step] for step in leaf if step in WHERE}
        assert word in whole


@pytest.mark.parametrize("path", DOCUMENTED)
def test_each_documented_scalar_has_one_column(path: str) -> None:
    """Only one table has it."""
    columns = [c for t in (CONVERSATIONS, CONVERSATION_MESSAGES) for c in t.columns]
    assert len([column for column in columns if ".".join(column.path) == path]) == 1


def test_no_column_has_an_undocumented_path() -> None:
    """Each path of a column is a leaf of the contract."""
    assert paths <= set(LEAVES)


@table
def test_every_column_has_a_unique_name_and_a_description(table: Table) -> None:
    """Names are lower case, and descriptions are sentences."""
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.isidentifier() for name in names)
    assert all(column.description.endswith(".") for column in table.columns)
    assert table.description.endswith(".")


@table
def test_only_keys_and_columns_of_the_export_are_required(table: Table) -> None:
    """All other columns are nullable."""
    sure = [field.name for field in table.schema if not field.nullable]
    constants = ["_interval_start", "_interval_end", "_exported_at"]
    assert sure[-3:] == table.schema.names[-3:] == constants
    assert set(sure[:-3]) - {"unit"} == set(table.key)


def test_types_suit_analysts() -> None:
    """Money is decimal, instants are in UTC, and counts are integers."""
    types = {(table.name, field.name): field.type for table in TABLES for field in table.schema}
    assert {name for name, type_ in types.items() if type_ == MONEY} == {
        ("conversations", "total_cost"),
        *(
            ("conversations", f"{part}_cost")
            for part in ("agent", "language_model", "transcriber", "voice", "telephony")
        ),
        ("conversation_costs", "cost"),
    }
    instants = {name for name, type_ in types.items() if type_ == pa.timestamp("us", tz="UTC")}
    assert {name for _, name in instants} == {
        *("started_at", "ended_at", "_interval_start", "_interval_end", "_exported_at")
    }
    counts = {name for name, type_ in types.items() if type_ == pa.int64()}
    assert {name for _, name in counts} == {
        *("voice_cost_characters", "language_model_cost_input_tokens", "language_model_cost_output_tokens"),
        *("message_count", "ordinal"),
    }
    assert [(table.name, field.name) for table in TABLES for field in table.schema if is_json(field)] == [
        ("conversations", "extra"),
        ("conversation_messages", "extra"),
        ("agent_configs", "agent_config"),
    ]


def test_personal_data_is_marked() -> None:
    """Numbers, messages and prompts have the class that redaction uses."""
    marked = {
        (table.name, column.name): column.pii for table in TABLES for column in table.columns if column.pii
    }
    assert marked == {
        ("conversations", "from_number"): "phone_numbers",
        ("conversations", "to_number"): "phone_numbers",
        ("conversation_messages", "content"): "messages",
        ("conversation_messages", "extra"): "messages",
        ("agent_configs", "prompt"): "prompts",
        ("agent_configs", "initial_message"): "prompts",
    }


def test_columns_of_the_same_name_have_the_same_type() -> None:
    """Tables can be joined and compared."""
    types: dict[str, set[Any]] = {}
    for field in (field for table in TABLES for field in table.schema):
        types.setdefault(field.name, set()).add(field.type)
    assert [name for name, found in types.items() if len(found) > 1] == []


@table
def test_fingerprint_depends_on_the_schema(table: Table) -> None:
    """It includes names, types, nullability and order, and no descriptions."""
    schema, first = table.schema, table.schema.names[0]
    bare = pa.schema([pa.field(field.name, field.type, field.nullable) for field in schema])
    assert fingerprint(bare) == fingerprint(schema)
    others = [
        schema.remove(0),
        schema.set(0, pa.field(first.upper(), pa.string(), False)),
        schema.set(0, pa.field(first, pa.large_string(), False)),
        schema.set(0, pa.field(first, pa.string(), True)),
        pa.schema(list(reversed(list(schema)))),
    ]
    assert len({fingerprint(shape) for shape in [schema, *others]}) == 6
    assert len({fingerprint(other.schema) for other in TABLES}) == len(TABLES)


HEAVY = ("pandas", "pyarrow", "numpy", "pydantic", "httpx", "msgspec")
_LOADED = "import sys; import {0}; print(*[name for name in sys.argv[1:] if name in sys.modules])"


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("voiceos_provider.transform", set()),
        ("voiceos_provider.transform.schema", set()),
        ("voiceos_provider.transform.decoder", set(HEAVY) - {"pandas"}),
        ("voiceos_provider.transform.redaction", set(HEAVY) - {"pandas"}),
    ],
)
def test_transform_modules_load_only_what_they_need(module: str, allowed: set[str]) -> None:
    """Names of tables and columns need no heavy package, and no module loads pandas."""
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED.format(module), *HEAVY], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(loaded) <= allowed
