"""What a load handles in a database: the namespace, the rows of a table, and their merge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from voiceos_provider.transform import Column, Table

OWNER = "conversation_id"
"""Column of a child table that refers to its conversation."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Schema and table prefix of one export.

    :param schema: the schema, or its equivalent in the engine; None for the connection's default
    :param prefix: the beginning of each table name
    """

    schema: str | None = None
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.prefix}*" if self.schema else f"{self.prefix}*"


@dataclass(frozen=True, slots=True)
class Rowset:
    """Rows of one table, readable any number of times.

    :param table: their table
    :param rows: the number of rows
    :param batches: reads the rows from the beginning
    :param columns: the columns to load
    """

    table: Table
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the loaded columns."""
        return pa.schema(self.table.schema.field(column.name) for column in self.columns)

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, with the loaded columns only."""
        return (batch.select(self.schema.names) for batch in self.batches())


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Merge of the staged rows `s` of one table into its existing rows `t`.

    :param target: qualified name of the table; `name` is the table name alone, quoted
    :param staging: qualified name of the staging table
    :param existing: types of the table's existing columns
    :param columns: the columns to write
    :param touch_unchanged: also update the row version of rows without a change
    :param stale: condition for existing rows to delete, qualified with `name`; empty for none
    """

    table: Table
    target: str
    name: str
    staging: str
    existing: Mapping[str, str]
    columns: tuple[Column, ...]
    touch_unchanged: bool
    stale: str = ""
