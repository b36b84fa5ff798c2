"""Deletion of conversations from the tables of a database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from voiceos_provider.load.erasure import OWNERS, Erased, is_named
from voiceos_provider.load.plan import REJECTED
from voiceos_provider.load.sql.dialect import Dialect, as_utc
from voiceos_provider.transform import Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS

_AT_ONCE = 500
"""Values in the condition of one statement."""


def delete_rows(
    dialect: Dialect, table: Table, ids: Sequence[str], erased: Erased, *, with_owners: bool
) -> None:
    """Delete the rows of conversations from a table within the transaction, and count them.

    :param with_owners: whether the table of conversations exists, which refers to configurations
    """
    target = dialect.target(table)
    if table is REJECTED:
        conditions = list(_rejected(dialect, ids, erased))
    elif table is AGENT_CONFIGS:
        unused = _unused_configurations(dialect, ids) if with_owners else []
        conditions = list(_among(dialect, table.key[0], unused))
    else:
        owner = OWNERS[table.name]
        conditions = list(_among(dialect, owner, ids))
        for condition in conditions:
            found = dialect.rows(f"SELECT DISTINCT {dialect.quote(owner)} FROM {target} WHERE {condition}")
            erased.found.update(str(id_) for (id_,) in found)
    for condition in conditions:
        count = f"SELECT count(*) FROM {target} WHERE {condition}"
        (rows,) = dialect.numbers(count)
        if rows:
            dialect.change(dialect.delete(target, condition))
            dialect.require(count, 0, f"{target} holds rows that were deleted")
            erased.tables[table.name].rows += rows


def _among(dialect: Dialect, column: str, values: Sequence[str]) -> Iterator[str]:
    """Yield conditions that together select the rows with one of these values."""
    for start in range(0, len(values), _AT_ONCE):
        listed = ", ".join(dialect.text(value) for value in values[start : start + _AT_ONCE])
        yield f"{dialect.quote(column)} IN ({listed})"


def _unused_configurations(dialect: Dialect, ids: Sequence[str]) -> list[str]:
    """Return the configurations to which no other conversation refers."""
    of_erased = _references(dialect, "id", ids)
    of_all = _references(dialect, AGENT_CONFIGS.key[0], list(of_erased))
    return [hash_ for hash_, count in of_erased.items() if of_all[hash_] == count]


def _references(dialect: Dialect, column: str, values: Sequence[str]) -> Counter[str]:
    """Return how often the conversations with one of these values refer to each configuration."""
    hash_ = dialect.quote(AGENT_CONFIGS.key[0])
    found: Counter[str] = Counter()
    for condition in _among(dialect, column, values):
        rows = dialect.rows(
            f"SELECT {hash_}, count(*) FROM {dialect.target(CONVERSATIONS)} "
            f"WHERE {condition} AND {hash_} IS NOT NULL GROUP BY {hash_}"
        )
        found.update({str(value): int(count) for value, count in rows})
    return found


def _rejected(dialect: Dialect, ids: Sequence[str], erased: Erased) -> Iterator[str]:
    """Yield the condition for each rejected record that names one of the conversations."""
    target, key = dialect.target(REJECTED), [dialect.quote(name) for name in REJECTED.key]
    found = dialect.rows(f"SELECT {', '.join(key)}, {dialect.quote('conversation')} FROM {target}")
    for start, end, ordinal, record in found:
        named = {id_ for id_ in ids if is_named(id_, _as_text(record))}
        erased.found |= named
        if named:
            instants = (dialect.instant(as_utc(at)) for at in (start, end))
            values = (*instants, str(int(ordinal)))
            yield " AND ".join(f"{name} = {value}" for name, value in zip(key, values, strict=True))


def _as_text(document: Any) -> str:
    """Return a driver's JSON value as text."""
    if isinstance(document, bytes):
        return document.decode()
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
