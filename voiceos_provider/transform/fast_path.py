"""How do conversations that are exactly as documented become columns, a whole column at a time?

What a column cannot take as a whole, such as a number with more digits than it holds, is pointed out, and its
conversation is read value by value instead: see `careful`.
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
from voiceos_provider.transform.column_types import (
    COUNT,
    FIRST_INSTANT,
    INSTANT,
    LAST_INSTANT,
    MONEY,
    NUMBER,
    TEXT,
    Kind,
)
from voiceos_provider.transform.fallback_decoder import TAKEN
from voiceos_provider.transform.text_search import may_hold, without_secret_urls

_DATE_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$"
_INTEGER_DIGITS, _FRACTION_DIGITS = 14, 24
_AMOUNT = rf"^-?\d{{1,{_INTEGER_DIGITS}}}(\.\d{{1,{_FRACTION_DIGITS}}})?$"
_A_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"
_ALWAYS_EXACT = 15  # a double holds any fifteen digits
_TRANSPOSED_AT_ONCE = 256  # more tuples would set the garbage collector going
_COMMA, _POINT = ord(","), ord(".")
_INT64 = range(-(2**63), 2**63)
_NULL = b"null"

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Holder:
    """A kind of object that holds values of a conversation.

    :param values: their paths
    :param missing: what stands for them where the object itself is missing
    """

    values: tuple[Path, ...]
    missing: tuple[Any, ...]

    @classmethod
    def at(cls, path: Path) -> _Holder:
        kind = ConversationStruct
        for step in path:
            (declared,) = (field for field in msgspec.structs.fields(kind) if field.name == step)
            (kind,) = (member for member in get_args(declared.type) if member is not type(None))
        fields = msgspec.structs.fields(kind)
        return cls(
            tuple((*path, field.name) for field in fields),
            tuple(NULL if field.type is msgspec.Raw else None for field in fields),
        )


_TOP: Final = _Holder.at(())
_HOLDERS: Final = {
    path: _Holder.at(path)
    for path in sorted({column.path[:n] for column in TAKEN for n in range(1, len(column.path))}, key=len)
}


def take_columns(conversations: Sequence[Any]) -> tuple[dict[str, pa.Array], set[int]]:
    """The columns of `TAKEN`, and the positions of conversations that they do not hold.

    If there is such a position, the columns are not complete and must be taken again without it. Others may be found
    then, for a column names what it stumbles over first.
    """
    size = len(conversations)
    sent = _transposed(conversations)
    columns: dict[str, pa.Array] = {}
    misfits: set[int] = set()
    for kind, read in _READERS.items():
        taken = [column for column in TAKEN if column.kind is kind]
        whole, bad = read(list(chain.from_iterable(sent[column.path] for column in taken)))
        if whole is None and not bad:  # Arrow refuses what nothing is wrong with
            bad = range(size)
        misfits.update(at % size for at in bad)
        if whole is not None:
            columns |= {column.name: whole.slice(n * size, size) for n, column in enumerate(taken)}
    return columns, misfits


def _transposed(conversations: Sequence[Any]) -> dict[Path, list[Any]]:
    """For each path, the values of all conversations."""
    sent: dict[Path, list[Any]] = {
        path: [] for holder in (_TOP, *_HOLDERS.values()) for path in holder.values
    }
    for first in range(0, len(conversations), _TRANSPOSED_AT_ONCE):
        some = conversations[first : first + _TRANSPOSED_AT_ONCE]
        block = dict(zip(_TOP.values, zip(*map(astuple, some), strict=True), strict=True))
        for path, holder in _HOLDERS.items():
            rows = [holder.missing if item is None else astuple(item) for item in block[path]]
            block |= zip(holder.values, zip(*rows, strict=True), strict=True)
        for path, values in block.items():
            sent[path] += values
    return sent


_Whole = tuple[pa.Array | None, Sequence[int]]
"""Some columns one after the other, or None if not all of their values fit; and the positions of those."""


def _texts(sent: list[Any]) -> _Whole:
    texts = pa.array(sent, pa.string())
    return texts, [*without_secret_urls(texts)]


def _instants(sent: list[Any]) -> _Whole:
    texts = pa.array(sent, pa.string())
    bad = _positions(pc.invert(pc.match_substring_regex(texts, _DATE_TIME)))
    if bad:
        return None, bad
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


def _money(sent: list[Any]) -> _Whole:
    texts = _numbers(sent)
    # Arrow's cast reads 1e-411 as zero, and from 15 integer digits on it may overflow without an error.
    is_sure = not may_hold(texts, b"e") and not may_hold(texts, b"E") and _fits_decimal(texts)
    if is_sure or not (misfits := _not_amounts(texts)):
        try:
            return texts.cast(MONEY.arrow), ()
        except pa.ArrowInvalid:
            misfits = _not_amounts(texts)
    return None, misfits


def _not_amounts(texts: pa.Array) -> list[int]:
    return _positions(pc.invert(pc.match_substring_regex(texts, _AMOUNT)))


def _fits_decimal(texts: pa.Array) -> bool:
    """Whether no text has more digits than the column, before or after the point. A sign counts as a digit."""
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
    return bool(points.all() and (lengths[long] - points - 1).max() <= _FRACTION_DIGITS)


def _doubles(sent: list[Any]) -> _Whole:
    texts = _numbers(sent)
    unsure = pc.greater(pc.binary_length(texts), _ALWAYS_EXACT)
    if may_hold(texts, b"e") or may_hold(texts, b"E"):
        unsure = pc.or_(unsure, pc.match_substring(texts, "e", ignore_case=True))
    if bad := [at for at in _positions(unsure) if not _is_double(texts[at].as_py())]:
        return None, bad
    try:
        return pc.add(texts.cast(NUMBER.arrow), 0.0), ()  # zero has no sign
    except pa.ArrowInvalid:
        return None, _positions(pc.invert(pc.match_substring_regex(texts, _A_NUMBER)))


def _is_double(text: str) -> bool:
    try:
        return repr(float(text)) == text
    except ValueError:
        return False


def _counts(sent: list[Any]) -> _Whole:
    try:
        return pa.array(sent, COUNT.arrow), ()
    except OverflowError:
        return None, [at for at, value in enumerate(sent) if isinstance(value, int) and value not in _INT64]


def _numbers(sent: list[Any]) -> pa.Array:
    """The JSON text of each value; null for null."""
    size = len(sent)
    joined = b",".join(sent)
    data = np.frombuffer(joined, np.uint8)
    is_comma = data == _COMMA
    commas = np.flatnonzero(is_comma)
    if len(commas) != size - 1:  # one of them is no number and has a comma of its own
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


_READERS: Final[dict[Kind, Callable[[list[Any]], _Whole]]] = {
    TEXT: _texts,
    INSTANT: _instants,
    MONEY: _money,
    NUMBER: _doubles,
    COUNT: _counts,
}
