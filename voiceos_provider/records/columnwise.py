"""How do conversations that are exactly as documented become columns, a whole column at a time?

What a column cannot take as a whole, such as a number with more digits than it holds, is pointed out, and its
conversation is read value by value instead: see `careful`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, Final, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.api.documented import Documented
from voiceos_provider.records.careful import TAKEN
from voiceos_provider.records.kinds import COUNT, INSTANT, MONEY, NUMBER, TEXT

_DATE_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$"
_ALWAYS_EXACT = 15  # a double holds any fifteen digits

_FIRST, _LAST = (
    pa.scalar(moment.replace(tzinfo=UTC), INSTANT.arrow)
    for moment in (datetime.min, datetime.max)  # noqa: DTZ901
)

_HOLDERS: Final = sorted({column.path[:n] for column in TAKEN for n in range(1, len(column.path))}, key=len)


def _empty(path: tuple[str, ...]) -> Any:
    """An object of this place in which nothing was sent. With it, no value of a column needs a question of its own."""
    kind = Documented
    for step in path:
        (declared,) = (field for field in msgspec.structs.fields(kind) if field.name == step)
        (kind,) = (member for member in get_args(declared.type) if member is not type(None))
    return SimpleNamespace(**{declared.name: declared.default for declared in msgspec.structs.fields(kind)})


_EMPTY: Final = {path: _empty(path) for path in _HOLDERS}


def take_columns(conversations: Sequence[Any]) -> tuple[dict[str, pa.Array], set[int]]:
    """The columns of `TAKEN`, and the positions of conversations that they do not hold.

    If there is such a position, the columns are not complete and must be taken again without it.
    """
    columns: dict[str, pa.Array] = {}
    misfits: set[int] = set()
    holders: dict[tuple[str, ...], Sequence[Any]] = {(): conversations}
    for path in _HOLDERS:
        empty = _EMPTY[path]
        sent = map(attrgetter(path[-1]), holders[path[:-1]])
        holders[path] = [empty if holder is None else holder for holder in sent]
    for column in TAKEN:
        values = list(map(attrgetter(column.path[-1]), holders[column.path[:-1]]))
        try:
            columns[column.name], bad = _READERS[column.kind](values)
        except (pa.ArrowInvalid, OverflowError, ValueError):
            bad = [at for at, value in enumerate(values) if not _fits(column.kind, value)]
        misfits.update(bad)
    return columns, misfits


def _fits(kind: Any, value: Any) -> bool:
    try:
        _, bad = _READERS[kind]([value])
    except (pa.ArrowInvalid, OverflowError, ValueError):
        return False
    return not bad


def _texts(sent: list[Any]) -> tuple[pa.Array, list[int]]:
    column = pa.array(sent, pa.string())
    # A URL may hold a credential, which only a careful look tells.
    return column, _positions(pc.match_substring(column, "://"))


def _instants(sent: list[Any]) -> tuple[pa.Array, list[int]]:
    column = pa.array(sent, pa.string())
    bad = _positions(pc.invert(pc.match_substring_regex(column, _DATE_TIME)))
    if bad:
        return column, bad
    instants = column.cast(INSTANT.arrow)
    beyond = pc.or_(pc.less(instants, _FIRST), pc.greater(instants, _LAST))  # an offset can lead there
    return instants, _positions(beyond)


def _money(sent: list[Any]) -> tuple[pa.Array, list[int]]:
    column = _numbers(sent)
    bad = _positions(pc.match_substring(column, "e", ignore_case=True))  # Arrow takes 1e-411 for nothing
    return (column if bad else column.cast(MONEY.arrow)), bad  # exactly, or Arrow refuses


def _doubles(sent: list[Any]) -> tuple[pa.Array, list[int]]:
    column = _numbers(sent)
    unsure = pc.or_(
        pc.greater(pc.binary_length(column), _ALWAYS_EXACT), pc.match_substring(column, "e", ignore_case=True)
    )
    bad = [at for at in _positions(unsure) if repr(float(bytes(sent[at]))).encode() != bytes(sent[at])]
    return pc.add(column.cast(NUMBER.arrow), 0.0), bad  # zero has no sign


def _counts(sent: list[Any]) -> tuple[pa.Array, list[int]]:
    return pa.array(sent, COUNT.arrow), []


def _numbers(sent: list[Any]) -> pa.Array:
    texts = pa.array(map(bytes, sent), pa.binary(), size=len(sent)).cast(pa.string())
    return pc.if_else(pc.equal(texts, "null"), None, texts)


def _positions(mask: pa.Array) -> list[int]:
    found: list[int] = np.flatnonzero(pc.fill_null(mask, False)).tolist()
    return found


_READERS: Final = {TEXT: _texts, INSTANT: _instants, MONEY: _money, NUMBER: _doubles, COUNT: _counts}
