"""Which component of which conversation cost what? Told from the columns of `conversations`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.transform.column_types import NUMBER, TEXT
from voiceos_provider.transform.schema import COMPONENTS, CONVERSATION_COSTS, CONVERSATIONS, WITH_KEYS

_QUANTITIES = {
    "agent": ("seconds", ("agent_cost_seconds",)),
    "language_model": ("tokens", ("language_model_cost_input_tokens", "language_model_cost_output_tokens")),
    "transcriber": ("seconds", ("transcriber_cost_seconds",)),
    "voice": ("characters", ("voice_cost_characters",)),
    "telephony": ("seconds", ("telephony_cost_seconds",)),
}
_NAMES = pa.array(COMPONENTS, TEXT.arrow)
_UNITS = pa.array([_QUANTITIES[name][0] for name in COMPONENTS], TEXT.arrow)
_BREAKDOWN = [column.name for column in CONVERSATIONS.columns if column.path[:1] == ("cost_breakdown",)]


def cost_rows(conversations: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array]:
    """The rows of `conversation_costs`, and the row of `conversations` that each belongs to."""
    size = len(conversations)
    # Before the end there is no breakdown, and no row that would say "nothing".
    known = _any_valid(conversations.column(name) for name in _BREAKDOWN)
    not_ours = pa.repeat(pa.scalar(False), size)
    own_keys = [
        conversations.column(f"{name}_own_key") if name in WITH_KEYS else not_ours for name in COMPONENTS
    ]
    there = [
        _is_there(name, conversations, known, own_key)
        for name, own_key in zip(COMPONENTS, own_keys, strict=True)
    ]
    # Of all rows there could be, one for each component of each conversation, the places of those that there are.
    rows, components = np.nonzero(np.column_stack(there))
    places = pa.array(components * size + rows)
    positions, which = pa.array(rows), pa.array(components)

    def of_each(columns: Iterable[pa.Array]) -> pa.Array:
        return pa.concat_arrays(columns).take(places)

    columns = {
        "conversation_id": conversations.column("id").take(positions),
        "component": _NAMES.take(which),
        "provider": of_each(conversations.column(f"{name}_cost_provider") for name in COMPONENTS),
        "cost": of_each(conversations.column(f"{name}_cost") for name in COMPONENTS),
        "quantity": of_each(_quantity(name, conversations) for name in COMPONENTS),
        "unit": _UNITS.take(which),
        "own_key": of_each(own_keys),
    }
    for name in CONVERSATION_COSTS.schema.names:
        if name not in columns:
            columns[name] = conversations.column(name).take(positions)
    return (
        pa.RecordBatch.from_arrays(
            [columns[name] for name in CONVERSATION_COSTS.schema.names], schema=CONVERSATION_COSTS.schema
        ),
        positions,
    )


def _is_there(name: str, conversations: pa.RecordBatch, known: pa.Array, own_key: pa.Array) -> np.ndarray:
    """Whether there is a row of this component, for each conversation."""
    columns = (f"{name}_cost", f"{name}_cost_provider", *_QUANTITIES[name][1])
    billed = _any_valid(conversations.column(column) for column in columns)
    mask = pc.or_(billed, pc.and_(known, pc.fill_null(own_key, False)))
    return np.asarray(mask.to_numpy(zero_copy_only=False))


def _quantity(name: str, conversations: pa.RecordBatch) -> pa.Array:
    # Not "safe": a count beyond 2^53 becomes the nearest double, where Arrow would raise.
    counted = (conversations.column(column).cast(NUMBER.arrow, safe=False) for column in _QUANTITIES[name][1])
    return reduce(_sum, counted)


def _any_valid(columns: Iterable[pa.Array]) -> pa.Array:
    return reduce(pc.or_, (pc.is_valid(column) for column in columns))


def _sum(left: pa.Array, right: pa.Array) -> pa.Array:
    """What is known of both; null if neither is."""
    total = pc.add(pc.fill_null(left, 0.0), pc.fill_null(right, 0.0))
    return pc.if_else(pc.or_(pc.is_valid(left), pc.is_valid(right)), total, None)
