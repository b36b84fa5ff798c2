"""Schema drift: data that differs from the API contract. It is counted and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from voiceos_provider.client.values import JsonValue
from voiceos_provider.transform.credentials import mask_text

if TYPE_CHECKING:
    from pydantic import BaseModel

    from voiceos_provider.transform.schema import Column, Table

_MAX_NAMES = 50
_LONGEST_NAME = 64

_EVENTS = frozenset(
    f"{subject}:{event}"
    for subject, events in {
        "phone_call": ("connection_requested", "rejected", "accepted"),
        "function_call": ("triggered",),
        "conversation": ("started", "ended", "duration"),
        "speech": ("started", "ended"),
        "message": ("sent", "generated"),
    }.items()
    for event in events
)
_CONFIGURATION_ENUMS: Final[dict[str, frozenset[str]]] = {
    "webhooks.[].method": frozenset({"GET", "POST"}),
    "webhooks.[].events.[]": _EVENTS,
    "hooks.[].events.[]": _EVENTS,
    "hooks.[].instructions.[].instruction": frozenset({"hang_up"}),
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
        """Add the undocumented values in the enum columns of a table, except those of the configuration.

        :param columns: Arrow arrays by name
        """
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

    def update(self, other: Drift) -> None:
        """Add everything that another drift has."""
        self.invalid_values.update(other.invalid_values)
        self.undocumented_fields.update(other.undocumented_fields)
        for name, values in other.undocumented_values.items():
            self.add_undocumented_values(name, values)

    def difference(self, other: Drift) -> Drift:
        """Return what is named here and not in the other drift, whatever the counts."""
        return Drift(
            Counter({name: n for name, n in self.invalid_values.items() if name not in other.invalid_values}),
            Counter(
                {
                    name: n
                    for name, n in self.undocumented_fields.items()
                    if name not in other.undocumented_fields
                }
            ),
            {
                name: new
                for name, values in self.undocumented_values.items()
                if (new := values - other.undocumented_values.get(name, set()))
            },
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
        parts = [
            *_listed("invalid values in", self.invalid_values),
            *_listed("undocumented fields", self.undocumented_fields),
            *(
                f"undocumented {name}: {_joined(values)}"
                for name, values in sorted(self.undocumented_values.items())
            ),
        ]
        return "; ".join(parts)


def _listed(label: str, names: Iterable[str]) -> list[str]:
    return [f"{label} {_joined(names)}"] if names else []


def _joined(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MAX_NAMES]) + (", ..." if len(ordered) > _MAX_NAMES else "")


def safe_name(name: str) -> str:
    """Return a key or an enum value as logs and receipts may show it: `*` if it may be content or a credential."""
    is_name = len(name) <= _LONGEST_NAME and name.replace("-", "_").replace(":", "_").isidentifier()
    return name if is_name and mask_text(name) == name else "*"


def find_undocumented_fields(value: JsonValue, model: type[BaseModel], path: str) -> Iterator[str]:
    """Yield the paths of the fields that a model does not have.

    Settings of a voice or a transcriber depend on its provider, and `metadata` and tools belong to the customer: all of
    them count as documented.
    """
    documented = _documented_fields(model)
    if not isinstance(value, dict) or documented is None:
        return
    for key, item in value.items():
        if key not in documented:
            yield f"{path}.{safe_name(key)}"
            continue
        inner = documented[key].model
        if inner and isinstance(item, list):
            for element in item:
                yield from find_undocumented_fields(element, inner, f"{path}.{key}.[]")
        elif inner:
            yield from find_undocumented_fields(item, inner, f"{path}.{key}")


def find_undocumented_values(config: JsonValue) -> Iterator[tuple[str, str]]:
    """Yield path and value of undocumented enum values in a configuration, except those that have a column."""
    for path, documented in _CONFIGURATION_ENUMS.items():
        for value in _values_at(config, path.split(".")):
            if isinstance(value, str) and value not in documented:
                yield f"agent_config.{path}", safe_name(value)


def _values_at(value: JsonValue, steps: list[str]) -> Iterator[JsonValue]:
    if not steps:
        yield value
    elif steps[0] == "[]":
        for item in value if isinstance(value, list) else ():
            yield from _values_at(item, steps[1:])
    elif isinstance(value, dict):
        yield from _values_at(value.get(steps[0]), steps[1:])


def map_undocumented(
    value: dict[str, JsonValue], model: type[BaseModel], change: Callable[[JsonValue], JsonValue]
) -> dict[str, JsonValue]:
    """Return a copy of an object in which `change` has been applied to everything that its model does not have.

    :param change: gets the undocumented fields of an object with their values; or a value that is an object or a list
        where neither is documented
    """
    documented = _documented_fields(model)
    if documented is None:
        return value
    kept = {
        key: _map_field(item, documented[key], change) for key, item in value.items() if key in documented
    }
    undocumented = {key: item for key, item in value.items() if key not in documented}
    return kept | change(undocumented) if undocumented else kept


def _map_field(value: JsonValue, field: _Field, change: Callable[[JsonValue], JsonValue]) -> JsonValue:
    if not isinstance(value, dict | list) or field.is_open:
        return value
    model = field.model
    if model is None:
        return change(value)
    if isinstance(value, dict):
        return map_undocumented(value, model, change)
    return [
        map_undocumented(item, model, change) if isinstance(item, dict) else change(item) for item in value
    ]


@dataclass(frozen=True, slots=True)
class _Field:
    """What is documented of a field.

    :param model: of the object, or of each one in a list
    :param is_open: whether it is an object or a list whose content is not documented
    """

    model: type[BaseModel] | None
    is_open: bool


@cache
def _documented_fields(model: type[BaseModel]) -> dict[str, _Field] | None:
    """Return the documented fields of a model by key; None if it may have any."""
    from voiceos_provider.client.models import Transcriber, Voice

    if model in (Voice, Transcriber):
        return None
    documented = {}
    for name, info in model.model_fields.items():
        if not info.exclude:
            inner = next(_models_in(info.annotation), None)
            documented[name] = _Field(inner, inner is None and _is_container(info.annotation))
    return documented


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models inside of an annotation such as `list[Webhook] | None`."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _is_container(annotation: Any) -> bool:
    return get_origin(annotation) in (list, dict) or any(map(_is_container, get_args(annotation)))
