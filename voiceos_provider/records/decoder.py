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
from voiceos_provider.records.secrets import MASK, without_secrets

_APART = ("agent_config", "messages")  # large, and kept as JSON
_TAKING = tuple(column for column in CONVERSATIONS if column.path and column.path[0] not in _APART)
_HOLDERS = sorted({c.path[:n] for c in _TAKING for n in range(1, len(c.path))}, key=len, reverse=True)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: str | None = None
    content: str | None = None


_turns = msgspec.json.Decoder(list[_Turn])

_Row = dict[str, Any]


class _Rejection(Exception):
    """Why a conversation cannot be a row."""


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
            except _Rejection as error:
                rejected.append(Rejected(str(error), _presentable(item)))
            except (ValueError, RecursionError):
                # What cannot be read cannot be searched for credentials either.
                rejected.append(Rejected("not JSON that can be read", values.dumps(MASK).encode()))
        columns = [pa.array([row.get(c.name) for row in rows], c.kind.arrow) for c in CONVERSATIONS]
        return Decoded(pa.RecordBatch.from_arrays(columns, schema=SCHEMA), rejected, odd)

    def _row(self, item: msgspec.Raw, odd: Counter[str]) -> _Row:
        try:
            parts = _fields.decode(item)
        except msgspec.ValidationError:
            raise _Rejection("not a JSON object") from None
        sent = {key: values.loads(raw) for key, raw in parts.items() if key not in _APART}
        id_ = sent.get("id")
        if not isinstance(id_, str) or not id_:
            raise _Rejection("no usable id")
        rest = without_secrets(sent) | {"id": id_}
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
        row["extra"] = values.dumps(rest) if rest else None
        return row

    def _configuration(self, parts: dict[str, msgspec.Raw], rest: _Row, odd: Counter[str]) -> Configuration:
        raw = parts.get("agent_config")
        if raw is None or bytes(raw) == b"null":
            return Configuration()
        try:
            configuration = self._configurations.read(raw)
        except ValueError:
            rest["agent_config"] = without_secrets(values.loads(raw))
            odd["agent_config"] += 1
            return Configuration()
        odd.update(configuration.odd)
        return configuration


def _take_messages(parts: dict[str, msgspec.Raw], row: _Row, rest: _Row, odd: Counter[str]) -> None:
    raw = parts.get("messages")
    if raw is None or bytes(raw) == b"null":
        return
    try:
        turns = _turns.decode(raw)
    except msgspec.ValidationError:
        turns = None
    if turns is not None and not any(turn.content and "://" in turn.content for turn in turns):
        # As documented, and nothing in it can be a secret: the text that was sent, on one line.
        row["message_count"] = len(turns)
        row["messages"] = msgspec.json.format(bytes(raw), indent=-1).decode()
        return
    messages = without_secrets(values.loads(raw))
    if isinstance(messages, list):
        row["message_count"] = len(messages)
        row["messages"] = values.dumps(messages)
    else:
        rest["messages"] = messages
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
