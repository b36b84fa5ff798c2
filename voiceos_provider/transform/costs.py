"""Columns of `conversation_costs`, made from those of `conversations`; `column_values` parses the amounts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.transform import schema

_UNITS = {"language_model": "tokens", "voice": "characters"}  # all others in seconds
_MAX_COUNT = 2**52  # a double holds the sum of two
_BILL = {
    name: [column for column in schema.CONVERSATIONS.columns if column.path[:2] == ("cost_breakdown", name)]
    for name in schema.COMPONENTS
}


def cost_columns(conversations: pa.RecordBatch) -> tuple[dict[str, pa.Array], pa.Array]:
    """Return the columns of `conversation_costs`, and the row of `conversations` that each row belongs to."""
    size = len(conversations)
    billed = {
        name: reduce(pc.or_, (pc.is_valid(conversations.column(column.name)) for column in bill))
        for name, bill in _BILL.items()
    }
    # Without a breakdown nothing is known of the costs, so there are no rows.
    has_breakdown = reduce(pc.or_, billed.values(), pc.is_valid(conversations.column("total_cost")))
    never = pa.repeat(pa.scalar(False), size)
    own_keys, has_row = [], []
    for name in schema.COMPONENTS:
        own_key = conversations.column(f"{name}_own_key") if name in schema.COMPONENTS_WITH_KEYS else never
        unbilled = pc.and_(has_breakdown, pc.fill_null(own_key, False))
        own_keys.append(own_key)
        has_row.append(pc.or_(billed[name], unbilled).to_numpy(zero_copy_only=False))
    rows, components = np.nonzero(np.column_stack(has_row))
    indices = pa.array(components * size + rows)  # into the columns of all components, one after the other
    positions, which = pa.array(rows), pa.array(components)

    def stacked(columns: Iterable[pa.Array]) -> pa.Array:
        return pa.concat_arrays(columns).take(indices)

    units = [_UNITS.get(name, "seconds") for name in schema.COMPONENTS]
    columns = {
        "conversation_id": conversations.column("id").take(positions),
        "component": pa.array(schema.COMPONENTS, schema.TEXT.arrow).take(which),
        "provider": stacked(conversations.column(f"{name}_cost_provider") for name in schema.COMPONENTS),
        "cost": stacked(conversations.column(f"{name}_cost") for name in schema.COMPONENTS),
        "quantity": stacked(_quantity(conversations, _BILL[name]) for name in schema.COMPONENTS),
        "unit": pa.array(units, schema.TEXT.arrow).take(which),
        "own_key": stacked(own_keys),
    }
    return columns, positions


def _quantity(conversations: pa.RecordBatch, bill: Sequence[schema.Column]) -> pa.Array:
    """Return the sum of the counts; null where a double cannot represent it exactly."""
    counted = [
        conversations.column(column.name) for column in bill if column.kind in (schema.NUMBER, schema.COUNT)
    ]
    total = reduce(_sum, (column.cast(schema.NUMBER.arrow, safe=False) for column in counted))
    for column in counted:
        bounds = pc.min_max(column).as_py().values()
        if column.type == schema.COUNT.arrow and any(abs(bound or 0) > _MAX_COUNT for bound in bounds):
            is_exact = pc.and_(pc.greater_equal(column, -_MAX_COUNT), pc.less_equal(column, _MAX_COUNT))
            total = pc.if_else(pc.fill_null(is_exact, True), total, None)
    return total


def _sum(left: pa.Array, right: pa.Array) -> pa.Array:
    """Add two columns; a sum is null only where both are."""
    return pc.if_else(pc.is_null(left), right, pc.add(left, pc.fill_null(right, 0.0)))
