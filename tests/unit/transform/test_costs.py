"""Rows of costs by component."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from voiceos_provider.transform.schema import COMPONENTS

Reader = Callable[..., Any]

BILL = {
    "total": 1,
    "agent": {"provider": "voiceos", "cost": 0.05, "seconds": 60},
    "language_model": {"provider": "openai", "cost": 0.01, "input_tokens": 1200, "output_tokens": 34},
    "transcriber": {"provider": "deepgram", "cost": 0.004, "seconds": 58.5},
    "voice": {"provider": "playht", "cost": 0.02, "characters": 412},
    "telephony": {"provider": "twilio", "cost": 0, "seconds": 61},
}
FACTS = ("component", "provider", "cost", "quantity", "unit", "own_key")


def conversation(bill: Any = None, id_: str = "a", **own_keys: Any) -> str:
    """Return a conversation with this breakdown; the components in `own_keys` have these credentials."""
    config = {part: {"credential_id": credential} for part, credential in own_keys.items()}
    return json.dumps({"id": id_, "cost_breakdown": bill, "agent_config": config})


def facts(read: Any) -> list[tuple[Any, ...]]:
    """Return the values in the rows of costs."""
    return [tuple(row[name] for name in FACTS) for row in read.costs]


def test_each_billed_component_is_a_row(read: Reader) -> None:
    """Its quantity has its own unit; for a language model it is the sum of input and output tokens."""
    keys = {"language_model": None, "transcriber": None, "voice": None}
    assert facts(read(conversation(BILL, **keys))) == [
        ("agent", "voiceos", Decimal("0.05"), 60.0, "seconds", False),
        ("language_model", "openai", Decimal("0.01"), 1234.0, "tokens", False),
        ("transcriber", "deepgram", Decimal("0.004"), 58.5, "seconds", False),
        ("voice", "playht", Decimal("0.02"), 412.0, "characters", False),
        ("telephony", "twilio", Decimal(0), 61.0, "seconds", False),
    ]


def test_rows_follow_their_conversations(read: Reader) -> None:
    """Each row has the id of its conversation; components have a fixed order."""
    some = {"total": 1, "voice": BILL["voice"], "agent": BILL["agent"]}
    items = [
        conversation(BILL, "b"),
        conversation(None, "n"),
        conversation(some, "a"),
        conversation(BILL, "b"),
    ]
    result = read(*items)
    assert [(row["conversation_id"], row["component"]) for row in result.costs] == [
        *(("b", component) for component in COMPONENTS),
        ("a", "agent"),
        ("a", "voice"),
        *(("b", component) for component in COMPONENTS),
    ]
    positions = result.decoded.rows["conversation_costs"].positions.to_pylist()
    assert positions == [0] * 5 + [2] * 2 + [3] * 5


def test_component_with_a_customer_key_is_a_row_without_a_cost(read: Reader) -> None:
    """Otherwise the share of that component would look like zero."""
    bill = {key: value for key, value in BILL.items() if key not in ("voice", "transcriber")}
    rows = facts(read(conversation(bill, voice="cred_1", transcriber=None, language_model="cred_2")))
    assert [row[0] for row in rows] == ["agent", "language_model", "voice", "telephony"]
    assert rows[1] == ("language_model", "openai", Decimal("0.01"), 1234.0, "tokens", True)
    assert rows[2] == ("voice", None, None, None, "characters", True)


def test_components_are_rows_without_a_total(read: Reader) -> None:
    """A breakdown counts as known once it has any value."""
    bill = {"total": None, "agent": BILL["agent"]}
    assert [row[0] for row in facts(read(conversation(bill, voice="cred_1")))] == ["agent", "voice"]


@pytest.mark.parametrize("bill", [None, {}, "unknown", {"agent": None}])
def test_there_is_no_row_without_a_bill(read: Reader, bill: Any) -> None:
    """It may come later."""
    assert facts(read(conversation(bill, voice="cred_1"))) == []


def test_key_owner_is_null_without_a_configuration(read: Reader) -> None:
    """It is not False."""
    rows = facts(read(json.dumps({"id": "a", "cost_breakdown": BILL})))
    assert [row[-1] for row in rows] == [False, None, None, None, False]


def test_web_call_has_no_telephony(read: Reader) -> None:
    """An imported number has a row without cost; a web call has none."""
    assert "telephony" in [row[0] for row in facts(read(conversation(BILL)))]
    assert "telephony" not in [row[0] for row in facts(read(conversation(BILL | {"telephony": None})))]


@pytest.mark.parametrize(
    ("part", "row"),
    [
        ({"cost": 0.5}, (None, Decimal("0.5"), None)),
        ({"provider": "openai"}, ("openai", None, None)),
        ({"input_tokens": 7}, (None, None, 7.0)),
        ({"output_tokens": 0}, (None, None, 0.0)),
        ({"cost": "n/a", "output_tokens": 3}, (None, None, 3.0)),
        ({"output_tokens": 2**52, "input_tokens": 2**52}, (None, None, 2.0**53)),
        ({"output_tokens": 2**53 + 1, "input_tokens": 2}, (None, None, None)),
        ({"output_tokens": -(2**63), "input_tokens": 2**63 - 1}, (None, None, None)),
    ],
)
def test_all_known_values_of_a_component_are_kept(
    read: Reader, part: dict[str, Any], row: tuple[Any, ...]
) -> None:
    """An invalid or missing value is null, and so is a quantity that a double does not hold exactly."""
    (found,) = facts(read(conversation({"language_model": part})))
    assert found[1:4] == row
