"""Which component of which conversation cost what? Told from the columns of `conversations`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from voiceos_provider.records.kinds import NUMBER
from voiceos_provider.records.tables import COMPONENTS, CONVERSATION_COSTS, CONVERSATIONS, WITH_KEYS

_QUANTITIES = {
    "agent": ("seconds", ("agent_cost_seconds",)),
    "language_model": ("tokens", ("language_model_cost_input_tokens", "language_model_cost_output_tokens")),
    "transcriber": ("seconds", ("transcriber_cost_seconds",)),
    "voice": ("characters", ("voice_cost_characters",)),
    "telephony": ("seconds", ("telephony_cost_seconds",)),
}
_DERIVED = ("provider", "cost", "quantity", "unit", "own_key")


def cost_rows(conversations: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array]:
    """The rows of `conversation_costs`, and the row of `conversations` that each belongs to."""
    positions = pa.array(range(len(conversations)), pa.int64())
    # Before the end there is no breakdown, and no row that would say "nothing".
    known = _any_valid(
        conversations.column(column.name)
        for column in CONVERSATIONS.columns
        if column.path[:1] == ("cost_breakdown",)
    )
    parts = [_component(name, conversations, positions, known) for name in COMPONENTS]
    table = pa.concat_tables(parts)
    table = table.take(pc.sort_indices(table, sort_keys=[("position", "ascending")])).combine_chunks()
    (batch,) = table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    return (
        pa.RecordBatch.from_arrays(
            [batch.column(name) for name in CONVERSATION_COSTS.schema.names], schema=CONVERSATION_COSTS.schema
        ),
        batch.column("position"),
    )


def _component(name: str, conversations: pa.RecordBatch, positions: pa.Array, known: pa.Array) -> pa.Table:
    unit, quantities = _QUANTITIES[name]
    cost, provider = conversations.column(f"{name}_cost"), conversations.column(f"{name}_cost_provider")
    counted = [conversations.column(quantity) for quantity in quantities]
    size = len(conversations)
    own_key = (
        conversations.column(f"{name}_own_key") if name in WITH_KEYS else pa.array([False] * size, pa.bool_())
    )
    billed = _any_valid((cost, provider, *counted))
    there = pc.or_(billed, pc.and_(known, pc.fill_null(own_key, False)))
    columns = {
        "conversation_id": conversations.column("id"),
        "component": pa.array([name] * size, pa.string()),
        "provider": provider,
        "cost": cost,
        # Not "safe": a count beyond 2^53 becomes the nearest double, where Arrow would raise.
        "quantity": reduce(_sum, (column.cast(NUMBER.arrow, safe=False) for column in counted)),
        "unit": pa.array([unit] * size, pa.string()),
        "own_key": own_key,
        **{
            field.name: conversations.column(field.name)
            for field in conversations.schema
            if field.name[0] == "_"
        },
        "position": positions,
    }
    return pa.table(columns).filter(there)


def _any_valid(columns: Iterable[pa.Array]) -> pa.Array:
    return reduce(pc.or_, (pc.is_valid(column) for column in columns))


def _sum(left: pa.Array, right: pa.Array) -> pa.Array:
    """What is known of both; null if neither is."""
    total = pc.add(pc.fill_null(left, 0.0), pc.fill_null(right, 0.0))
    return pc.if_else(pc.or_(pc.is_valid(left), pc.is_valid(right)), total, None)
