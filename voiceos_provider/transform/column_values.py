"""Values of columns: the fast path reads a whole column at once, the fallback decoder one value at a time.

For each kind of column there is a function for either, such as `money_column` and `money`. Both lead to the same value,
which a test compares. A column that cannot hold a value exactly does not hold it at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from functools import reduce
from operator import attrgetter, getitem
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.client import values
from voiceos_provider.client.models import NULL, ConversationStruct
from voiceos_provider.transform import schema
from voiceos_provider.transform.credentials import MAY_HOLD_URL_SECRET, mask_urls

_INTEGER_DIGITS = schema.MONEY_DIGITS - schema.MONEY_PLACES
_PLACES = Decimal(1).scaleb(-schema.MONEY_PLACES)
_MONEY_CONTEXT = Context(prec=schema.MONEY_DIGITS, traps=[InvalidOperation])

# What a whole column is read from. The functions for one value also accept other spellings.
_AMOUNT = rf"^-?\d{{1,{_INTEGER_DIGITS}}}(\.\d{{1,{schema.MONEY_PLACES}}})?$"
_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"
_DATE_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$"
_EXACT_DIGITS = 15  # a double holds any fifteen digits
_INT64 = range(-(2**63), 2**63)
_COMMA = ord(",")

_Result = tuple[pa.Array | None, Sequence[int]]
"""The column, or None if it can only be read without its invalid values; and the positions of invalid values."""


def text(value: values.JsonValue) -> str:
    """Return a text with the secrets in its URLs masked."""
    return mask_urls(values.text(value))


def text_column(sent: list[str | None]) -> _Result:
    """Return texts with the secrets in their URLs masked."""
    return mask_url_secrets(pa.array(sent, pa.string())), ()


def mask_url_secrets(texts: pa.Array) -> pa.Array:
    """Return the texts with the secrets in their URLs masked."""
    buffer = texts.buffers()[2]
    data = b"" if buffer is None else buffer.to_pybytes()
    if b"/" not in data or b"://" not in data:  # one byte is found ten times as fast
        return texts
    masked = {
        position: mask_urls(texts[position].as_py())
        for position in _positions(pc.match_substring_regex(texts, MAY_HOLD_URL_SECRET))
    }
    if not masked:
        return texts
    return pa.array([masked.get(at, text) for at, text in enumerate(texts.to_pylist())], pa.string())


def instant(value: values.JsonValue) -> datetime:
    """Return an instant that every reader of the tables holds."""
    moment = values.instant(value)
    if not schema.FIRST_INSTANT <= moment <= schema.LAST_INSTANT:
        raise ValueError(
            f"outside the years {schema.FIRST_INSTANT.year} to {schema.LAST_INSTANT.year} in UTC"
        )
    return moment


def instant_column(sent: list[str | None]) -> _Result:
    """Return the instants of date-times."""
    texts = pa.array(sent, pa.string())
    if invalid := _mismatches(texts, _DATE_TIME):
        return None, invalid
    instants = _cast(texts, schema.INSTANT)
    if instants is None:  # such as 30 February
        return None, [at for at, text in enumerate(sent) if text is not None and not _can_read(instant, text)]
    first, last = (
        pa.scalar(moment, schema.INSTANT.arrow) for moment in (schema.FIRST_INSTANT, schema.LAST_INSTANT)
    )
    return instants, _positions(pc.or_(pc.less(instants, first), pc.greater(instants, last)))


def money(value: values.JsonValue) -> Decimal:
    """Return an exact amount."""
    amount = values.exact_decimal(value)
    try:
        held = amount.quantize(_PLACES, context=_MONEY_CONTEXT)
    except InvalidOperation:
        raise ValueError(f"more than {_INTEGER_DIGITS} digits before the point") from None
    if held != amount:
        raise ValueError(f"more than {schema.MONEY_PLACES} decimal places")
    return held


def money_column(sent: list[msgspec.Raw]) -> _Result:
    """Return the exact amounts of JSON numbers."""
    texts, has_exponent = _number_texts(sent)
    # Arrow's cast reads 1e-411 as zero, and from 15 integer digits on it may overflow without an error.
    if not has_exponent and _fits_money(texts) and (amounts := _cast(texts, schema.MONEY)) is not None:
        return amounts, ()
    invalid = _mismatches(texts, _AMOUNT)
    return None if invalid else _cast(texts, schema.MONEY), invalid


def _fits_money(texts: pa.Array) -> bool:
    """Return whether no text has more digits than the column, before or after the point. A sign counts as a digit."""
    lengths, points = pc.binary_length(texts), pc.find_substring(texts, ".")
    digits = pc.max(pc.if_else(pc.less(points, 0), lengths, points)).as_py() or 0
    places = pc.max(pc.subtract(lengths, points)).as_py() or 0  # with the point
    return digits <= _INTEGER_DIGITS and places <= schema.MONEY_PLACES + 1


def number_column(sent: list[msgspec.Raw]) -> _Result:
    """Return the doubles of JSON numbers that they represent exactly."""
    texts, has_exponent = _number_texts(sent)
    unsure = pc.greater(pc.binary_length(texts), _EXACT_DIGITS)
    if has_exponent:
        unsure = pc.or_(unsure, pc.match_substring(texts, "e", ignore_case=True))
    invalid = [at for at in _positions(unsure) if not _can_read(values.number, texts[at].as_py())]
    doubles = None if invalid else _cast(texts, schema.NUMBER)
    if doubles is None:
        return None, invalid or _mismatches(texts, _NUMBER)
    return pc.add(doubles, 0.0), ()  # zero has no sign


def count_column(sent: list[int | None]) -> _Result:
    """Return whole numbers of 64 bits."""
    try:
        return pa.array(sent, schema.COUNT.arrow), ()
    except OverflowError:
        return None, [at for at, value in enumerate(sent) if value is not None and value not in _INT64]


CONVERTERS: Final[dict[schema.Kind, Callable[[values.JsonValue], Any]]] = {
    schema.TEXT: text,
    schema.INSTANT: instant,
    schema.MONEY: money,
    schema.NUMBER: values.number,
    schema.COUNT: values.count,
}
"""Functions that convert one JSON value to the type of its column, or raise ValueError."""

_COLUMN_CONVERTERS: Final[dict[schema.Kind, Callable[[list[Any]], _Result]]] = {
    schema.TEXT: text_column,
    schema.INSTANT: instant_column,
    schema.MONEY: money_column,
    schema.NUMBER: number_column,
    schema.COUNT: count_column,
}


def _conversation_without_values() -> Any:
    sent: dict[str, Any] = {"id": "none"}
    for path in schema.SOURCE_OBJECTS:
        parent = reduce(getitem, path[:-1], sent)
        parent[path[-1]] = {c.path[-1]: None for c in schema.SOURCE_COLUMNS if c.path[:-1] == path}
    return msgspec.json.decode(msgspec.json.encode(sent), type=ConversationStruct)


_WITHOUT_VALUES = _conversation_without_values()
_MISSING = {path: attrgetter(".".join(path))(_WITHOUT_VALUES) for path in schema.SOURCE_OBJECTS}
"""For each object inside of a conversation one that takes the place of a missing one."""


def decode_columns(conversations: Sequence[Any]) -> tuple[dict[str, pa.Array], set[int]]:
    """Return `SOURCE_COLUMNS` of documented conversations, and the positions of those for the fallback decoder.

    The columns have any value at these positions.
    """
    size = len(conversations)
    objects: dict[schema.Path, list[Any]] = {(): list(conversations)}
    for path, missing in _MISSING.items():
        inner = map(attrgetter(path[-1]), objects[path[:-1]])
        objects[path] = [missing if value is None else value for value in inner]
    columns: dict[str, pa.Array] = {}
    positions: set[int] = set()
    for kind, convert in _COLUMN_CONVERTERS.items():
        of_kind = [column for column in schema.SOURCE_COLUMNS if column.kind is kind]
        sent: list[Any] = []
        for column in of_kind:
            sent += map(attrgetter(column.path[-1]), objects[column.path[:-1]])
        whole, invalid = convert(sent)
        while whole is None:
            invalid = invalid or range(len(sent))  # Arrow refuses values that look valid
            positions.update(position % size for position in invalid)
            for position in invalid:
                sent[position] = NULL if kind in (schema.MONEY, schema.NUMBER) else None
            whole, invalid = convert(sent)
        positions.update(position % size for position in invalid)
        columns |= {column.name: whole.slice(n * size, size) for n, column in enumerate(of_kind)}
    columns["id"] = pa.array([conversation.id for conversation in conversations], pa.string())  # never masked
    return columns, positions


def _number_texts(sent: list[msgspec.Raw]) -> tuple[pa.Array, bool]:
    """Return the JSON text of each value, null for null; and whether there may be an exponent."""
    size = len(sent)
    joined = b",".join(sent)
    has_exponent = b"e" in joined or b"E" in joined
    data = np.frombuffer(joined, np.uint8)
    is_comma = data == _COMMA
    commas = np.flatnonzero(is_comma)
    if len(commas) != size - 1:  # one of them is not a number and contains a comma
        texts = pa.array(map(bytes, sent), pa.binary(), size=size).cast(pa.string())
        return pc.if_else(pc.equal(texts, "null"), None, texts), has_exponent
    ends = np.append(commas, len(data)) - np.arange(size)
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    data = data[~is_comma]
    is_null = np.diff(offsets) == len(NULL)
    is_null[is_null] = data[offsets[:-1][is_null]] == ord("n")
    valid = np.packbits(~is_null, bitorder="little")
    return pa.StringArray.from_buffers(size, *map(pa.py_buffer, (offsets, data, valid))), has_exponent


def _cast(texts: pa.Array, kind: schema.Kind) -> pa.Array | None:
    try:
        return texts.cast(kind.arrow)
    except pa.ArrowInvalid:
        return None


def _can_read(read: Callable[[str], Any], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _mismatches(texts: pa.Array, pattern: str) -> list[int]:
    return _positions(pc.invert(pc.match_substring_regex(texts, pattern)))


def _positions(mask: pa.Array) -> list[int]:
    found: list[int] = np.flatnonzero(pc.fill_null(mask, False)).tolist()
    return found
