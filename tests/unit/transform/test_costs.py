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
    """Return a conversation with this breakdown; a component named in `own_keys` has that credential."""
    config = {part: {"credential_id": credential} for part, credential in own_keys.items()}
    return json.dumps({"id": id_, "cost_breakdown": bill, "agent_config": config})


def facts(read: Any) -> list[tuple[Any, ...]]:
    """Return the facts in the rows of costs."""
    return [tuple(row[name] for name in FACTS) for row in read.costs]


def test_each_billed_component_is_a_row(read: Reader) -> None:
    """With what was counted in its own unit; of a language model, the tokens read and written together."""
    keys = {"language_model": None, "transcriber": None, "voice": None}
    assert facts(read(conversation(BILL, **keys))) == [
        ("agent", "voiceos", Decimal("0.05"), 60.0, "seconds", False),
        ("language_model", "openai", Decimal("0.01"), 1234.0, "tokens", False),
        ("transcriber", "deepgram", Decimal("0.004"), 58.5, "seconds", False),
        ("voice", "playht", Decimal("0.02"), 412.0, "characters", False),
        ("telephony", "twilio", Decimal(0), 61.0, "seconds", False),
    ]


def test_rows_follow_their_conversations(read: Reader) -> None:
    """In the order of the conversations, then of the components; each says where it belongs."""
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


def test_a_key_of_the_customers_own_is_a_row_without_a_cost(read: Reader) -> None:
    """Or the share of that component would look like nothing."""
    bill = {key: value for key, value in BILL.items() if key not in ("voice", "transcriber")}
    rows = facts(read(conversation(bill, voice="cred_1", transcriber=None, language_model="cred_2")))
    assert [row[0] for row in rows] == ["agent", "language_model", "voice", "telephony"]
    assert rows[1] == ("language_model", "openai", Decimal("0.01"), 1234.0, "tokens", True)
    assert rows[2] == ("voice", None, None, None, "characters", True)


def test_it_is_split_out_even_if_the_total_is_not_known(read: Reader) -> None:
    """A breakdown is known once anything in it is."""
    bill = {"total": None, "agent": BILL["agent"]}
    assert [row[0] for row in facts(read(conversation(bill, voice="cred_1")))] == ["agent", "voice"]


@pytest.mark.parametrize("bill", [None, {}, "unknown", {"agent": None}])
def test_there_is_no_row_while_there_is_no_bill(read: Reader, bill: Any) -> None:
    """It may come later; until then nobody knows what cost nothing."""
    assert facts(read(conversation(bill, voice="cred_1"))) == []


def test_nobody_knows_whose_key_it_was_without_a_configuration(read: Reader) -> None:
    """Null, and not False."""
    rows = facts(read(json.dumps({"id": "a", "cost_breakdown": BILL})))
    assert [row[-1] for row in rows] == [False, None, None, None, False]


def test_a_web_call_has_no_telephony(read: Reader) -> None:
    """A number that was imported costs nothing, which is a row; no call at all is none."""
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
def test_whatever_is_known_of_a_component_is_told(
    read: Reader, part: dict[str, Any], row: tuple[Any, ...]
) -> None:
    """An invalid or missing neighbour is only null itself; a quantity that a double does not hold exactly is null."""
    (told,) = facts(read(conversation({"language_model": part})))
    assert told[1:4] == row
