"""Conversion of JSON values to typed Python values.

Each function converts one decoded JSON value, or raises `ValueError` if the value is ambiguous or of another type.
Numbers with a fraction are `Decimal`, made from their text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

JsonValue = Any
"""What `loads` returns: dict, list, str, int, Decimal, bool or None."""
JsonObject = dict[str, JsonValue]


def _decimal(digits: str) -> Decimal | str:
    """Return the number, or its text if its exponent exceeds any decimal's."""
    try:
        return Decimal(digits)
    except ArithmeticError:
        return digits


def _no_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is not JSON")


_decoder = msgspec.json.Decoder(float_hook=_decimal)
# int() refuses to read thousands of digits, and so does msgspec; a Decimal holds them all.
_big_number_decoder = json.JSONDecoder(parse_float=_decimal, parse_int=Decimal, parse_constant=_no_constant)
_encoder = msgspec.json.Encoder(decimal_format="number")
_sorting_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(\.\d+)?\s?(Z|[+-]\d\d(?::?\d\d)?)?", re.IGNORECASE
)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_INT64 = range(-(2**63), 2**63)


def loads(text: bytes | str | msgspec.Raw) -> JsonValue:
    """Decode JSON exactly: no float in between, no NaN or Infinity, integers of any size.

    A number beyond even a `Decimal`, such as 1e1000000000000000000, is returned as its text.

    :raises ValueError: if it is not JSON
    """
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:  # an integer of thousands of digits: nothing else is invalid here
        whole = text if isinstance(text, str) else bytes(text).decode()
        return _big_number_decoder.decode(whole)
    except msgspec.DecodeError as error:  # a ValueError since msgspec 0.21 only; Airflow pins older ones
        raise ValueError(str(error)) from None


def dumps(value: JsonValue, *, sort_keys: bool = False) -> str:
    """Encode what `loads` decoded; every number keeps its digits."""
    return (_sorting_encoder if sort_keys else _encoder).encode(value).decode()


def map_json(
    value: JsonValue,
    *,
    text: Callable[[str], JsonValue] = str,
    number: Callable[[int | Decimal], JsonValue] | None = None,
    keys: Callable[[JsonObject], JsonObject] = dict.copy,
) -> JsonValue:
    """Return a copy of the value with changes at any depth.

    :param keys: returns a copy of an object with other keys or values, before what is inside of it is changed
    """
    top = [value]
    todo: list[Any] = [top]
    while todo:  # JSON may be nested deeper than Python can call
        parent = todo.pop()
        for key, item in parent.items() if isinstance(parent, dict) else enumerate(parent):
            if isinstance(item, str):
                parent[key] = text(item)
            elif isinstance(item, dict | list):
                parent[key] = kept = keys(item) if isinstance(item, dict) else item.copy()
                todo.append(kept)
            elif number and item is not None and not isinstance(item, bool):
                parent[key] = number(item)
    return top[0]


def text(value: JsonValue) -> str:
    """Return text."""
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def instant(value: JsonValue) -> datetime:
    """Return a date-time as an instant in UTC, to the microsecond.

    With or without fraction; `Z`, `+00:00`, `+0000` or another offset; naive is taken as UTC. A number is
    rejected, because its unit is unknown: seconds or milliseconds.
    """
    if not isinstance(value, str) or not (match := _DATE_TIME.fullmatch(value)):
        raise ValueError("not an RFC 3339 date-time")
    day, clock, fraction, offset = match.groups()
    parsed = datetime.fromisoformat(f"{day}T{clock}{(fraction or '')[:7]}{(offset or 'Z').upper()}")
    try:
        return parsed.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999 in UTC") from None


def exact_decimal(value: JsonValue) -> Decimal:
    """Return the exact number, also if it is written as a string."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError("not a number")
    # Decimal() also reads " 1", "1_000", "NaN" and the digits of every alphabet.
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError("not a number")
    try:
        number = Decimal(value)
    except ArithmeticError:
        raise ValueError("not a number") from None
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number


def number(value: JsonValue) -> float:
    """Return a number as a double; raise if the double does not represent it exactly."""
    exact = exact_decimal(value)
    try:
        double = float(exact)
    except OverflowError:
        raise ValueError("too large for a double") from None
    if Decimal(repr(double)) != exact:
        raise ValueError("more digits than a double holds")
    return double + 0.0  # zero has no sign


def count(value: JsonValue) -> int:
    """Return a whole number of 64 bits."""
    exact = exact_decimal(value)
    if exact.adjusted() > 19 or exact != (whole := int(exact)) or whole not in _INT64:
        raise ValueError("not a whole number of 64 bits")
    return whole
