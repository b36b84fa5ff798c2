"""Rows of `conversation_costs`, made from the columns of `conversations`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.transform.schema import (
    COMPONENTS,
    COMPONENTS_WITH_KEYS,
    CONVERSATION_COSTS,
    CONVERSATIONS,
    NUMBER,
    TEXT,
)

_QUANTITIES = {
    "agent": ("seconds", ("agent_cost_seconds",)),
    "language_model": ("tokens", ("language_model_cost_input_tokens", "language_model_cost_output_tokens")),
    "transcriber": ("seconds", ("transcriber_cost_seconds",)),
    "voice": ("characters", ("voice_cost_characters",)),
    "telephony": ("seconds", ("telephony_cost_seconds",)),
}
_MAX_COUNT = 2**52  # a double holds the sum of two
_BREAKDOWN = [column.name for column in CONVERSATIONS.columns if column.path[:1] == ("cost_breakdown",)]


def cost_rows(conversations: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array]:
    """Return the rows of `conversation_costs`, and the row of `conversations` that each belongs to."""
    size = len(conversations)
    # Without a breakdown nothing is known of the costs, so there are no rows.
    has_breakdown = _any_valid(conversations.column(name) for name in _BREAKDOWN)
    never = pa.repeat(pa.scalar(False), size)
    own_keys = [
        conversations.column(f"{name}_own_key") if name in COMPONENTS_WITH_KEYS else never
        for name in COMPONENTS
    ]
    has_row = [
        _has_row(name, conversations, has_breakdown, own_key)
        for name, own_key in zip(COMPONENTS, own_keys, strict=True)
    ]
    rows, components = np.nonzero(np.column_stack(has_row))
    indices = pa.array(components * size + rows)  # into the columns of all components, one after the other
    positions, which = pa.array(rows), pa.array(components)
    names, units = _names_and_units()

    def stacked(columns: Iterable[pa.Array]) -> pa.Array:
        return pa.concat_arrays(columns).take(indices)

    columns = {
        "conversation_id": conversations.column("id").take(positions),
        "component": names.take(which),
        "provider": stacked(conversations.column(f"{name}_cost_provider") for name in COMPONENTS),
        "cost": stacked(conversations.column(f"{name}_cost") for name in COMPONENTS),
        "quantity": stacked(_quantity(name, conversations) for name in COMPONENTS),
        "unit": units.take(which),
        "own_key": stacked(own_keys),
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


@cache
def _names_and_units() -> tuple[pa.Array, pa.Array]:
    # Not at module level: the first array loads pandas.
    return (
        pa.array(COMPONENTS, TEXT.arrow),
        pa.array([_QUANTITIES[name][0] for name in COMPONENTS], TEXT.arrow),
    )


def _has_row(
    name: str, conversations: pa.RecordBatch, has_breakdown: pa.Array, own_key: pa.Array
) -> np.ndarray:
    """Return whether each conversation has a row of this component."""
    columns = (f"{name}_cost", f"{name}_cost_provider", *_QUANTITIES[name][1])
    billed = _any_valid(conversations.column(column) for column in columns)
    mask = pc.or_(billed, pc.and_(has_breakdown, pc.fill_null(own_key, False)))
    return np.asarray(mask.to_numpy(zero_copy_only=False))


def _quantity(name: str, conversations: pa.RecordBatch) -> pa.Array:
    """Return the sum of the counts; null where a double cannot represent it exactly."""
    counted = [conversations.column(column) for column in _QUANTITIES[name][1]]
    total = reduce(_sum, (column.cast(NUMBER.arrow, safe=False) for column in counted))
    for column in counted:
        if column.type != NUMBER.arrow and not _in_range(column):
            is_exact = pc.and_(pc.greater_equal(column, -_MAX_COUNT), pc.less_equal(column, _MAX_COUNT))
            total = pc.if_else(pc.fill_null(is_exact, True), total, None)
    return total


def _in_range(counts: pa.Array) -> bool:
    values = np.frombuffer(counts.buffers()[1], np.int64, len(counts), 8 * counts.offset)
    return not len(values) or bool(values.max() <= _MAX_COUNT and values.min() >= -_MAX_COUNT)


def _any_valid(columns: Iterable[pa.Array]) -> pa.Array:
    return reduce(pc.or_, (pc.is_valid(column) for column in columns))


def _sum(left: pa.Array, right: pa.Array) -> pa.Array:
    """Add two columns; a sum is null only where both are."""
    total = pc.add(pc.fill_null(left, 0.0), pc.fill_null(right, 0.0))
    return pc.if_else(pc.or_(pc.is_valid(left), pc.is_valid(right)), total, None)
