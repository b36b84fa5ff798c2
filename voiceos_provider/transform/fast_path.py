"""Fast path: conversations that are exactly as documented become columns, a whole column at a time.

The fallback decoder decodes a conversation with a value that a column cannot be read from, such as a number with too
many digits. Both produce the same rows, which a test compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, get_args

import msgspec
import pyarrow as pa
from msgspec.structs import fields

from voiceos_provider.client.models import NULL, ConversationStruct
from voiceos_provider.transform.column_values import read_column
from voiceos_provider.transform.schema import SOURCE_COLUMNS, SOURCE_OBJECTS, Path


def _missing_objects() -> dict[Path, Any]:
    """Return for each object inside of a conversation one without values, which takes the place of a missing one."""
    structs: dict[Path, Any] = {(): ConversationStruct}
    for path in SOURCE_OBJECTS:
        (declared,) = (field for field in fields(structs[path[:-1]]) if field.name == path[-1])
        (structs[path],) = (member for member in get_args(declared.type) if member is not type(None))
    return {
        path: structs[path](
            **{field.name: NULL if field.type is msgspec.Raw else None for field in fields(structs[path])}
        )
        for path in SOURCE_OBJECTS
    }


_MISSING = _missing_objects()


def decode_columns(conversations: Sequence[Any]) -> tuple[dict[str, pa.Array], set[int]]:
    """Return `SOURCE_COLUMNS`, and the positions of conversations for the fallback decoder.

    The columns have any value at these positions.
    """
    size = len(conversations)
    objects: dict[Path, list[Any]] = {(): list(conversations)}
    for path, missing in _MISSING.items():
        sent = map(attrgetter(path[-1]), objects[path[:-1]])
        objects[path] = [missing if value is None else value for value in sent]
    columns: dict[str, pa.Array] = {}
    positions: set[int] = set()
    for kind in dict.fromkeys(column.kind for column in SOURCE_COLUMNS):
        of_kind = [column for column in SOURCE_COLUMNS if column.kind is kind]
        values: list[Any] = []
        for column in of_kind:
            values += map(attrgetter(column.path[-1]), objects[column.path[:-1]])
        whole, invalid = read_column(kind, values)
        positions.update(position % size for position in invalid)
        columns |= {column.name: whole.slice(n * size, size) for n, column in enumerate(of_kind)}
    columns["id"] = pa.array([conversation.id for conversation in conversations], pa.string())  # never masked
    return columns, positions
