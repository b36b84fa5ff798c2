"""How is a conversation decoded in one go that is exactly as documented?

Nearly all are, and reading them without a Python object per JSON value is what makes an export fast. Whatever is not
as documented, be it one unknown key, stays JSON text and is read value by value later; both ways lead to the same rows.

The shapes are made from `api.models`, so that what the API sends is declared there alone.
"""

from __future__ import annotations

import typing
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel

from voiceos_provider.client.models import AgentConfig, Conversation

NULL: typing.Final = msgspec.Raw(b"null")
"""What stands where a number or a configuration is missing."""

# Numbers and date-times stay text: a whole column of them is read at once later.
_LEAVES: dict[Any, Any] = {
    str: str | None,
    int: int | None,
    float: msgspec.Raw,
    Decimal: msgspec.Raw,
    datetime: str | None,
    AgentConfig: msgspec.Raw,
}


# Whether an object was sent empty is only seen where it is read value by value. So these must be there, if only as
# null.
_NEVER_LEFT_OUT = ("to_number", "total", "cost")


def _struct(model: type[BaseModel]) -> Any:
    """A closed struct with the fields of an open model."""
    fields: list[Any] = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        kind = _kind(field.annotation)
        if field.is_required():
            fields.append((name, Annotated[kind, msgspec.Meta(min_length=1)]))
        elif name in _NEVER_LEFT_OUT:
            fields.append((name, kind))
        else:
            fields.append((name, kind, NULL if kind is msgspec.Raw else None))
    # They never refer to each other in a circle, so the garbage collector need not look at them.
    return msgspec.defstruct(model.__name__, fields, forbid_unknown_fields=True, kw_only=True, gc=False)


def _kind(annotation: Any) -> Any:
    if annotation is str:
        return str
    (inner,) = (member for member in typing.get_args(annotation) if member is not type(None))
    if inner in _LEAVES:
        return _LEAVES[inner]
    if typing.get_origin(inner) is list:
        return list.__class_getitem__(_struct(*typing.get_args(inner))) | None
    return _struct(inner) | None


Documented: Any = _struct(Conversation)
"""The struct of a conversation. Its attributes are those of `Conversation`."""
