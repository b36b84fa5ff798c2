"""How is a conversation read that is not exactly as documented?

Value by value: each column takes its value out of the conversation, and what nobody took is the `extra`. So nothing is
lost: neither a key that no column knows, nor a value that its column cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from voiceos_provider.client import values
from voiceos_provider.transform.agent_configs import NONE, Configuration, Configurations
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import CONVERSATION_MESSAGES, CONVERSATIONS, Column
from voiceos_provider.transform.schema_drift import Drift, presentable_name
from voiceos_provider.transform.secrets import MASK, without_secrets

_APART = ("agent_config", "messages")
TAKEN = tuple(column for column in CONVERSATIONS.columns if column.path and column.path[0] not in _APART)
"""The columns whose values stand in the conversation itself."""

_HOLDERS = sorted({c.path[:n] for c in TAKEN for n in range(1, len(c.path))}, key=len, reverse=True)
_ROLE, _CONTENT = (column for column in CONVERSATION_MESSAGES.columns if column.path)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

Row = dict[str, Any]


class RejectionError(Exception):
    """Why a conversation cannot be a row."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, read."""

    role: str | None
    content: str | None
    extra: str | None


@dataclass(slots=True)
class Read:
    """A conversation, read.

    :param row: its values of `TAKEN`, and `extra`
    :param configuration: what it ran with
    :param messages: None if there is no list of them
    """

    row: Row
    configuration: Configuration = NONE
    messages: list[Turn] | None = None
    drift: Drift = field(default_factory=Drift)


class Reader:
    """Reads conversations value by value."""

    def __init__(self, configurations: Configurations, redaction: Redaction) -> None:
        self._configurations = configurations
        self._privacy = redaction

    def read(self, item: bytes | msgspec.Raw) -> Read:
        """Read one conversation's JSON.

        :raises RejectionError: if it has no usable id
        :raises ValueError: if it cannot be read at all
        """
        try:
            parts = _fields.decode(item)
        except msgspec.ValidationError:
            raise RejectionError("not a JSON object") from None
        except msgspec.DecodeError as error:  # a ValueError since msgspec 0.21 only; Airflow pins older ones
            raise ValueError(str(error)) from None
        sent = {key: values.loads(raw) for key, raw in parts.items() if key not in _APART}
        id_ = sent.get("id")
        if not isinstance(id_, str) or not id_:
            raise RejectionError("no usable id")
        rest = without_secrets(sent) | {"id": id_}
        read = Read({})
        self._read_configuration(parts.get("agent_config"), read, rest)
        self._read_messages(parts.get("messages"), read, rest)
        empty = [path for path in _HOLDERS if _holder(rest, path) == {}]
        for column in TAKEN:
            read.row[column.name] = _take(column, rest, read.drift)
        _put_away_holders(rest, empty, read.drift)
        _name_unknown_keys(rest, (), read.drift)
        if rest:
            rest = self._privacy.leftover(rest)
        read.row["extra"] = values.dumps(rest, sort_keys=True) if rest else None
        return read

    def _read_configuration(self, raw: msgspec.Raw | None, read: Read, rest: Row) -> None:
        if raw is None:
            return
        try:
            read.configuration = self._configurations.read(raw)
        except ValueError:
            rest["agent_config"] = without_secrets(values.loads(raw))
            read.drift.odd_values["agent_config"] += 1

    def _read_messages(self, raw: msgspec.Raw | None, read: Read, rest: Row) -> None:
        messages = None if raw is None else without_secrets(values.loads(raw))
        if messages is None:
            return
        if not isinstance(messages, list):
            rest["messages"] = messages
            read.drift.odd_values["messages"] += 1
            return
        read.messages = [self._message(message, read.drift) for message in messages]

    def _message(self, message: Any, drift: Drift) -> Turn:
        if not isinstance(message, dict):
            drift.odd_values["messages[]"] += 1
            role, content, rest = None, None, message
        else:
            rest = {"messages": {"[]": dict(message)}}
            role, content = _take(_ROLE, rest, drift), _take(_CONTENT, rest, drift)
            rest = rest["messages"]["[]"]
            _name_unknown_keys(rest, ("messages", "[]"), drift)
        if self._privacy.messages == "drop":
            return Turn(role, None, None)
        return Turn(role, content, None if rest == {} else values.dumps(self._privacy.without_numbers(rest)))


def presentable(item: bytes | msgspec.Raw, redaction: Redaction) -> bytes:
    """A rejected conversation without its credentials, and without what is not to be kept of people.

    Only a mask, if it cannot be read and so not be searched.
    """
    try:
        shown = without_secrets(values.loads(item))
        if not redaction.keeps_everything:
            shown = redaction.leftover(shown) if isinstance(shown, dict) else MASK
        return values.dumps(shown).encode()
    except (ValueError, RecursionError):
        return values.dumps(MASK).encode()


def _take(column: Column, rest: Row, drift: Drift) -> Any:
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
        drift.odd_values[column.name] += 1
        return None


def _holder(rest: Row, path: tuple[str, ...]) -> Any:
    value: Any = rest
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _put_away_holders(rest: Row, empty: list[tuple[str, ...]], drift: Drift) -> None:
    """Drop the objects that columns have emptied; keep those that were sent empty, or are no objects."""
    for path in _HOLDERS:
        outer = _holder(rest, path[:-1])
        if not isinstance(outer, dict) or path[-1] not in outer:
            continue
        value = outer[path[-1]]
        if value is None or (value == {} and path not in empty):
            del outer[path[-1]]
        elif not isinstance(value, dict):
            drift.odd_values[".".join(path)] += 1


_KNOWN = {c.path[:n] for c in (*TAKEN, _ROLE, _CONTENT) for n in range(1, len(c.path) + 1)} | {
    (name,) for name in _APART
}


def _name_unknown_keys(rest: Row, inside: tuple[str, ...], drift: Drift) -> None:
    for key, value in rest.items():
        path = (*inside, key)
        if path not in _KNOWN:
            drift.unknown_keys[".".join((*inside, presentable_name(key)))] += 1
        elif path in _HOLDERS and isinstance(value, dict):
            _name_unknown_keys(value, path, drift)
