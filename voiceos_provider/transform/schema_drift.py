"""What came that the contract does not know?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from voiceos_provider.transform.schema import Column, Table

_NAMED = 50
_LONGEST_NAME = 64


@dataclass(slots=True)
class Drift:
    """Departures from the contract, counted. None of them costs any data.

    :param odd_values: per column or key, values of another kind than documented
    :param unknown_keys: per path, how often a key came that is not documented
    :param unknown_values: per column, values of an enum that are not documented
    """

    odd_values: Counter[str] = field(default_factory=Counter)
    unknown_keys: Counter[str] = field(default_factory=Counter)
    unknown_values: dict[str, set[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.odd_values or self.unknown_keys or self.unknown_values)

    def see(self, table: Table, columns: dict[str, Any]) -> None:
        """Look through the enums of some rows, column by column as Arrow arrays."""
        for column in table.columns:
            if column.known:
                self.see_values(table, column, columns[column.name].unique().to_pylist())

    def see_values(self, table: Table, column: Column, values: Iterable[str | None]) -> None:
        """Look through some values of an enum."""
        new = {presentable_name(value) for value in values if value is not None and value not in column.known}
        if new:
            self.unknown_values.setdefault(f"{table.name}.{column.name}", set()).update(new)

    def update(self, other: Drift) -> None:
        """Count what the other has counted, too."""
        self.odd_values.update(other.odd_values)
        self.unknown_keys.update(other.unknown_keys)
        for column, found in other.unknown_values.items():
            self.unknown_values.setdefault(column, set()).update(found)

    def minus(self, known: Drift) -> Drift:
        """What is named here and not there."""
        return Drift(
            Counter({name: n for name, n in self.odd_values.items() if name not in known.odd_values}),
            Counter({name: n for name, n in self.unknown_keys.items() if name not in known.unknown_keys}),
            {
                column: new
                for column, found in self.unknown_values.items()
                if (new := found - known.unknown_values.get(column, set()))
            },
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Drift:
        """What `as_dict` told."""
        return cls(
            Counter(told["odd_values"]),
            Counter(told["unknown_keys"]),
            {column: set(found) for column, found in told["unknown_values"].items()},
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; of very many names, the first."""
        return {
            "odd_values": dict(sorted(self.odd_values.items())[:_NAMED]),
            "unknown_keys": dict(sorted(self.unknown_keys.items())[:_NAMED]),
            "unknown_values": {
                column: sorted(found)[:_NAMED] for column, found in sorted(self.unknown_values.items())
            },
        }

    def __str__(self) -> str:
        found = [
            *_named("values of another kind in", self.odd_values),
            *_named("unknown keys", self.unknown_keys),
            *(f"unknown {column}: {_some(found)}" for column, found in sorted(self.unknown_values.items())),
        ]
        return "; ".join(found)


def _named(what: str, names: Iterable[str]) -> list[str]:
    return [f"{what} {_some(names)}"] if names else []


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_NAMED]) + (", ..." if len(ordered) > _NAMED else "")


def presentable_name(name: str) -> str:
    """A key or an enum value as log and receipt may show it; `*` if it looks like content: a number, a sentence."""
    is_name = name.replace("-", "_").isidentifier() and len(name) <= _LONGEST_NAME
    return name if is_name else "*"
