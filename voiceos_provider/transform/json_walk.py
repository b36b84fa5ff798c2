"""Copies of JSON values with changes: everywhere, or only where the contract documents nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from voiceos_provider.client.models import Transcriber, Voice
from voiceos_provider.client.values import JsonValue

JsonObject = dict[str, JsonValue]

SCALAR: Final = "scalar"
ANY_KEYS: Final = "object with any keys"
ANY_VALUE: Final = "object or list with any content"
Shape = Any
"""What is documented of a value: its keys with their shapes, also of each object in a list; or one of the above."""


def map_json(
    value: JsonValue,
    *,
    text: Callable[[str], JsonValue] = str,
    number: Callable[[int | Decimal], JsonValue] | None = None,
    keys: Callable[[JsonObject], JsonObject] = dict.copy,
) -> JsonValue:
    """Return a copy of the value with changes at any depth.

    :param text: changes a text
    :param number: changes a number
    :param keys: returns a copy of an object with other keys or values, before what is inside of it is changed
    """
    top = [value]
    todo: list[Any] = [top]
    while todo:  # JSON may be nested deeper than Python can call
        parent = todo.pop()
        for key, item in parent.items() if isinstance(parent, dict) else enumerate(parent):
            if isinstance(item, str):
                parent[key] = text(item)
            elif isinstance(item, dict | list):
                parent[key] = kept = keys(item) if isinstance(item, dict) else item.copy()
                todo.append(kept)
            elif number and item is not None and not isinstance(item, bool):
                parent[key] = number(item)
    return top[0]


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
