"""DataFrames of every type, compared with each other and with the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from voiceos_provider.emulator import Emulator, World
from voiceos_provider.hooks.voiceos import VoiceOSHook
from voiceos_provider.transform import TABLES

Day = tuple[datetime, datetime]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_pandas_and_polars_hold_the_values_of_the_arrow_table(
    api: Emulator, yesterday: Day, table: Any
) -> None:
    """Amounts, times, integers and nulls are equal."""
    start, end = yesterday
    with VoiceOSHook() as hook:
        arrow = hook.get_df(interval_start=start, interval_end=end, table=table.name, df_type="arrow")
        polars = hook.get_df(interval_start=start, interval_end=end, table=table.name, df_type="polars")
        pandas = hook.get_df(interval_start=start, interval_end=end, table=table.name)
    exported_at = "_exported_at"
    expected = sorted(arrow.drop_columns(exported_at).to_pylist(), key=repr)
    assert len(expected) > 10
    assert sorted(polars.drop(exported_at).to_dicts(), key=repr) == expected
    again = pa.Table.from_pandas(pandas, schema=table.schema, preserve_index=False)
    assert sorted(again.drop_columns(exported_at).to_pylist(), key=repr) == expected


def test_polars_has_exact_types(api: Emulator, world: World, yesterday: Day) -> None:
    """Columns with nulls keep their type."""
    start, end = yesterday
    with VoiceOSHook() as hook:
        frame = hook.get_df(interval_start=start, interval_end=end, df_type="polars")
    assert sorted(frame["id"]) == sorted(world.ids(created_after=start, created_before=end))
    expected = {
        "total_cost": pl.Decimal(38, 24),
        "ended_at": pl.Datetime("us", "UTC"),
        "language_model_cost_input_tokens": pl.Int64(),
        "voice_own_key": pl.Boolean(),
        "duration_seconds": pl.Float64(),
        "extra": pl.String(),
    }
    assert {name: frame.schema[name] for name in expected} == expected
    assert frame["from_number"].null_count() > 0
