"""Typed values of JSON."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceos_provider.client import values

NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(NUMBERS)
def test_number_keeps_all_digits(text: str) -> None:
    """It never becomes a float, and is written as it was read."""
    value = values.loads(text)
    assert not isinstance(value, float)
    assert Decimal(value) == Decimal(text)
    assert Decimal(values.dumps(value)) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["0.1234567890123456789", "0.056900000000000006", "1e-7", "0", "7", "12345678901234567890123"]
)
def test_money_is_an_exact_decimal(text: str) -> None:
    """It is read from its text, also for integers."""
    assert values.exact_decimal(values.loads(text)) == Decimal(text)
    assert values.exact_decimal(values.loads(f'"{text}"')) == Decimal(text)


def test_integers_have_any_size() -> None:
    """Neither 64 bits nor Python's limit of 4,300 digits applies."""
    for digits in ("9" * 20, "-" + "9" * 4_300, "1" + "0" * 10_000):
        assert values.dumps(values.loads(digits)) == digits
        assert values.dumps(values.loads(f'{{"a": [{digits}, 0.5, "x"]}}')) == f'{{"a":[{digits},0.5,"x"]}}'


def test_number_beyond_decimal_is_kept_as_text() -> None:
    """It can be shown and not be added up."""
    text = "1e1000000000000000000"
    assert values.loads(f"[{text}]") == [text]
    assert values.loads(f"[{text}, {'9' * 5_000}]")[0] == text
    with pytest.raises(ValueError, match="not a number"):
        values.exact_decimal(text)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "[NaN]", "nan", "01", "1.", ".5", "+1", "0x1"]
)
def test_invalid_json_number_is_rejected(text: str) -> None:
    """NaN and Infinity are not JSON, also next to a huge integer."""
    with pytest.raises(ValueError, match=r".+"):
        values.loads(text)
    with pytest.raises(ValueError, match=r".+"):
        values.loads(f"[{'9' * 5_000}, {text}]")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=15,
)


@given(JSON)
def test_json_round_trip(value: Any) -> None:
    """Every kind of value is written as it was read."""
    assert values.loads(json.dumps(value)) == value
    assert json.loads(values.dumps(value)) == value


INSTANTS = {
    "2024-06-03T16:58:02.104233+00:00": datetime(2024, 6, 3, 16, 58, 2, 104_233, UTC),
    "2024-06-03T16:58:02Z": datetime(2024, 6, 3, 16, 58, 2, 0, UTC),
    "2024-06-03t16:58:02z": datetime(2024, 6, 3, 16, 58, 2, 0, UTC),
    "2024-06-03 16:58:02+00:00": datetime(2024, 6, 3, 16, 58, 2, 0, UTC),
    "2024-06-03T16:58:02.1Z": datetime(2024, 6, 3, 16, 58, 2, 100_000, UTC),
    "2024-06-03T16:58:02.104233": datetime(2024, 6, 3, 16, 58, 2, 104_233, UTC),
    "2024-06-03T16:58:02.104233+0000": datetime(2024, 6, 3, 16, 58, 2, 104_233, UTC),
    "2024-06-03T16:58:02.123456789Z": datetime(2024, 6, 3, 16, 58, 2, 123_456, UTC),
    "2024-06-03T22:43:02+05:45": datetime(2024, 6, 3, 16, 58, 2, 0, UTC),
    "2024-06-03T13:58:02-03": datetime(2024, 6, 3, 16, 58, 2, 0, UTC),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1, tzinfo=UTC),
    "9999-12-31T23:59:59.999999Z": datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
}


@pytest.mark.parametrize(("text", "expected"), INSTANTS.items())
def test_date_time_is_an_instant_in_utc(text: str, expected: datetime) -> None:
    """Fraction and offset are optional; the contract defines naive times as UTC."""
    instant = values.instant(text)
    assert instant == expected
    assert instant.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "odd",
    [
        "",
        " ",
        "now",
        "2024-06-03",
        "1717433882.104",
        1717433882,
        True,
        "2024-06-03T25:00:00Z",
        "2024-02-30T00:00:00Z",
        "２０２４-06-03T16:58:02Z",
        "2024-06-03T16:58:02Z\n",
        "2024-06-03T16:58:02+99:99",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        ["2024-06-03T16:58:02Z"],
    ],
)
def test_invalid_date_time_is_rejected(odd: Any) -> None:
    """A number may count seconds or milliseconds."""
    with pytest.raises(ValueError, match=r".+"):
        values.instant(odd)


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    """No text raises another error."""
    for reader in (values.instant, values.exact_decimal, values.number, values.count):
        with suppress(ValueError):
            reader(text)


@pytest.mark.parametrize("reader", [values.exact_decimal, values.number, values.count])
@pytest.mark.parametrize(
    "odd", [True, False, "", " 1", "1_000", "１", "NaN", "Infinity", "-inf", "0x10", "1,5", [1], {"a": 1}]
)
def test_invalid_number_is_rejected(reader: Callable[[Any], Any], odd: Any) -> None:
    """A string may spell a number only as JSON does."""
    with pytest.raises(ValueError, match="not a number"):
        reader(odd)


@pytest.mark.parametrize(
    ("value", "expected"), [("0", 0), ("412", 412), ("412.0", 412), ("1e2", 100), ('"7"', 7)]
)
def test_count_is_an_integer(value: str, expected: int) -> None:
    """Its notation does not matter."""
    assert values.count(values.loads(value)) == expected


@pytest.mark.parametrize(
    "value", ["0.5", str(2**63), str(-(2**63) - 1), "1e19", "1e400", "1e999999", "9" * 5_000]
)
def test_count_fits_into_64_bits(value: str) -> None:
    """A fraction or a larger number is rejected without writing out its digits."""
    with pytest.raises(ValueError, match="not a whole number of 64 bits"):
        values.count(values.loads(value))


@pytest.mark.parametrize("value", ["1e400", "1e-400", "0.1234567890123456789", "9007199254740993"])
def test_inexact_double_is_rejected(value: str) -> None:
    """A column of doubles holds a number exactly or not at all."""
    with pytest.raises(ValueError, match=r"digits|large"):
        values.number(values.loads(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_read_as_itself(double: float) -> None:
    """A server may write its doubles in full."""
    assert values.number(values.loads(repr(double))) == double


@pytest.mark.parametrize("odd", [7, None, True, ["a"], {"a": "b"}])
def test_only_a_string_is_text(odd: Any) -> None:
    """No other type is converted."""
    assert values.text("") == ""
    with pytest.raises(ValueError, match="not a string"):
        values.text(odd)
