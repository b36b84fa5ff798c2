"""Fallback decoder: conversations that are not exactly as documented, value by value.

Each column takes its value out of the conversation, and the rest becomes `extra`. So nothing is lost: neither a field
without a column, nor a value that its column cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from voiceos_provider.client import values
from voiceos_provider.transform.agent_configs import NO_CONFIGURATION, Configuration, ConfigurationCache
from voiceos_provider.transform.credentials import MASK, mask_credentials, mask_urls
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import CONVERSATION_MESSAGES, CONVERSATIONS, Column
from voiceos_provider.transform.schema_drift import Drift, safe_name

_DECODED_APART = ("agent_config", "messages")
SOURCE_COLUMNS = tuple(
    column for column in CONVERSATIONS.columns if column.path and column.path[0] not in _DECODED_APART
)
"""The columns of `conversations` whose values are in the conversation itself."""

_PARENTS = sorted({c.path[:n] for c in SOURCE_COLUMNS for n in range(1, len(c.path))}, key=len, reverse=True)
_ROLE, _CONTENT = (column for column in CONVERSATION_MESSAGES.columns if column.path)
_DOCUMENTED = {c.path[:n] for c in (*SOURCE_COLUMNS, _ROLE, _CONTENT) for n in range(1, len(c.path) + 1)} | {
    (name,) for name in _DECODED_APART
}

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

Row = dict[str, Any]


class RejectionError(Exception):
    """A conversation cannot become a row."""


@dataclass(frozen=True, slots=True)
class Message:
    """One decoded message."""

    role: str | None
    content: str | None
    extra: str | None


@dataclass(slots=True)
class FallbackConversation:
    """One decoded conversation.

    :param row: its values of `SOURCE_COLUMNS`, and `extra`
    :param configuration: the configuration it ran with
    :param messages: None if no list of messages was sent
    :param drift: its differences from the contract, those of the configuration aside
    """

    row: Row
    configuration: Configuration = NO_CONFIGURATION
    messages: list[Message] | None = None
    drift: Drift = field(default_factory=Drift)


class FallbackDecoder:
    """Decodes conversations value by value."""

    def __init__(self, configurations: ConfigurationCache, redaction: Redaction) -> None:
        self._configurations = configurations
        self._redaction = redaction

    def decode(self, item: bytes | msgspec.Raw) -> FallbackConversation:
        """Return one conversation from its JSON text.

        :raises RejectionError: if it has no usable id
        :raises ValueError: if it is not JSON
        """
        try:
            parts = _fields.decode(item)
        except msgspec.ValidationError:
            raise RejectionError("not a JSON object") from None
        except msgspec.DecodeError as error:  # a ValueError since msgspec 0.21 only; Airflow pins older ones
            raise ValueError(str(error)) from None
        sent = {key: values.loads(raw) for key, raw in parts.items() if key not in _DECODED_APART}
        id_ = sent.get("id")
        if not isinstance(id_, str) or not id_:
            raise RejectionError("no usable id")
        rest = mask_credentials(sent, mask_urls) | {"id": id_}
        result = FallbackConversation({})
        self._decode_configuration(parts.get("agent_config"), result, rest)
        self._decode_messages(parts.get("messages"), result, rest)
        sent_empty = [path for path in _PARENTS if _value_at(rest, path) == {}]
        for column in SOURCE_COLUMNS:
            result.row[column.name] = _take(column, rest, result.drift)
        _remove_emptied_parents(rest, sent_empty, result.drift)
        _count_undocumented_fields(rest, (), result.drift)
        if rest:
            rest = self._redaction.leftover(mask_credentials(rest))
        result.row["extra"] = values.dumps(rest, sort_keys=True) if rest else None
        return result

    def _decode_configuration(self, raw: msgspec.Raw | None, result: FallbackConversation, rest: Row) -> None:
        if raw is None:
            return
        try:
            result.configuration = self._configurations.decode(raw)
        except ValueError:
            rest["agent_config"] = mask_credentials(values.loads(raw), mask_urls)
            result.drift.invalid_values["agent_config"] += 1

    def _decode_messages(self, raw: msgspec.Raw | None, result: FallbackConversation, rest: Row) -> None:
        messages = None if raw is None else mask_credentials(values.loads(raw), mask_urls)
        if messages is None:
            return
        if not isinstance(messages, list):
            rest["messages"] = messages
            result.drift.invalid_values["messages"] += 1
            return
        result.messages = [self._decode_message(message, result.drift) for message in messages]

    def _decode_message(self, message: Any, drift: Drift) -> Message:
        role, content, rest = None, None, message
        if isinstance(message, dict):
            parents = {"messages": {"[]": dict(message)}}
            role, content = _take(_ROLE, parents, drift), _take(_CONTENT, parents, drift)
            rest = parents["messages"]["[]"]
            _count_undocumented_fields(rest, ("messages", "[]"), drift)
        else:
            drift.invalid_values["messages[]"] += 1
        if self._redaction.messages == "drop":
            return Message(role, None, None)
        if rest == {}:
            return Message(role, content, None)
        rest = self._redaction.mask_numbers(mask_credentials(rest))
        return Message(role, content, values.dumps(rest, sort_keys=True))


def redacted_json(item: bytes | msgspec.Raw, redaction: Redaction) -> bytes:
    """Return a rejected conversation without credentials and without what is not kept of personal data.

    If it is not JSON, it cannot be searched for either, and only a mask remains.
    """
    try:
        value = mask_credentials(values.loads(item))
        if not redaction.keeps_everything:
            value = redaction.leftover(value) if isinstance(value, dict) else MASK
        return values.dumps(value).encode()
    except (ValueError, RecursionError):
        return values.dumps(MASK).encode()


def _take(column: Column, rest: Row, drift: Drift) -> Any:
    """Move a column's value out of the conversation; leave it there if the column cannot hold it."""
    parent = _value_at(rest, column.path[:-1])
    if not isinstance(parent, dict):
        return None
    value = parent.pop(column.path[-1], None)
    if value is None:
        return None
    try:
        return column.kind.read(value)
    except ValueError:
        parent[column.path[-1]] = value
        drift.invalid_values[column.name] += 1
        return None


def _value_at(rest: Row, path: tuple[str, ...]) -> Any:
    value: Any = rest
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _remove_emptied_parents(rest: Row, sent_empty: list[tuple[str, ...]], drift: Drift) -> None:
    """Remove the objects that columns have emptied; keep those that were sent empty, or are not objects."""
    for path in _PARENTS:
        parent = _value_at(rest, path[:-1])
        if not isinstance(parent, dict) or path[-1] not in parent:
            continue
        value = parent[path[-1]]
        if value is None or (value == {} and path not in sent_empty):
            del parent[path[-1]]
        elif not isinstance(value, dict):
            drift.invalid_values[".".join(path)] += 1


def _count_undocumented_fields(rest: Row, parent: tuple[str, ...], drift: Drift) -> None:
    for key, value in rest.items():
        path = (*parent, key)
        if path not in _DOCUMENTED:
            drift.undocumented_fields[".".join((*parent, safe_name(key)))] += 1
        elif path in _PARENTS and isinstance(value, dict):
            _count_undocumented_fields(value, path, drift)
