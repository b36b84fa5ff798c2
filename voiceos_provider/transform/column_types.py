"""Which kinds of column are there, and what fits into each?

A column holds a value exactly or not at all; a date-time to the microsecond, in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from voiceos_provider.client import values
from voiceos_provider.client.values import JsonValue

_PRECISION, _SCALE = 38, 24
"""24 places hold a double's noise (0.056900000000000006) below a thousandth of a cent; 14 digits remain above."""

FIRST_INSTANT = datetime(1900, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(2261, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""The years that every reader holds: Spark 3 and ClickHouse begin with 1900, and 64 bits of nanoseconds since 1970 end
in 2262. A conversation outside of them has a sentinel for a time, such as Go's zero time or 9999-12-31."""

_UNIT = Decimal(1).scaleb(-_SCALE)
_CONTEXT = Context(prec=_PRECISION, traps=[InvalidOperation])


@dataclass(frozen=True, slots=True)
class Kind:
    """How a JSON value becomes a value of a column.

    :param arrow: the column's type
    :param read: returns the value, or raises ValueError if the column cannot hold it exactly
    """

    name: str
    arrow: pa.DataType
    read: Callable[[JsonValue], Any]


def _money(value: JsonValue) -> Decimal:
    amount = values.exact_decimal(value)
    try:
        held = amount.quantize(_UNIT, context=_CONTEXT)
    except InvalidOperation:
        raise ValueError(f"more than {_PRECISION - _SCALE} digits before the point") from None
    if held != amount:
        raise ValueError(f"more than {_SCALE} decimal places")
    return held


def _instant(value: JsonValue) -> datetime:
    moment = values.instant(value)
    if not FIRST_INSTANT <= moment <= LAST_INSTANT:
        raise ValueError(f"outside the years {FIRST_INSTANT.year} to {LAST_INSTANT.year} in UTC")
    return moment


def _flag(value: JsonValue) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not a boolean")
    return value


TEXT = Kind("text", pa.string(), values.text)
INSTANT = Kind("instant", pa.timestamp("us", tz="UTC"), _instant)
MONEY = Kind("money", pa.decimal128(_PRECISION, _SCALE), _money)
NUMBER = Kind("number", pa.float64(), values.number)
COUNT = Kind("count", pa.int64(), values.count)
FLAG = Kind("flag", pa.bool_(), _flag)
JSON = Kind("json", pa.string(), values.dumps)
