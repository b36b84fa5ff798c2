"""What stands under keys that the API does not document?

What a voice or a transcriber takes depends on its provider, and what `metadata` or a tool holds on the customer: all of
that counts as documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from voiceos_provider.client.models import Transcriber, Voice
from voiceos_provider.client.values import JsonValue
from voiceos_provider.transform.schema_drift import presentable_name

_TAKES_ANY_KEY = (Voice, Transcriber)


def unknown_keys(value: JsonValue, model: type[BaseModel], path: str) -> Iterator[str]:
    """The paths of the keys that a model does not have."""
    if not isinstance(value, dict) or model in _TAKES_ANY_KEY:
        return
    documented = _fields(model)
    for key, item in value.items():
        if key not in documented:
            yield f"{path}.{presentable_name(key)}"
            continue
        inner = documented[key].model
        if inner and isinstance(item, list):
            for element in item:
                yield from unknown_keys(element, inner, f"{path}.{key}.[]")
        elif inner:
            yield from unknown_keys(item, inner, f"{path}.{key}")


def with_unknown(
    value: dict[str, JsonValue], model: type[BaseModel], change: Callable[[JsonValue], JsonValue]
) -> dict[str, JsonValue]:
    """A copy of an object, with what its model does not have as `change` returns it.

    :param change: gets the unknown keys of an object with their values; or a value that is an object or a list where
        none is documented, and so stands under no documented key either
    """
    if model in _TAKES_ANY_KEY:
        return value
    documented = _fields(model)
    known = {
        key: _with_unknown(item, documented[key], change) for key, item in value.items() if key in documented
    }
    unknown = {key: item for key, item in value.items() if key not in documented}
    return known | change(unknown) if unknown else known


def _with_unknown(value: JsonValue, field: _Field, change: Callable[[JsonValue], JsonValue]) -> JsonValue:
    if not isinstance(value, dict | list) or field.holds_anything:
        return value
    model = field.model
    if model is None:
        return change(value)
    if isinstance(value, dict):
        return with_unknown(value, model, change)
    return [with_unknown(item, model, change) if isinstance(item, dict) else change(item) for item in value]


@dataclass(frozen=True, slots=True)
class _Field:
    """What is documented under a key.

    :param model: of the object, or of each one in a list
    :param holds_anything: whether it is an object or a list of which nothing more is documented
    """

    model: type[BaseModel] | None
    holds_anything: bool


@cache
def _fields(model: type[BaseModel]) -> dict[str, _Field]:
    """What the API documents of a model, by the keys."""
    documented = {}
    for name, field in model.model_fields.items():
        if not field.exclude:
            inner = next(_models(field.annotation), None)
            documented[name] = _Field(inner, inner is None and _is_holder(field.annotation))
    return documented


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside of an annotation such as `list[Webhook] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _is_holder(annotation: Any) -> bool:
    """Whether a list or an object is documented there."""
    return get_origin(annotation) in (list, dict) or any(map(_is_holder, get_args(annotation)))
