"""Decoder: conversations to rows of the four tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, count
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.client.json_faults import json_fault
from voiceos_provider.client.models import ConversationStruct
from voiceos_provider.client.pages import Rejected
from voiceos_provider.client.requests import ENDED
from voiceos_provider.interval import Interval
from voiceos_provider.transform import schema
from voiceos_provider.transform.agent_configs import Configuration, ConfigurationCache
from voiceos_provider.transform.column_values import decode_columns, mask_url_secrets
from voiceos_provider.transform.costs import cost_columns
from voiceos_provider.transform.fallback_decoder import (
    FallbackConversation,
    Message,
    RejectionError,
    Row,
    decode_by_value,
    redacted_json,
)
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema_drift import Drift

_STATUS, _EXTRA = (schema.CONVERSATIONS.column(name) for name in ("status", "extra"))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table.

    :param positions: number of the conversation of each row, counted over the whole export; None if there is not one
    """

    batch: pa.RecordBatch
    positions: pa.Array | None = None


@dataclass(slots=True)
class Decoded:
    """Result of decoding some conversations.

    :param rows: by table name
    :param exported: number of rows of `conversations`
    :param filtered: number of conversations left out because of their status
    :param pending: ids of conversations left out because they have not ended yet
    :param unfinished: ids of exported conversations that have not ended yet
    :param rejected: conversations without a usable id
    :param drift: differences from the contract
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    exported: int = 0
    filtered: int = 0
    pending: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    drift: Drift = field(default_factory=Drift)


@dataclass(slots=True)
class _Chosen:
    """Conversations that become rows.

    :param columns: of the fast path
    :param conversations: as documented, or as decoded value by value
    :param configurations: their configurations
    :param places: their places in the columns, to which the rows of the fallback decoder are appended
    """

    columns: dict[str, pa.Array]
    conversations: list[Any] = field(default_factory=list)
    configurations: list[Configuration] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class Decoder:
    """Decodes the conversations of one export.

    :param interval: the interval of creation times that was requested
    :param exported_at: start of the export
    :param statuses: conversations in these states become rows; empty for all
    :param redaction: what is kept of personal data
    :param decoded: number of conversations that an earlier attempt has decoded
    :param configurations: hashes of the configurations that an earlier attempt has exported
    """

    def __init__(
        self,
        interval: Interval,
        exported_at: datetime,
        *,
        statuses: Collection[str] = (),
        redaction: Redaction | None = None,
        decoded: int = 0,
        configurations: Collection[str] = (),
    ) -> None:
        self._interval = interval
        self._exported_at = exported_at
        self._statuses = frozenset(statuses)
        self._reports_pending = not self._statuses or ENDED in self._statuses
        self._redaction = redaction or Redaction()
        self._configurations = ConfigurationCache(self._redaction)
        self._hashes = set(configurations)
        self._exported = decoded

    def decode(self, items: Sequence[Any], *, interval: Interval | None = None) -> Decoded:
        """Return the rows of conversations, in their order.

        Invalid values become null and are kept in `extra`; only a conversation without an id is rejected.

        :param interval: the interval of creation times that was requested, from now on
        """
        self._interval = interval or self._interval
        decoded = Decoded()
        chosen = self._choose(items, decoded)
        conversations = self._conversations(chosen)
        first, self._exported = self._exported, self._exported + len(conversations)
        cost_values, cost_positions = cost_columns(conversations)
        costs = self._batch(schema.CONVERSATION_COSTS, cost_values, len(cost_positions))
        messages, message_positions = self._messages(chosen.conversations)
        decoded.exported = len(conversations)
        positions = pa.array(np.arange(first, self._exported), pa.int64())
        decoded.rows = {
            schema.CONVERSATIONS.name: Rows(conversations, positions),
            schema.CONVERSATION_COSTS.name: Rows(costs, pc.add(cost_positions, first)),
            schema.CONVERSATION_MESSAGES.name: Rows(messages, pc.add(message_positions, first)),
            schema.AGENT_CONFIGS.name: Rows(self._agent_configs(chosen.configurations)),
        }
        for configuration, times in Counter(chosen.configurations).items():
            decoded.drift.update(configuration.drift, times)
        decoded.drift.add_enums(schema.CONVERSATIONS, conversations)
        decoded.drift.add_enums(schema.CONVERSATION_MESSAGES, messages)
        if self._reports_pending:
            unfinished = pc.not_equal(conversations.column("status"), ENDED).fill_null(True)
            decoded.unfinished = conversations.column("id").filter(unfinished).to_pylist()
        return decoded

    def _choose(self, items: Sequence[Any], decoded: Decoded) -> _Chosen:
        """Return the conversations in the chosen states, and report the others."""
        documented = [item for item in items if isinstance(item, ConversationStruct)]
        columns, invalid = decode_columns(documented)
        chosen = _Chosen(columns)
        places, fallback_places = count(), count(len(documented))
        for item in items:
            conversation = item
            place = next(places) if isinstance(item, ConversationStruct) else None
            if place in invalid:
                place = None
            if place is not None:
                try:
                    configuration = self._configurations.decode(item.agent_config)
                except (ValueError, RecursionError):
                    place = None
            if place is None:
                conversation = self._decode_by_value(item, decoded)
                if conversation is None:
                    continue
                configuration = conversation.configuration
            if self._statuses and conversation.status not in self._statuses:
                self._filter(conversation, decoded)
                continue
            if place is None:
                place = next(fallback_places)
                decoded.drift.update(conversation.drift)
            chosen.conversations.append(conversation)
            chosen.configurations.append(configuration)
            chosen.places.append(place)
        return chosen

    def _decode_by_value(self, item: Any, decoded: Decoded) -> FallbackConversation | None:
        """Return a conversation, or None if it is rejected."""
        text = msgspec.json.encode(item) if isinstance(item, ConversationStruct) else item
        try:
            return decode_by_value(text, self._configurations, self._redaction)
        except RejectionError as error:
            reason = str(error)
        except (ValueError, RecursionError):
            reason = f"not JSON: {json_fault(bytes(text)) or 'it cannot be decoded'}"
        decoded.rejected.append(Rejected(reason, redacted_json(text, self._redaction)))
        return None

    def _filter(self, conversation: Any, decoded: Decoded) -> None:
        """Report a conversation in another state.

        Only its status counts as drift: a new state would otherwise filter conversations silently.
        """
        if self._reports_pending and conversation.status != ENDED:
            decoded.pending.append(conversation.id)
        else:
            decoded.filtered += 1
        is_fallback = isinstance(conversation, FallbackConversation)
        if is_fallback and _STATUS.name in conversation.drift.invalid_values:
            decoded.drift.invalid_values[_STATUS.name] += 1
        decoded.drift.add_enum_values(schema.CONVERSATIONS, _STATUS, [conversation.status])

    def _conversations(self, chosen: _Chosen) -> pa.RecordBatch:
        size = len(chosen.conversations)
        columns = chosen.columns | {"extra": pa.nulls(len(chosen.columns["id"]), pa.string())}
        rows = [item.row for item in chosen.conversations if isinstance(item, FallbackConversation)]
        if rows or size < len(columns["id"]):
            places = pa.array(chosen.places, pa.int64())
            for name, decoded_by_value in _columns(rows, (*schema.SOURCE_COLUMNS, _EXTRA)).items():
                columns[name] = pa.concat_arrays([columns[name], decoded_by_value]).take(places)
        if self._redaction.phone_numbers != "keep":
            for name in ("from_number", "to_number"):
                kept = map(self._redaction.phone_number, columns[name].to_pylist())
                columns[name] = pa.array(kept, pa.string(), size=size)
        key_id = self._redaction.key_id if self._redaction.phone_numbers == "hash" else None
        columns["phone_key_id"] = pa.repeat(pa.scalar(key_id, pa.string()), size)
        columns["duration_seconds"] = _seconds_between(columns["started_at"], columns["ended_at"])
        counts = [None if item.messages is None else len(item.messages) for item in chosen.conversations]
        columns["message_count"] = pa.array(counts, schema.COUNT.arrow)
        distinct = list(dict.fromkeys(chosen.configurations))
        indices = {configuration: index for index, configuration in enumerate(distinct)}
        chosen_index = pa.array([indices[each] for each in chosen.configurations], pa.int32())
        configured = _columns([each.columns for each in distinct], schema.CONFIGURATION_COLUMNS)
        columns |= {name: column.take(chosen_index) for name, column in configured.items()}
        return self._batch(schema.CONVERSATIONS, columns, size)

    def _messages(self, conversations: list[Any]) -> tuple[pa.RecordBatch, pa.Array]:
        """Return the rows of `conversation_messages`, and the row of `conversations` that each belongs to."""
        lists = [item.messages or () for item in conversations]
        messages = list(chain.from_iterable(lists))
        size = len(messages)
        counts = np.fromiter(map(len, lists), np.int64, len(lists))
        positions = pa.array(np.repeat(np.arange(len(lists)), counts), pa.int64())
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        columns = {
            "conversation_id": pa.array([item.id for item in conversations], pa.string()).take(positions),
            "ordinal": pa.array(np.arange(size) - starts + 1, schema.COUNT.arrow),
            "role": _texts(messages, "role"),
            "content": pa.nulls(size, pa.string()),
            "extra": pa.nulls(size, pa.string()),
        }
        if self._redaction.messages == "keep":
            columns["content"] = _texts(messages, "content")
        if any(isinstance(item, FallbackConversation) for item in conversations):
            extras = [message.extra if isinstance(message, Message) else None for message in messages]
            columns["extra"] = pa.array(extras, pa.string())
        return self._batch(schema.CONVERSATION_MESSAGES, columns, size), positions

    def _agent_configs(self, configurations: list[Configuration]) -> pa.RecordBatch:
        """Return the rows of configurations that this export has not had yet."""
        new = []
        for configuration in dict.fromkeys(configurations):
            hash_ = configuration.columns.get("agent_config_hash")
            if hash_ is not None and hash_ not in self._hashes:
                self._hashes.add(hash_)
                new.append(configuration.columns)
        return self._batch(schema.AGENT_CONFIGS, _columns(new, schema.AGENT_CONFIGS.columns), len(new))

    def _batch(self, table: schema.Table, columns: dict[str, pa.Array], size: int) -> pa.RecordBatch:
        instants = {
            "_interval_start": self._interval.start,
            "_interval_end": self._interval.end,
            "_exported_at": self._exported_at,
        }
        kind = schema.INSTANT.arrow
        whole = columns | {name: pa.repeat(pa.scalar(at, kind), size) for name, at in instants.items()}
        return pa.RecordBatch.from_arrays([whole[name] for name in table.schema.names], schema=table.schema)


def _columns(rows: list[Row], columns: Iterable[schema.Column]) -> dict[str, pa.Array]:
    """Return columns of rows; a missing value is null."""
    return {
        column.name: pa.array([row.get(column.name) for row in rows], column.kind.arrow) for column in columns
    }


def _texts(messages: list[Any], name: str) -> pa.Array:
    return mask_url_secrets(pa.array(map(attrgetter(name), messages), pa.string(), size=len(messages)))


def _seconds_between(started: pa.Array, ended: pa.Array) -> pa.Array:
    """Return seconds; null where either is missing, or the end comes first."""
    microseconds = pc.subtract(ended.cast(pa.int64()), started.cast(pa.int64()))
    # Not "safe": a double does not hold every microsecond of 285 years, and Arrow would raise.
    seconds = pc.divide(microseconds.cast(schema.NUMBER.arrow, safe=False), 1e6)
    return pc.if_else(pc.less(microseconds, 0), None, seconds)
