"""JSON numbers of any length: exact or set aside, with equal results of both decoders."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.decoding import Read, as_page, as_text, decoded
from voiceos_provider.client.models import ConversationStruct

DIGITS = st.integers(1, 45).flatmap(
    lambda length: st.text("0123456789", min_size=length, max_size=length) | st.just("9" * length)
)
INTEGERS = DIGITS.map(lambda digits: digits.lstrip("0") or "0")
EXPONENTS = st.builds(
    "{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 450)
)
JSON_NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "-"]),
    INTEGERS,
    st.just("") | DIGITS.map("".join([".", "{}"]).format),
    st.just("") | EXPONENTS,
)
"""The number grammar of RFC 8259: a sign, integer digits, perhaps a fraction, perhaps an exponent."""

COLUMNS = {
    "total_cost": ("total", None),
    "agent_cost": ("agent", "cost"),
    "agent_cost_seconds": ("agent", "seconds"),
    "voice_cost_characters": ("voice", "characters"),
}
PLACES = {
    "total_cost": '{{"total":{0}}}',
    "agent_cost": '{{"total":1,"agent":{{"cost":{0}}}}}',
    "agent_cost_seconds": '{{"total":1,"agent":{{"cost":1,"seconds":{0}}}}}',
    "voice_cost_characters": '{{"total":1,"voice":{{"cost":1,"characters":{0}}}}}',
}
_exact = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)


def conversation(number: str, column: str, id_: str = "a") -> str:
    """Return a documented conversation with this number in place of a column's value."""
    return f'{{"id":"{id_}","cost_breakdown":{PLACES[column].format(number)}}}'


def fits(number: str, column: str) -> bool:
    """Return whether the column can hold the number exactly."""
    exact = Decimal(number)
    if column in ("total_cost", "agent_cost"):
        scaled = exact.as_tuple()
        digits = "".join(map(str, scaled.digits)).lstrip("0").rstrip("0")
        if not digits:
            return True
        trailing = len("".join(map(str, scaled.digits))) - len("".join(map(str, scaled.digits)).rstrip("0"))
        return exact.adjusted() < 14 and int(scaled.exponent) + trailing >= -24
    if column == "agent_cost_seconds":
        double = float(number)
        return abs(double) != float("inf") and Decimal(repr(double)) == exact
    return exact.adjusted() < 20 and exact == int(exact) and -(2**63) <= exact < 2**63


def check(read: Read, numbers: list[str], column: str) -> None:
    """Check that each number is in its column, or counted and in `extra` with all digits."""
    invalid = 0
    assert len(read.rows) == len(numbers)
    for row, number in zip(read.rows, numbers, strict=True):
        value = row[column]
        if fits(number, column):
            assert row["extra"] is None
            assert (
                Decimal(repr(value)) == Decimal(number)
                if isinstance(value, float)
                else value == Decimal(number)
            )
        else:
            assert value is None
            assert _exact.decode(row["extra"])["cost_breakdown"] == without_ones(number, column)
            invalid += 1
    assert sum(read.decoded.drift.invalid_values.values()) == invalid


def without_ones(number: str, column: str) -> Any:
    """Return the part of the breakdown that no column holds."""
    part, key = COLUMNS[column]
    return {part: Decimal(number)} if key is None else {part: {key: Decimal(number)}}


@pytest.mark.parametrize("column", PLACES)
@settings(max_examples=100)
@given(numbers=st.lists(JSON_NUMBERS, min_size=1, max_size=4))
@example(numbers=["439832166250952"])
@example(numbers=["-439832166250952", "1"])
@example(numbers=["99999999999999.999999999999999999999999", "-99999999999999.999999999999999999999999"])
@example(numbers=["99999999999999", "100000000000000", "-99999999999999", "-100000000000000"])
@example(numbers=["0." + "1" * 24, "0." + "1" * 25, "0." + "1" * 40])
@example(numbers=["0.1" + "0" * 40, "12345.678901234567890123456" + "0" * 20, "1." + "0" * 60])
@example(numbers=["-0", "-0.0", "0E+30", "-0e-9", "0e400"])
@example(numbers=["1e-411", "1E+2", "1e2", "100e-2", "1e14", "1e13", "1e400", "-1e400"])
@example(numbers=["9007199254740993", "9007199254740993.0", "900719925474099.3", "0.056900000000000006"])
@example(numbers=[str(2**63), str(2**63 - 1), str(-(2**63)), str(-(2**63) - 1), f"{2**63 - 1}.0", str(2**64)])
def test_number_is_exact_or_set_aside(numbers: list[str], column: str) -> None:
    """Length and notation are random, and both decoders run."""
    items = [conversation(number, column, str(n)) for n, number in enumerate(numbers)]
    fast, fallback = (decoded([way(item) for item in items]) for way in (as_page, as_text))
    check(fallback, numbers, column)
    assert repr(fast.tables) == repr(fallback.tables)
    assert fast.decoded.drift == fallback.decoded.drift


@pytest.mark.parametrize("length", range(1, 46))
@pytest.mark.parametrize("fraction", ["", ".5", "." + "7" * 24])
def test_amount_of_every_length_is_exact(length: int, fraction: str) -> None:
    """Whether a cast overflows, and reports it, depends on length and first digit."""
    numbers = [f"{sign}{digit}{'3' * (length - 1)}{fraction}" for digit in range(1, 10) for sign in ("", "-")]
    items = [conversation(number, "total_cost", str(n)) for n, number in enumerate(numbers)]
    check(decoded(map(as_page, items)), numbers, "total_cost")


def test_numbers_reach_the_fast_path() -> None:
    """Amounts, durations and integer counts of any notation count as documented."""
    for number in ("439832166250952", "1e-411", "1E+2", "-0", "0." + "1" * 40):
        for column in ("total_cost", "agent_cost", "agent_cost_seconds"):
            assert isinstance(as_page(conversation(number, column)), ConversationStruct)
    assert isinstance(as_page(conversation("1" * 40, "voice_cost_characters")), ConversationStruct)
