"""Decoder: conversations to rows of the four tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
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
from voiceos_provider.transform.agent_configs import (
    CONFIGURATION_COLUMNS,
    Configuration,
    ConfigurationCache,
)
from voiceos_provider.transform.costs import cost_rows
from voiceos_provider.transform.fallback_decoder import (
    SOURCE_COLUMNS,
    FallbackConversation,
    FallbackDecoder,
    RejectionError,
    redacted_json,
)
from voiceos_provider.transform.fast_path import decode_columns, find_url_secrets
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import (
    AGENT_CONFIGS,
    CONVERSATION_COSTS,
    CONVERSATION_MESSAGES,
    CONVERSATIONS,
    COUNT,
    INSTANT,
    JSON,
    NUMBER,
    Table,
)
from voiceos_provider.transform.schema_drift import Drift

_Conversation = tuple[Any, Configuration]
"""A conversation, as documented or as decoded value by value, and its configuration."""

(_STATUS,) = (column for column in CONVERSATIONS.columns if column.name == "status")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table.

    :param batch: the rows
    :param positions: number of the conversation of each row, counted over the whole export; None if there is not one
    """

    batch: pa.RecordBatch
    positions: pa.Array | None = None


@dataclass(frozen=True, slots=True)
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

    rows: dict[str, Rows]
    exported: int
    filtered: int = 0
    pending: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    drift: Drift = field(default_factory=Drift)


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
        self._fallback = FallbackDecoder(self._configurations, self._redaction)
        self._hashes = set(configurations)
        self._exported = decoded

    def decode(self, items: Sequence[Any], *, interval: Interval | None = None) -> Decoded:
        """Return the rows of conversations, in their order.

        Invalid values become null and are kept in `extra`; only a conversation without an id is rejected.

        :param interval: the interval of creation times that was requested, from now on
        """
        self._interval = interval or self._interval
        drift = Drift()
        selected, filtered, pending, rejected = self._select(items, drift)
        selected, columns = self._decode_columns(selected, rejected)
        chosen = [item for item, _ in selected]
        configurations = [configuration for _, configuration in selected]
        conversations = self._conversations(chosen, columns, configurations)
        first, self._exported = self._exported, self._exported + len(chosen)
        costs, cost_positions = cost_rows(conversations)
        messages, message_positions = self._messages(chosen)
        rows = {
            CONVERSATIONS.name: Rows(conversations, pa.array(np.arange(first, self._exported), pa.int64())),
            CONVERSATION_COSTS.name: Rows(costs, pc.add(cost_positions, first)),
            CONVERSATION_MESSAGES.name: Rows(messages, pc.add(message_positions, first)),
            AGENT_CONFIGS.name: Rows(self._agent_configs(configurations)),
        }
        for item in chosen:
            if isinstance(item, FallbackConversation):
                drift.update(item.drift)
        for configuration, times in Counter(configurations).items():
            drift.invalid_values.update(dict.fromkeys(configuration.invalid_values, times))
            drift.undocumented_fields.update(dict.fromkeys(configuration.undocumented_fields, times))
            for name, value in configuration.undocumented_values:
                drift.add_undocumented_values(name, [value])
        drift.add_enums(CONVERSATIONS, conversations)
        drift.add_enums(CONVERSATION_MESSAGES, messages)
        unfinished = conversations.filter(pc.not_equal(conversations.column("status"), ENDED).fill_null(True))
        return Decoded(
            rows,
            len(chosen),
            filtered,
            pending,
            unfinished.column("id").to_pylist() if self._reports_pending else [],
            rejected,
            drift,
        )

    def _select(
        self, items: Sequence[Any], drift: Drift
    ) -> tuple[list[_Conversation], int, list[str], list[Rejected]]:
        """Return selected conversations, the number of filtered ones, ids of pending ones, and rejected ones."""
        selected: list[_Conversation] = []
        pending: list[str] = []
        rejected: list[Rejected] = []
        filtered = 0
        raws = [item.agent_config if isinstance(item, ConversationStruct) else None for item in items]
        for item, configuration in zip(items, self._configurations.cached(raws), strict=True):
            found = self._decode_one(item, rejected) if configuration is None else (item, configuration)
            if found is None:
                continue
            conversation = found[0]
            if self._statuses and (status := _status(conversation)) not in self._statuses:
                if self._reports_pending and status != ENDED:
                    pending.append(_id(conversation))
                else:
                    filtered += 1
                # Only the status counts as drift here: a new one would otherwise filter conversations silently.
                if isinstance(conversation, FallbackConversation):
                    invalid = conversation.drift.invalid_values[_STATUS.name]
                    drift.invalid_values += Counter({_STATUS.name: invalid})
                drift.add_enum_values(CONVERSATIONS, _STATUS, [status])
            else:
                selected.append(found)
        return selected, filtered, pending, rejected

    def _decode_one(self, item: Any, rejected: list[Rejected]) -> _Conversation | None:
        """Return a documented conversation as it is, any other decoded value by value, and None if it is rejected."""
        try:
            if isinstance(item, ConversationStruct):
                try:
                    return item, self._configurations.decode(item.agent_config)
                except (ValueError, RecursionError):
                    item = msgspec.json.encode(item)
            decoded = self._fallback.decode(item)
            return decoded, decoded.configuration
        except RejectionError as error:
            rejected.append(Rejected(str(error), redacted_json(item, self._redaction)))
        except (ValueError, RecursionError):
            fault = json_fault(bytes(item)) or "it cannot be decoded"
            rejected.append(Rejected(f"not JSON: {fault}", redacted_json(item, self._redaction)))
        return None

    def _decode_columns(
        self, conversations: list[_Conversation], rejected: list[Rejected]
    ) -> tuple[list[_Conversation], dict[str, pa.Array]]:
        """Return the columns of documented conversations; those with invalid values go to the fallback decoder."""
        while True:
            documented = [
                index
                for index, (item, _) in enumerate(conversations)
                if not isinstance(item, FallbackConversation)
            ]
            columns, positions = decode_columns([conversations[index][0] for index in documented])
            if not positions:
                return conversations, columns
            # Fewer of them are left for the fast path each time, so this ends.
            invalid = {documented[position] for position in positions}
            again = [
                self._decode_one(msgspec.json.encode(pair[0]), rejected) if index in invalid else pair
                for index, pair in enumerate(conversations)
            ]
            conversations = [pair for pair in again if pair is not None]

    def _conversations(
        self, chosen: list[Any], columns: dict[str, pa.Array], configurations: list[Configuration]
    ) -> pa.RecordBatch:
        size = len(chosen)
        fallback = [index for index, item in enumerate(chosen) if isinstance(item, FallbackConversation)]
        columns = dict(columns)
        extra: pa.Array = pa.nulls(size - len(fallback), JSON.arrow)
        if fallback:
            rows = [chosen[index].row for index in fallback]
            columns = {
                column.name: pa.concat_arrays(
                    [columns[column.name], pa.array([row[column.name] for row in rows], column.kind.arrow)]
                )
                for column in SOURCE_COLUMNS
            }
            extra = pa.concat_arrays([extra, pa.array([row["extra"] for row in rows], JSON.arrow)])
            is_fallback = set(fallback)
            order = [index for index in range(size) if index not in is_fallback] + fallback
            sent_order = pc.sort_indices(pa.array(order, pa.int64()))
            columns = {name: column.take(sent_order) for name, column in columns.items()}
            extra = extra.take(sent_order)
        for name in ("from_number", "to_number"):
            columns[name] = self._redact_numbers(columns[name])
        columns["extra"] = extra
        key_id = self._redaction.key_id if self._redaction.phone_numbers == "hash" else None
        columns["phone_key_id"] = pa.repeat(pa.scalar(key_id, pa.string()), size)
        columns["duration_seconds"] = _seconds_between(columns["started_at"], columns["ended_at"])
        columns["message_count"] = pa.array([_count(item.messages) for item in chosen], COUNT.arrow)
        distinct = list(dict.fromkeys(configurations))
        indices = {configuration: index for index, configuration in enumerate(distinct)}
        chosen_index = pa.array([indices[configuration] for configuration in configurations], pa.int32())
        for column in CONVERSATIONS.columns:
            if column.name in CONFIGURATION_COLUMNS:
                values = [configuration.columns.get(column.name) for configuration in distinct]
                columns[column.name] = pa.array(values, column.kind.arrow).take(chosen_index)
        return self._batch(CONVERSATIONS, columns, size)

    def _redact_numbers(self, numbers: pa.Array) -> pa.Array:
        if self._redaction.phone_numbers == "keep":
            return numbers
        return pa.array([self._redaction.phone_number(number) for number in numbers.to_pylist()], pa.string())

    def _messages(self, chosen: list[Any]) -> tuple[pa.RecordBatch, pa.Array]:
        lists = [item.messages or () for item in chosen]
        messages = list(chain.from_iterable(lists))
        counts = np.fromiter(map(len, lists), np.int64, len(lists))
        extras = pa.nulls(len(messages), JSON.arrow)
        if any(isinstance(item, FallbackConversation) for item in chosen):
            extras = pa.array([getattr(message, "extra", None) for message in messages], JSON.arrow)
        parents = pa.array(np.repeat(np.arange(len(chosen)), counts), pa.int64())
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        ids = pa.array([_id(item) for item in chosen], pa.string())
        columns = {
            "conversation_id": ids.take(parents),
            "ordinal": pa.array(np.arange(len(messages)) - starts + 1, COUNT.arrow),
            "role": _mask_column(map(attrgetter("role"), messages), len(messages)),
            "content": self._redact_contents(messages),
            "extra": extras,
        }
        return self._batch(CONVERSATION_MESSAGES, columns, len(messages)), parents

    def _redact_contents(self, messages: list[Any]) -> pa.Array:
        if self._redaction.messages == "drop":
            return pa.nulls(len(messages), pa.string())
        return _mask_column(map(attrgetter("content"), messages), len(messages))

    def _agent_configs(self, configurations: list[Configuration]) -> pa.RecordBatch:
        """Return the rows of configurations that this export has not had yet."""
        new = []
        for configuration in dict.fromkeys(configurations):
            hash_ = configuration.columns.get("agent_config_hash")
            if hash_ is not None and hash_ not in self._hashes:
                self._hashes.add(hash_)
                new.append(configuration.columns)
        columns = {
            column.name: pa.array([row.get(column.name) for row in new], column.kind.arrow)
            for column in AGENT_CONFIGS.columns
        }
        return self._batch(AGENT_CONFIGS, columns, len(new))

    def _batch(self, table: Table, columns: dict[str, pa.Array], size: int) -> pa.RecordBatch:
        instants = {
            "_interval_start": self._interval.start,
            "_interval_end": self._interval.end,
            "_exported_at": self._exported_at,
        }
        constants = {name: pa.repeat(pa.scalar(at, INSTANT.arrow), size) for name, at in instants.items()}
        columns = {**columns, **constants}
        return pa.RecordBatch.from_arrays([columns[name] for name in table.schema.names], schema=table.schema)


def _id(item: Any) -> str:
    id_: str = item.row["id"] if isinstance(item, FallbackConversation) else item.id
    return id_


def _status(item: Any) -> str | None:
    status: str | None = item.row["status"] if isinstance(item, FallbackConversation) else item.status
    return status


def _mask_column(texts: Iterable[str | None], size: int) -> pa.Array:
    """Return the texts with secrets in URLs masked."""
    column = pa.array(texts, pa.string(), size=size)
    if masked := find_url_secrets(column):
        column = pa.array([masked.get(at, text) for at, text in enumerate(column.to_pylist())], pa.string())
    return column


def _count(messages: list[Any] | None) -> int | None:
    return None if messages is None else len(messages)


def _seconds_between(started: pa.Array, ended: pa.Array) -> pa.Array:
    """Return seconds; null where either is missing, or the end comes first."""
    microseconds = pc.subtract(ended.cast(pa.int64()), started.cast(pa.int64()))
    # Not "safe": a double does not hold every microsecond of 285 years, and Arrow would raise.
    seconds = pc.divide(microseconds.cast(NUMBER.arrow, safe=False), 1e6)
    return pc.if_else(pc.less(microseconds, 0), None, seconds)
