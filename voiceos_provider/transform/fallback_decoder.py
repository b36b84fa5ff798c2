"""Fallback decoder: conversations that are not exactly as documented, value by value.

Each column takes its value out of the conversation, and the rest becomes `extra`. So nothing is lost: neither a field
without a column, nor a value that its column cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from voiceos_provider.client import values
from voiceos_provider.client.models import NULL
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


@dataclass(frozen=True, slots=True)
class FallbackConversation:
    """One decoded conversation.

    :param row: its values of `SOURCE_COLUMNS`, and `extra`; a missing one is null
    :param messages: None if no list of messages was sent
    :param drift: its differences from the contract, those of the configuration aside
    """

    id: str
    row: Row
    configuration: Configuration
    messages: list[Message] | None
    drift: Drift

    @property
    def status(self) -> str | None:
        """The value of its column."""
        return self.row.get("status")


def decode_by_value(
    item: bytes | msgspec.Raw, configurations: ConfigurationCache, redaction: Redaction
) -> FallbackConversation:
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
    raw_configuration = raws.pop("agent_config", NULL)
    sent_messages = values.loads(raws.pop("messages", NULL))
    sent = {key: values.loads(raw) for key, raw in raws.items()}
    id_ = sent.get("id")
    if not isinstance(id_, str) or not id_:
        raise RejectionError("no usable id")
    row: Row = {}
    drift = Drift()
    rest = _take_values(sent, (), row, drift)
    row["id"] = id_  # never masked
    try:
        configuration = configurations.decode(raw_configuration)
    except ValueError:
        configuration = NO_CONFIGURATION
        rest["agent_config"] = values.loads(raw_configuration)
        drift.invalid_values["agent_config"] += 1
    messages = None
    if isinstance(sent_messages, list):
        messages = [_decode_message(message, redaction, drift) for message in sent_messages]
    elif sent_messages is not None:
        rest["messages"] = sent_messages
        drift.invalid_values["messages"] += 1
    if rest:
        rest = redaction.leftover(mask_credentials(rest))
    row["extra"] = values.dumps(rest, sort_keys=True) if rest else None
    return FallbackConversation(id_, row, configuration, messages, drift)


def _decode_message(message: Any, redaction: Redaction, drift: Drift) -> Message:
    row: Row = {}
    if isinstance(message, dict):
        message = _take_values(message, ("messages", "[]"), row, drift)
    else:
        drift.invalid_values["messages[]"] += 1
    role, content = row.get("role"), row.get("content")
    if redaction.messages == "drop":
        return Message(role, None, None)
    if message == {}:
        return Message(role, content, None)
    rest = redaction.mask_numbers(mask_credentials(message))
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
