"""How do conversations become rows of the tables?"""

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
from voiceos_provider.interval import Interval
from voiceos_provider.transform.agent_configs import SHARED, Configuration, Configurations
from voiceos_provider.transform.column_types import COUNT, INSTANT, JSON, NUMBER
from voiceos_provider.transform.costs import cost_rows
from voiceos_provider.transform.fallback_decoder import TAKEN, Read, Reader, RejectionError, presentable
from voiceos_provider.transform.fast_path import take_columns
from voiceos_provider.transform.redaction import Redaction
from voiceos_provider.transform.schema import (
    AGENT_CONFIGS,
    CONVERSATION_COSTS,
    CONVERSATION_MESSAGES,
    CONVERSATIONS,
    Table,
)
from voiceos_provider.transform.schema_drift import Drift
from voiceos_provider.transform.text_search import without_secret_urls

_Known = tuple[Any, Configuration]
"""A conversation, as documented or read value by value, and what it ran with."""


(_STATES,) = (column for column in CONVERSATIONS.columns if column.name == "status")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table.

    :param batch: the rows
    :param positions: for each, the conversation it belongs to, counted over the whole export; None if to no single one
    """

    batch: pa.RecordBatch
    positions: pa.Array | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of some conversations.

    :param rows: by the name of the table
    :param exported: rows of `conversations`
    :param filtered: conversations left out for their state
    :param pending: ids of those left out because they have not ended yet
    :param unfinished: ids of those that became rows and have not ended yet
    :param rejected: those that cannot be keyed
    :param drift: what came that the contract does not know
    """

    rows: dict[str, Rows]
    exported: int
    filtered: int = 0
    pending: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    drift: Drift = field(default_factory=Drift)


class Decoder:
    """Turns conversations into rows of one export.

    :param interval: the interval of creation time they were asked for
    :param exported_at: when the export began
    :param statuses: only conversations in these states become rows; empty for all
    :param redaction: what is kept of people
    :param decoded: conversations that an earlier try has decoded
    :param configurations: hashes of the configurations that it has had
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
        self._awaits_the_end = not self._statuses or "ended" in self._statuses
        self._privacy = redaction or Redaction()
        self._configurations = Configurations(self._privacy)
        self._reader = Reader(self._configurations, self._privacy)
        self._hashes = set(configurations)
        self._exported = decoded

    def decode(self, items: Sequence[Any], *, interval: Interval | None = None) -> Decoded:
        """Rows of these conversations, in their order. An odd value costs itself; only a missing id costs a row.

        :param interval: the interval of creation time they were asked for, from now on
        """
        self._interval = interval or self._interval
        drift = Drift()
        known, filtered, pending, rejected = self._choose(items, drift)
        known, columns = self._take(known, rejected)
        chosen = [item for item, _ in known]
        configurations = [configuration for _, configuration in known]
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
        for read in chosen:
            if isinstance(read, Read):
                drift.update(read.drift)
        for configuration, times in Counter(configurations).items():
            drift.odd_values.update(dict.fromkeys(configuration.odd, times))
            drift.unknown_keys.update(dict.fromkeys(configuration.unknown_keys, times))
        drift.see(CONVERSATIONS, conversations)
        drift.see(CONVERSATION_MESSAGES, messages)
        unfinished = conversations.filter(
            pc.not_equal(conversations.column("status"), "ended").fill_null(True)
        )
        return Decoded(
            rows,
            len(chosen),
            filtered,
            pending,
            unfinished.column("id").to_pylist() if self._awaits_the_end else [],
            rejected,
            drift,
        )

    def _choose(
        self, items: Sequence[Any], drift: Drift
    ) -> tuple[list[_Known], int, list[str], list[Rejected]]:
        """Those that become rows, how many are in another state, who may yet end, and those that cannot be keyed."""
        chosen: list[_Known] = []
        pending: list[str] = []
        rejected: list[Rejected] = []
        filtered = 0
        raws = [item.agent_config if isinstance(item, ConversationStruct) else None for item in items]
        for item, configuration in zip(items, self._configurations.remembered(raws), strict=True):
            known = self._read(item, rejected) if configuration is None else (item, configuration)
            if known is None:
                continue
            if self._statuses and (status := _status(known[0])) not in self._statuses:
                if self._awaits_the_end and status != "ended":
                    pending.append(_id(known[0]))
                else:
                    filtered += 1
                # Of what is left out only the reason is looked at: it could be a state that nobody knows yet.
                if isinstance(known[0], Read):
                    drift.odd_values += Counter({_STATES.name: known[0].drift.odd_values[_STATES.name]})
                drift.see_values(CONVERSATIONS, _STATES, [status])
            else:
                chosen.append(known)
        return chosen, filtered, pending, rejected

    def _read(self, item: Any, rejected: list[Rejected]) -> _Known | None:
        """The item as it is, if it is as documented; else read value by value, or None if it cannot be a row."""
        try:
            if isinstance(item, ConversationStruct):
                try:
                    return item, self._configurations.read(item.agent_config)
                except (ValueError, RecursionError):
                    item = msgspec.json.encode(item)
            read = self._reader.read(item)
            return read, read.configuration
        except RejectionError as error:
            rejected.append(Rejected(str(error), presentable(item, self._privacy)))
        except (ValueError, RecursionError):
            fault = json_fault(bytes(item)) or "it cannot be decoded"
            rejected.append(Rejected(f"not JSON: {fault}", presentable(item, self._privacy)))
        return None

    def _take(
        self, known: list[_Known], rejected: list[Rejected]
    ) -> tuple[list[_Known], dict[str, pa.Array]]:
        """The columns of the documented ones; those that do not fit into them are read value by value."""
        while True:
            at = [index for index, (item, _) in enumerate(known) if not isinstance(item, Read)]
            columns, misfits = take_columns([known[index][0] for index in at])
            if not misfits:
                return known, columns
            # Each time there are fewer of the documented ones, so this ends.
            wrong = {at[misfit] for misfit in misfits}
            again = [
                self._read(msgspec.json.encode(pair[0]), rejected) if index in wrong else pair
                for index, pair in enumerate(known)
            ]
            known = [pair for pair in again if pair is not None]

    def _conversations(
        self, chosen: list[Any], columns: dict[str, pa.Array], configurations: list[Configuration]
    ) -> pa.RecordBatch:
        size = len(chosen)
        reads = [index for index, item in enumerate(chosen) if isinstance(item, Read)]
        columns = dict(columns)
        extra: pa.Array = pa.nulls(size - len(reads), JSON.arrow)
        if reads:
            rows = [chosen[index].row for index in reads]
            columns = {
                column.name: pa.concat_arrays(
                    [columns[column.name], pa.array([row[column.name] for row in rows], column.kind.arrow)]
                )
                for column in TAKEN
            }
            extra = pa.concat_arrays([extra, pa.array([row["extra"] for row in rows], JSON.arrow)])
            careful = set(reads)
            order = [index for index in range(size) if index not in careful] + reads
            back = pc.sort_indices(pa.array(order, pa.int64()))
            columns = {name: column.take(back) for name, column in columns.items()}
            extra = extra.take(back)
        for name in ("from_number", "to_number"):
            columns[name] = self._kept_numbers(columns[name])
        columns["extra"] = extra
        columns["phone_key_id"] = pa.repeat(pa.scalar(self._privacy.key_id, pa.string()), size)
        columns["duration_seconds"] = _seconds_between(columns["started_at"], columns["ended_at"])
        columns["message_count"] = pa.array([_count(item.messages) for item in chosen], COUNT.arrow)
        distinct = list(dict.fromkeys(configurations))
        place = {configuration: index for index, configuration in enumerate(distinct)}
        which = pa.array([place[configuration] for configuration in configurations], pa.int32())
        for column in CONVERSATIONS.columns:
            if column.name in SHARED:
                shared = [configuration.columns.get(column.name) for configuration in distinct]
                columns[column.name] = pa.array(shared, column.kind.arrow).take(which)
        return self._batch(CONVERSATIONS, columns, size)

    def _kept_numbers(self, numbers: pa.Array) -> pa.Array:
        if self._privacy.phone_numbers == "keep":
            return numbers
        return pa.array([self._privacy.phone_number(number) for number in numbers.to_pylist()], pa.string())

    def _messages(self, chosen: list[Any]) -> tuple[pa.RecordBatch, pa.Array]:
        said = [item.messages or () for item in chosen]
        turns = list(chain.from_iterable(said))
        counts = np.fromiter(map(len, said), np.int64, len(said))
        extras = pa.nulls(len(turns), JSON.arrow)
        if any(isinstance(item, Read) for item in chosen):
            extras = pa.array([getattr(turn, "extra", None) for turn in turns], JSON.arrow)
        where = pa.array(np.repeat(np.arange(len(chosen)), counts), pa.int64())
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        ids = pa.array([_id(item) for item in chosen], pa.string())
        columns = {
            "conversation_id": ids.take(where),
            "ordinal": pa.array(np.arange(len(turns)) - starts + 1, COUNT.arrow),
            "role": _without_urls(map(attrgetter("role"), turns), len(turns)),
            "content": self._kept_contents(turns),
            "extra": extras,
        }
        return self._batch(CONVERSATION_MESSAGES, columns, len(turns)), where

    def _kept_contents(self, turns: list[Any]) -> pa.Array:
        if self._privacy.messages == "drop":
            return pa.nulls(len(turns), pa.string())
        return _without_urls(map(attrgetter("content"), turns), len(turns))

    def _agent_configs(self, configurations: list[Configuration]) -> pa.RecordBatch:
        """The rows of configurations that this export has not had yet."""
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
        told = {
            "_interval_start": self._interval.start,
            "_interval_end": self._interval.end,
            "_exported_at": self._exported_at,
        }
        constants = {name: pa.repeat(pa.scalar(at, INSTANT.arrow), size) for name, at in told.items()}
        columns = {**columns, **constants}
        return pa.RecordBatch.from_arrays([columns[name] for name in table.schema.names], schema=table.schema)


def _id(item: Any) -> str:
    id_: str = item.row["id"] if isinstance(item, Read) else item.id
    return id_


def _status(item: Any) -> str | None:
    status: str | None = item.row["status"] if isinstance(item, Read) else item.status
    return status


def _without_urls(texts: Iterable[str | None], size: int) -> pa.Array:
    """The texts, without what is secret in their URLs."""
    kept = pa.array(texts, pa.string(), size=size)
    if safe := without_secret_urls(kept):
        kept = pa.array([safe.get(at, text) for at, text in enumerate(kept.to_pylist())], pa.string())
    return kept


def _count(messages: list[Any] | None) -> int | None:
    return None if messages is None else len(messages)


def _seconds_between(started: pa.Array, ended: pa.Array) -> pa.Array:
    """Seconds; null where either is missing, or the end comes first."""
    microseconds = pc.subtract(ended.cast(pa.int64()), started.cast(pa.int64()))
    # Not "safe": beyond 285 years a double does not hold every microsecond, and Arrow would raise.
    seconds = pc.divide(microseconds.cast(NUMBER.arrow, safe=False), 1e6)
    return pc.if_else(pc.less(microseconds, 0), None, seconds)
