"""How does a conversation's JSON become a row?

Each column takes its value out of the conversation. What nobody took is the `extra`, so nothing is ever lost: neither
a key that no column knows, nor a value that its column cannot hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from voiceos_provider.api import values
from voiceos_provider.api.models import Rejected
from voiceos_provider.interval import Interval
from voiceos_provider.records.columns import CONVERSATIONS, SCHEMA, Column
from voiceos_provider.records.configurations import Configuration, Configurations
from voiceos_provider.records.secrets import without_secrets

_APART = ("agent_config", "messages")  # large, and kept as JSON
_TAKING = tuple(column for column in CONVERSATIONS if column.path and column.path[0] not in _APART)
_HOLDERS = sorted({c.path[:n] for c in _TAKING for n in range(1, len(c.path))}, key=len, reverse=True)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(tuple[msgspec.Raw, ...])

_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of some conversations.

    :param batch: their rows, by `SCHEMA`
    :param rejected: those that cannot be keyed
    :param odd: per column or key, how many values were of another kind than documented
    """

    batch: pa.RecordBatch
    rejected: list[Rejected] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)


class Decoder:
    """Turns conversations into rows of one export.

    :param interval: the interval of creation time they were asked for
    :param exported_at: when the export began
    """

    def __init__(self, interval: Interval, exported_at: datetime) -> None:
        self._constants = {
            "_interval_start": interval.start,
            "_interval_end": interval.end,
            "_exported_at": exported_at,
        }
        self._configurations = Configurations()

    def decode(self, items: Iterable[msgspec.Raw]) -> Decoded:
        """One row per conversation, in their order. An odd value costs itself; only a missing id costs a row."""
        rows: list[_Row] = []
        rejected: list[Rejected] = []
        odd: Counter[str] = Counter()
        for item in items:
            try:
                rows.append(self._row(item, odd))
            except ValueError as error:
                rejected.append(Rejected(str(error), _presentable(item)))
        columns = [pa.array([row.get(c.name) for row in rows], c.kind.arrow) for c in CONVERSATIONS]
        return Decoded(pa.RecordBatch.from_arrays(columns, schema=SCHEMA), rejected, odd)

    def _row(self, item: msgspec.Raw, odd: Counter[str]) -> _Row:
        try:
            parts = _fields.decode(item)
        except msgspec.ValidationError:
            raise ValueError("not a JSON object") from None
        rest = {key: values.loads(raw) for key, raw in parts.items() if key not in _APART}
        id_ = rest.get("id")
        if not isinstance(id_, str) or not id_:
            raise ValueError("no usable id")
        row: _Row = dict(self._constants)
        row.update(self._configuration(parts, rest, odd).columns)
        _take_messages(parts, row, rest, odd)
        empty = [path for path in _HOLDERS if _holder(rest, path) == {}]
        for column in _TAKING:
            row[column.name] = _take(column, rest, odd)
        _put_away_holders(rest, empty, odd)
        started, ended = row["started_at"], row["ended_at"]
        if started and ended and started <= ended:
            row["duration_seconds"] = (ended - started).total_seconds()
        row["extra"] = values.dumps(without_secrets(rest)) if rest else None
        return row

    def _configuration(self, parts: dict[str, msgspec.Raw], rest: _Row, odd: Counter[str]) -> Configuration:
        raw = parts.get("agent_config")
        if raw is None or bytes(raw) == b"null":
            return Configuration()
        try:
            configuration = self._configurations.read(raw)
        except ValueError:
            rest["agent_config"] = values.loads(raw)
            odd["agent_config"] += 1
            return Configuration()
        odd.update(configuration.odd)
        return configuration


def _take_messages(parts: dict[str, msgspec.Raw], row: _Row, rest: _Row, odd: Counter[str]) -> None:
    raw = parts.get("messages")
    if raw is None or bytes(raw) == b"null":
        return
    try:
        row["message_count"] = len(_elements.decode(raw))
        row["messages"] = msgspec.json.format(bytes(raw), indent=-1).decode()  # on one line, digits untouched
    except msgspec.ValidationError:
        rest["messages"] = values.loads(raw)
        odd["messages"] += 1


def _take(column: Column, rest: _Row, odd: Counter[str]) -> Any:
    holder = _holder(rest, column.path[:-1])
    if not isinstance(holder, dict):
        return None
    value = holder.pop(column.path[-1], None)
    if value is None:
        return None
    try:
        return column.kind.read(value)
    except ValueError:
        holder[column.path[-1]] = value
        odd[column.name] += 1
        return None


def _holder(rest: _Row, path: tuple[str, ...]) -> Any:
    value: Any = rest
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _put_away_holders(rest: _Row, empty: list[tuple[str, ...]], odd: Counter[str]) -> None:
    """Drop the objects that columns have emptied; keep those that were sent empty, or are no objects."""
    for path in _HOLDERS:
        outer = _holder(rest, path[:-1])
        if not isinstance(outer, dict) or path[-1] not in outer:
            continue
        value = outer[path[-1]]
        if value is None or (value == {} and path not in empty):
            del outer[path[-1]]
        elif not isinstance(value, dict):
            odd[".".join(path)] += 1


def _presentable(item: msgspec.Raw) -> bytes:
    return values.dumps(without_secrets(values.loads(item))).encode()
