"""Which columns does the table have?"""

import pyarrow as pa
import pytest

from voiceos_provider.records import CONVERSATIONS, SCHEMA, fingerprint
from voiceos_provider.records.columns import is_json

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
]
"""Every scalar of the contract's conversation object, outside `agent_config` and `messages`."""

MONEY = pa.decimal128(38, 24)


@pytest.mark.parametrize("path", DOCUMENTED)
def test_each_documented_scalar_has_a_column_of_its_own(path: str) -> None:
    """No need to dig in JSON for what the vendor documents."""
    assert [column.name for column in CONVERSATIONS if ".".join(column.path) == path]


def test_no_column_waits_for_a_value_that_is_not_documented() -> None:
    """Outside the configuration, columns and contract are the same list."""
    paths = [
        ".".join(column.path) for column in CONVERSATIONS if column.path and column.path[0] != "agent_config"
    ]
    assert sorted(paths) == sorted(DOCUMENTED)


def test_every_column_is_named_once_and_described() -> None:
    """Names are lower case and unique; each description is a sentence."""
    names = [column.name for column in CONVERSATIONS]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.isidentifier() for name in names)
    assert all(column.description.endswith(".") for column in CONVERSATIONS)


def test_the_types_are_made_for_analysts() -> None:
    """Money is decimal, instants are in UTC, counts are integers, and only keys are sure to be there."""
    types = {field.name: field.type for field in SCHEMA}
    assert {name for name, type_ in types.items() if type_ == MONEY} == {
        "total_cost",
        *(f"{part}_cost" for part in ("agent", "language_model", "transcriber", "voice", "telephony")),
    }
    assert types["started_at"] == types["_exported_at"] == pa.timestamp("us", tz="UTC")
    assert types["voice_cost_characters"] == types["message_count"] == pa.int64()
    assert [field.name for field in SCHEMA if not field.nullable] == [
        "id",
        "_interval_start",
        "_interval_end",
        "_exported_at",
    ]
    assert [field.name for field in SCHEMA if is_json(field)] == ["messages", "agent_config", "extra"]


def test_what_may_identify_a_person_is_marked() -> None:
    """Numbers, words, and whatever may hold them."""
    assert {column.name for column in CONVERSATIONS if column.personal} == {
        "from_number",
        "to_number",
        "messages",
        "agent_config",
        "extra",
    }


def test_the_fingerprint_tells_one_shape_from_another() -> None:
    """It depends on names, types, nullability and order; not on descriptions."""
    bare = pa.schema([pa.field(field.name, field.type, field.nullable) for field in SCHEMA])
    assert fingerprint(bare) == fingerprint(SCHEMA)
    others = [
        SCHEMA.remove(0),
        SCHEMA.set(0, pa.field("ID", pa.string(), False)),
        SCHEMA.set(0, pa.field("id", pa.large_string(), False)),
        SCHEMA.set(0, pa.field("id", pa.string(), True)),
        pa.schema(list(reversed(list(SCHEMA)))),
    ]
    assert len({fingerprint(schema) for schema in [SCHEMA, *others]}) == 6
