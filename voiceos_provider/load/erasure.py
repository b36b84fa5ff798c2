"""Erasure of conversations from a target, and its receipt."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self
from urllib.parse import quote

from voiceos_provider.transform import TABLES

OWNERS = {table.name: table.key[0] for table in TABLES if table.key[0] in ("id", "conversation_id")}
"""The column with the conversation's id, for each table that has one."""


def is_named(id_: str, record: str) -> bool:
    """Return whether a rejected record contains an id as a word of its own, as it is or escaped for JSON or a URL."""
    spellings = {
        id_,
        quote(id_, safe=""),
        *(json.dumps(id_, ensure_ascii=escaped)[1:-1] for escaped in (True, False)),
    }
    return any(
        each in record and re.search(rf"(?<![\w-]){re.escape(each)}(?![\w-])", record) for each in spellings
    )


@dataclass(slots=True, kw_only=True)
class ErasedTable:
    """What was removed from one table.

    :param rows: removed rows; of recordings, none, because they are files
    :param files_rewritten: data files replaced by files without these rows
    :param files_deleted: deleted files: audio, or files of a lake that only its history used
    """

    rows: int = 0
    files_rewritten: int = 0
    files_deleted: int = 0


@dataclass(slots=True)
class Erased:
    """What a destination has removed.

    :param found: the ids that it held, in rows, files or lists of ids
    :param tables: per table, what was removed
    :param manifests_rewritten: manifests that named an id or a file that was replaced
    :param exists: whether the target holds any export or table
    """

    found: set[str] = field(default_factory=set)
    tables: defaultdict[str, ErasedTable] = field(default_factory=lambda: defaultdict(ErasedTable))
    manifests_rewritten: int = 0
    exists: bool = True


class ErasableTarget(Protocol):
    """Where exports have written conversations."""

    @property
    def uri(self) -> str:
        """The name of the target, without credentials."""
        ...

    def erase(self, ids: Sequence[str]) -> Erased:
        """Remove conversations and all that belongs to them; those that are not there are no error."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReceipt:
    """What an erasure removed. It holds ids, and no content of a conversation.

    :param target: the destination, without credentials
    :param requested: number of ids to erase
    :param erased: number of them that the target held
    :param not_found: ids that the target did not hold, for example because an earlier erasure has removed them
    :param still_listed: ids that the API still returns, so that an export of their interval brings them back; None if
        this was not checked
    :param tables: per table, rows removed, and files rewritten or deleted
    :param manifests_rewritten: manifests that named an id or a file that was replaced
    """

    target: str
    requested: int
    erased: int
    not_found: list[str]
    still_listed: list[str] | None
    tables: dict[str, ErasedTable]
    manifests_rewritten: int

    @classmethod
    def of(cls, target: str, ids: Sequence[str], erased: Erased, still_listed: list[str] | None) -> Self:
        """Return the receipt of an erasure."""
        removed = {name: table for name, table in sorted(erased.tables.items()) if table != ErasedTable()}
        return cls(
            target=target,
            requested=len(ids),
            erased=len(erased.found),
            not_found=[id_ for id_ in ids if id_ not in erased.found],
            still_listed=still_listed,
            tables=removed,
            manifests_rewritten=erased.manifests_rewritten,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, always with the same keys."""
        return asdict(self)

    def log_lines(self) -> Iterator[str]:
        """Yield the lines for the log: the totals, then one for each table. They contain no id."""
        if not (self.erased or self.tables or self.manifests_rewritten):
            yield f"Nothing to erase: {self.target} holds none of {self.requested:,} conversations."
        else:
            yield f"Erased {self.erased:,} of {self.requested:,} conversations from {self.target}."
            if self.not_found:
                yield f"{len(self.not_found):,} ids were not found there."
        for name, table in self.tables.items():
            counts = ", ".join(
                f"{count:,} {what.replace('_', ' ')}" for what, count in asdict(table).items() if count
            )
            yield f"{name}: {counts}"
        if self.still_listed:
            yield (
                f"The API still returns {len(self.still_listed):,} of them. The next export of their interval brings "
                "them back: delete them there first."
            )
