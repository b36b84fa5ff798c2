"""Schema drift: data that differs from the API contract. It is counted and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from pydantic import BaseModel

from voiceos_provider.client.models import Transcriber, Voice
from voiceos_provider.client.values import JsonValue
from voiceos_provider.transform.credentials import mask_text

if TYPE_CHECKING:
    from voiceos_provider.transform.schema import Column, Table

SCALAR: Final = "scalar"
ANY_KEYS: Final = "object with any keys"
ANY_VALUE: Final = "object or list with any content"
Shape = Any
"""What is documented of a value: its keys with their shapes, also of each object in a list; or one of the above."""

_MAX_NAMES = 50
_LONGEST_NAME = 64

_EVENTS = (
    "phone_call:connection_requested phone_call:rejected phone_call:accepted function_call:triggered "
    "conversation:started conversation:ended conversation:duration speech:started speech:ended message:sent "
    "message:generated"
)
_CONFIGURATION_ENUMS: Final = {
    "webhooks.[].method": "GET POST",
    "webhooks.[].events.[]": _EVENTS,
    "hooks.[].events.[]": _EVENTS,
    "hooks.[].instructions.[].instruction": "hang_up",
}
"""Documented values of the configuration's enums that have no column, by path."""


@dataclass(slots=True)
class Drift:
    """Differences from the contract, counted.

    :param invalid_values: per column or field, values that the column cannot hold
    :param undocumented_fields: per path, how often a field came that is not documented
    :param undocumented_values: per column or path, values of an enum that are not documented
    """

    invalid_values: Counter[str] = field(default_factory=Counter)
    undocumented_fields: Counter[str] = field(default_factory=Counter)
    undocumented_values: dict[str, set[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.invalid_values or self.undocumented_fields or self.undocumented_values)

    def add_enums(self, table: Table, columns: Any) -> None:
        """Add the undocumented values in the enum columns of a table, except those of the configuration."""
        for column in table.columns:
            if column.documented_values and column.path[0] != "agent_config":
                self.add_enum_values(table, column, columns[column.name].unique().to_pylist())

    def add_enum_values(self, table: Table, column: Column, values: Iterable[str | None]) -> None:
        """Add those of the values that are not documented for an enum column."""
        undocumented = {
            value for value in values if value is not None and value not in column.documented_values
        }
        self.add_undocumented_values(f"{table.name}.{column.name}", map(safe_name, undocumented))

    def add_undocumented_values(self, name: str, values: Iterable[str]) -> None:
        """Add undocumented values of one enum."""
        if new := set(values):
            self.undocumented_values.setdefault(name, set()).update(new)

    def update(self, other: Drift, times: int = 1) -> None:
        """Add everything that another drift has, a number of times."""
        self.invalid_values.update({name: times * n for name, n in other.invalid_values.items()})
        self.undocumented_fields.update({name: times * n for name, n in other.undocumented_fields.items()})
        for name, values in other.undocumented_values.items():
            self.add_undocumented_values(name, values)

    def difference(self, other: Drift) -> Drift:
        """Return what is named here and not in the other drift, whatever the counts."""
        values = {
            name: found - other.undocumented_values.get(name, set())
            for name, found in self.undocumented_values.items()
        }
        return Drift(
            _without(self.invalid_values, other.invalid_values),
            _without(self.undocumented_fields, other.undocumented_fields),
            {name: new for name, new in values.items() if new},
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Drift:
        """Return the drift that `as_dict` has stored."""
        return cls(
            Counter(stored["invalid_values"]),
            Counter(stored["undocumented_fields"]),
            {name: set(values) for name, values in stored["undocumented_values"].items()},
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON with at most 50 names of each sort."""
        return {
            "invalid_values": dict(sorted(self.invalid_values.items())[:_MAX_NAMES]),
            "undocumented_fields": dict(sorted(self.undocumented_fields.items())[:_MAX_NAMES]),
            "undocumented_values": {
                name: sorted(values)[:_MAX_NAMES] for name, values in sorted(self.undocumented_values.items())
            },
        }

    def __str__(self) -> str:
        named: dict[str, Iterable[str]] = {
            "invalid values in": self.invalid_values,
            "undocumented fields": self.undocumented_fields,
        }
        named |= {f"undocumented {name}:": found for name, found in sorted(self.undocumented_values.items())}
        return "; ".join(f"{label} {_joined(names)}" for label, names in named.items() if names)


def _without(counts: Counter[str], others: Counter[str]) -> Counter[str]:
    return Counter({name: n for name, n in counts.items() if name not in others})


def _joined(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MAX_NAMES]) + (", ..." if len(ordered) > _MAX_NAMES else "")


def safe_name(name: str) -> str:
    """Return a key or an enum value as logs and receipts may show it: `*` if it may be content or a credential."""
    is_name = len(name) <= _LONGEST_NAME and name.replace("-", "_").replace(":", "_").isidentifier()
    return name if is_name and mask_text(name) == name else "*"


@cache
def shape_of(annotation: Any) -> Shape:
    """Return what is documented of a value with the annotation of a model's field, such as `list[Webhook] | None`."""
    if annotation in (Voice, Transcriber):  # their settings depend on the provider
        return ANY_KEYS
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {
            name: shape_of(field.annotation)  # type: ignore[arg-type]
            for name, field in annotation.model_fields.items()
            if not field.exclude
        }
    inner = [shape for shape in map(shape_of, get_args(annotation)) if shape != SCALAR]
    if get_origin(annotation) in (list, dict) and not inner:
        return ANY_VALUE
    return inner[0] if inner else SCALAR


def map_undocumented(value: JsonValue, shape: Shape, change: Callable[[JsonValue], JsonValue]) -> JsonValue:
    """Return a copy of the value in which everything that is not documented is changed.

    :param change: gets the undocumented fields of an object with their values; or a value that is an object or a list
        where neither is documented, or that is in a list of objects and is not one
    """
    if not isinstance(value, dict | list) or shape == ANY_VALUE:
        return value
    if shape == SCALAR:
        return change(value)
    if isinstance(value, list):
        return [
            map_undocumented(item, shape, change) if isinstance(item, dict) else change(item)
            for item in value
        ]
    if not isinstance(shape, dict):
        return value
    kept = {key: map_undocumented(item, shape[key], change) for key, item in value.items() if key in shape}
    undocumented = {key: item for key, item in value.items() if key not in shape}
    return kept | change(undocumented) if undocumented else kept


def find_undocumented_fields(value: JsonValue, shape: Shape, path: str) -> Iterator[str]:
    """Yield the paths of the fields that are not documented."""
    if isinstance(value, list) and isinstance(shape, dict):
        for item in value:
            if isinstance(item, dict):
                yield from find_undocumented_fields(item, shape, f"{path}.[]")
    elif isinstance(value, dict) and isinstance(shape, dict):
        for key, item in value.items():
            if key not in shape:
                yield f"{path}.{safe_name(key)}"
            elif isinstance(item, dict | list):
                yield from find_undocumented_fields(item, shape[key], f"{path}.{key}")


def find_undocumented_values(config: JsonValue) -> Iterator[tuple[str, str]]:
    """Yield path and value of undocumented enum values in a configuration, except those that have a column."""
    for path, documented in _CONFIGURATION_ENUMS.items():
        for value in _values_at(config, path.split(".")):
            if isinstance(value, str) and value not in documented.split():
                yield f"agent_config.{path}", safe_name(value)


def _values_at(value: JsonValue, steps: list[str]) -> Iterator[JsonValue]:
    if not steps:
        yield value
    elif steps[0] == "[]":
        for item in value if isinstance(value, list) else ():
            yield from _values_at(item, steps[1:])
    elif isinstance(value, dict):
        yield from _values_at(value.get(steps[0]), steps[1:])
