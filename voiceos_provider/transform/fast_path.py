"""Fast path: conversations that are exactly as documented become columns, a whole column at a time.

Where a column cannot hold a value, such as a number with too many digits, the conversation's position is returned and
the fallback decoder decodes it. Both produce the same rows, which a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple

from voiceos_provider.client.models import NULL, ConversationStruct
from voiceos_provider.transform.credentials import MAY_HOLD_URL_SECRET, mask_urls
from voiceos_provider.transform.fallback_decoder import SOURCE_COLUMNS
from voiceos_provider.transform.schema import (
    COUNT,
    FIRST_INSTANT,
    INSTANT,
    LAST_INSTANT,
    MONEY,
    MONEY_DIGITS,
    MONEY_PLACES,
    NUMBER,
    TEXT,
    Kind,
)

_DATE_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$"
_INTEGER_DIGITS = MONEY_DIGITS - MONEY_PLACES
_AMOUNT = rf"^-?\d{{1,{_INTEGER_DIGITS}}}(\.\d{{1,{MONEY_PLACES}}})?$"
_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"
_EXACT_DIGITS = 15  # a double holds any fifteen digits
_BLOCK_SIZE = 256  # more tuples at once would start the garbage collector
_COMMA, _POINT = ord(","), ord(".")
_INT64 = range(-(2**63), 2**63)
_NULL = b"null"

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of the documented conversation.

    :param values: paths of its fields
    :param missing: values of its fields where the object itself is missing
    """

    values: tuple[Path, ...]
    missing: tuple[Any, ...]

    @classmethod
    def at(cls, path: Path) -> _Object:
        struct = ConversationStruct
        for step in path:
            (declared,) = (field for field in msgspec.structs.fields(struct) if field.name == step)
            (struct,) = (member for member in get_args(declared.type) if member is not type(None))
        fields = msgspec.structs.fields(struct)
        return cls(
            tuple((*path, field.name) for field in fields),
            tuple(NULL if field.type is msgspec.Raw else None for field in fields),
        )


_ROOT: Final = _Object.at(())
_NESTED: Final = {
    path: _Object.at(path)
    for path in sorted({c.path[:n] for c in SOURCE_COLUMNS for n in range(1, len(c.path))}, key=len)
}


def decode_columns(conversations: Sequence[Any]) -> tuple[dict[str, pa.Array], set[int]]:
    """Return the columns of `SOURCE_COLUMNS`, and the positions of conversations with a value they cannot hold.

    If there is such a position, the columns are incomplete and must be decoded again without it. Others may be found
    then, because a column is decoded only up to the first invalid value.
    """
    size = len(conversations)
    values = _transpose(conversations)
    columns: dict[str, pa.Array] = {}
    invalid: set[int] = set()
    for kind, decode in _DECODERS.items():
        of_kind = [column for column in SOURCE_COLUMNS if column.kind is kind]
        whole, positions = decode(list(chain.from_iterable(values[column.path] for column in of_kind)))
        if whole is None and not positions:  # Arrow refuses values that look valid
            positions = range(size)
        invalid.update(position % size for position in positions)
        if whole is not None:
            columns |= {column.name: whole.slice(n * size, size) for n, column in enumerate(of_kind)}
    return columns, invalid


def _transpose(conversations: Sequence[Any]) -> dict[Path, list[Any]]:
    """Return the values of all conversations for each path."""
    values: dict[Path, list[Any]] = {
        path: [] for object_ in (_ROOT, *_NESTED.values()) for path in object_.values
    }
    for first in range(0, len(conversations), _BLOCK_SIZE):
        some = conversations[first : first + _BLOCK_SIZE]
        block = dict(zip(_ROOT.values, zip(*map(astuple, some), strict=True), strict=True))
        for path, object_ in _NESTED.items():
            rows = [object_.missing if item is None else astuple(item) for item in block[path]]
            block |= zip(object_.values, zip(*rows, strict=True), strict=True)
        for path, column in block.items():
            values[path] += column
    return values


def may_contain(texts: pa.Array, wanted: bytes) -> bool:
    """Return whether a text of the column may contain these bytes.

    The whole buffer of the array is searched: a match may span two texts, or lie outside the array's offset and
    length. True therefore only means that each text has to be checked.
    """
    buffer = texts.buffers()[2]
    if buffer is None:
        return False
    data = buffer.to_pybytes()
    return wanted[-1:] in data and wanted in data  # one byte is found ten times as fast


def find_url_secrets(texts: pa.Array) -> dict[int, str]:
    """Return the masked form of each text with a secret in a URL, by position."""
    if not may_contain(texts, b"://"):
        return {}
    found = np.flatnonzero(pc.fill_null(pc.match_substring_regex(texts, MAY_HOLD_URL_SECRET), False)).tolist()
    candidates = ((position, texts[position].as_py()) for position in found)
    return {position: masked for position, text in candidates if (masked := mask_urls(text)) != text}


_Columns = tuple[pa.Array | None, Sequence[int]]
"""Several columns one after the other, or None if they cannot hold all values; and the positions of invalid values."""


def _texts(sent: list[Any]) -> _Columns:
    texts = pa.array(sent, pa.string())
    return texts, [*find_url_secrets(texts)]


def _instants(sent: list[Any]) -> _Columns:
    texts = pa.array(sent, pa.string())
    invalid = _positions(pc.invert(pc.match_substring_regex(texts, _DATE_TIME)))
    if invalid:
        return None, invalid
    try:
        instants: pa.Array = texts.cast(INSTANT.arrow)
    except pa.ArrowInvalid:
        return None, [at for at, text in enumerate(sent) if text is not None and not _is_instant(text)]
    first, last = (pa.scalar(moment, INSTANT.arrow) for moment in (FIRST_INSTANT, LAST_INSTANT))
    return instants, _positions(pc.or_(pc.less(instants, first), pc.greater(instants, last)))


def _is_instant(text: str) -> bool:
    try:
        INSTANT.read(text)
    except ValueError:
        return False
    return True


def _money(sent: list[Any]) -> _Columns:
    texts = _numbers(sent)
    # Arrow's cast reads 1e-411 as zero, and from 15 integer digits on it may overflow without an error.
    is_amount = not may_contain(texts, b"e") and not may_contain(texts, b"E") and _fits_decimal(texts)
    if is_amount or not (invalid := _invalid_amounts(texts)):
        try:
            return texts.cast(MONEY.arrow), ()
        except pa.ArrowInvalid:
            invalid = _invalid_amounts(texts)
    return None, invalid


def _invalid_amounts(texts: pa.Array) -> list[int]:
    return _positions(pc.invert(pc.match_substring_regex(texts, _AMOUNT)))


def _fits_decimal(texts: pa.Array) -> bool:
    """Return whether no text has more digits than the column, before or after the point. A sign counts as a digit."""
    if not len(texts):
        return True
    _, offsets, data = texts.buffers()
    starts = np.frombuffer(offsets, np.int32)[: len(texts) + 1]
    lengths = np.diff(starts)
    long = np.flatnonzero(lengths > _INTEGER_DIGITS)
    if not long.size:
        return True
    heads = starts[long][:, np.newaxis] + np.arange(_INTEGER_DIGITS + 1)
    points = (np.frombuffer(data, np.uint8)[heads] == _POINT).argmax(axis=1)  # 0 where there is none
    return bool(points.all() and (lengths[long] - points - 1).max() <= MONEY_PLACES)


def _doubles(sent: list[Any]) -> _Columns:
    texts = _numbers(sent)
    unsure = pc.greater(pc.binary_length(texts), _EXACT_DIGITS)
    if may_contain(texts, b"e") or may_contain(texts, b"E"):
        unsure = pc.or_(unsure, pc.match_substring(texts, "e", ignore_case=True))
    if invalid := [at for at in _positions(unsure) if not _is_double(texts[at].as_py())]:
        return None, invalid
    try:
        return pc.add(texts.cast(NUMBER.arrow), 0.0), ()  # zero has no sign
    except pa.ArrowInvalid:
        return None, _positions(pc.invert(pc.match_substring_regex(texts, _NUMBER)))


def _is_double(text: str) -> bool:
    try:
        return repr(float(text)) == text
    except ValueError:
        return False


def _counts(sent: list[Any]) -> _Columns:
    try:
        return pa.array(sent, COUNT.arrow), ()
    except OverflowError:
        return None, [at for at, value in enumerate(sent) if isinstance(value, int) and value not in _INT64]


def _numbers(sent: list[Any]) -> pa.Array:
    """Return the JSON text of each value; null for null."""
    size = len(sent)
    joined = b",".join(sent)
    data = np.frombuffer(joined, np.uint8)
    is_comma = data == _COMMA
    commas = np.flatnonzero(is_comma)
    if len(commas) != size - 1:  # one of them is not a number and contains a comma
        texts = pa.array(map(bytes, sent), pa.binary(), size=size).cast(pa.string())
        return pc.if_else(pc.equal(texts, "null"), None, texts)
    ends = np.append(commas, len(data)) - np.arange(size)
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    data = data[~is_comma]
    is_null = np.diff(offsets) == len(_NULL)
    is_null[is_null] = data[offsets[:-1][is_null]] == _NULL[0]
    valid = np.packbits(~is_null, bitorder="little")
    return pa.StringArray.from_buffers(size, *map(pa.py_buffer, (offsets, data, valid)))


def _positions(mask: pa.Array) -> list[int]:
    found: list[int] = np.flatnonzero(pc.fill_null(mask, False)).tolist()
    return found


_DECODERS: Final[dict[Kind, Callable[[list[Any]], _Columns]]] = {
    TEXT: _texts,
    INSTANT: _instants,
    MONEY: _money,
    NUMBER: _doubles,
    COUNT: _counts,
}
