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
from voiceos_provider.transform.column_values import CONVERTERS
from voiceos_provider.transform.credentials import MASK, mask_credentials
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import CONVERSATION_MESSAGES, SOURCE_COLUMNS, SOURCE_OBJECTS, Path
from voiceos_provider.transform.schema_drift import Drift, safe_name

_COLUMNS = {
    column.path: column for column in (*SOURCE_COLUMNS, *CONVERSATION_MESSAGES.columns) if column.path
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

    :param row: its values of `SOURCE_COLUMNS`, and `extra`; a missing one is null
    :param configuration: the configuration it ran with
    :param messages: None if no list of messages was sent
    :param drift: its differences from the contract, those of the configuration aside
    """

    row: Row
    configuration: Configuration = NO_CONFIGURATION
    messages: list[Message] | None = None
    drift: Drift = field(default_factory=Drift)

    @property
    def id(self) -> str:
        """The conversation's id."""
        id_: str = self.row["id"]
        return id_

    @property
    def status(self) -> str | None:
        """The conversation's status."""
        return self.row.get("status")


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
            raws = _fields.decode(item)
        except msgspec.ValidationError:
            raise RejectionError("not a JSON object") from None
        except msgspec.DecodeError as error:  # a ValueError since msgspec 0.21 only; Airflow pins older ones
            raise ValueError(str(error)) from None
        configuration, messages = raws.pop("agent_config", None), raws.pop("messages", None)
        sent = {key: values.loads(raw) for key, raw in raws.items()}
        id_ = sent.get("id")
        if not isinstance(id_, str) or not id_:
            raise RejectionError("no usable id")
        result = FallbackConversation({})
        rest = _take_values(sent, (), result.row, result.drift)
        result.row["id"] = id_  # never masked
        if configuration is not None:
            self._decode_configuration(configuration, result, rest)
        if messages is not None:
            self._decode_messages(values.loads(messages), result, rest)
        if rest:
            rest = self._redaction.leftover(mask_credentials(rest))
        if rest:
            result.row["extra"] = values.dumps(rest, sort_keys=True)
        return result

    def _decode_configuration(self, raw: msgspec.Raw, result: FallbackConversation, rest: Row) -> None:
        try:
            result.configuration = self._configurations.decode(raw)
        except ValueError:
            rest["agent_config"] = values.loads(raw)
            result.drift.invalid_values["agent_config"] += 1

    def _decode_messages(self, messages: Any, result: FallbackConversation, rest: Row) -> None:
        if isinstance(messages, list):
            result.messages = [self._decode_message(message, result.drift) for message in messages]
        elif messages is not None:
            rest["messages"] = messages
            result.drift.invalid_values["messages"] += 1

    def _decode_message(self, message: Any, drift: Drift) -> Message:
        row: Row = {}
        if isinstance(message, dict):
            message = _take_values(message, ("messages", "[]"), row, drift)
        else:
            drift.invalid_values["messages[]"] += 1
        role, content = row.get("role"), row.get("content")
        if self._redaction.messages == "drop":
            return Message(role, None, None)
        if message == {}:
            return Message(role, content, None)
        rest = self._redaction.mask_numbers(mask_credentials(message))
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


def _take_values(sent: Row, path: Path, row: Row, drift: Drift) -> Row:
    """Move the values of an object into their columns, and return the rest.

    The rest has what no column can hold. An object that is empty now, but was not sent empty, is not part of it.
    """
    rest: Row = {}
    for key, value in sent.items():
        here = (*path, key)
        kept = value
        if column := _COLUMNS.get(here):
            if value is None:
                continue
            try:
                row[column.name] = CONVERTERS[column.kind](value)
                continue
            except ValueError:
                drift.invalid_values[column.name] += 1
        elif here not in SOURCE_OBJECTS:
            drift.undocumented_fields[".".join((*path, safe_name(key)))] += 1
        elif isinstance(value, dict):
            kept = _take_values(value, here, row, drift)
            if value and not kept:
                continue
        elif value is None:
            continue
        else:
            drift.invalid_values[".".join(here)] += 1
        rest[key] = kept
    return rest
