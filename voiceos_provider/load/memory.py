"""In-memory destination: one table, of limited size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa

from voiceos_provider.client.pages import Rejected
from voiceos_provider.exceptions import VoiceOSExportError, VoiceOSValueError
from voiceos_provider.interval import Interval
from voiceos_provider.load.checkpoint import SpooledRows
from voiceos_provider.load.files.formats import as_json
from voiceos_provider.load.pending import PendingConversations
from voiceos_provider.load.receipt import ExportReceipt, ReadCounts
from voiceos_provider.load.spool import Resumed, not_ended
from voiceos_provider.load.workdir import WorkDir
from voiceos_provider.options import ExportOptions
from voiceos_provider.transform import Rows

_ADVICE = "use VoiceOSToObjectStorageOperator for results of this size"


class MemoryDestination:
    """The rows of one table as an Arrow table, after the export has succeeded.

    :param columns: only these columns; None for all
    :param max_rows: rows that may be kept; None for any number
    :param max_bytes: bytes they may have as JSON; None for any number
    """

    uri = "memory"

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._columns = columns
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.table: pa.Table | None = None

    def find_pending(self, interval: Interval, max_age: timedelta) -> PendingConversations:
        """Raise, because memory keeps nothing of earlier exports.

        :raises VoiceOSValueError: always
        """
        raise VoiceOSValueError("carry_pending needs files or a database, which remember earlier intervals.")

    @contextmanager
    def open(
        self, options: ExportOptions, workdir: WorkDir, *, exported_at: datetime
    ) -> Iterator[MemoryDestination]:
        """Yield the writer, which is this; takes a single table.

        :raises VoiceOSValueError: if a column does not exist
        """
        (table,) = options.tables
        columns = [self._columns] if isinstance(self._columns, str) else self._columns
        names = table.schema.names if columns is None else list(columns)
        if unknown := [name for name in names if name not in table.schema.names]:
            raise VoiceOSValueError(
                f"columns {', '.join(map(repr, unknown))} do not exist; there are {', '.join(table.schema.names)}."
            )
        self._table = table
        self._names = names
        self._batches: list[pa.RecordBatch] = []
        self._conversations: list[str] = []
        self._not_ended: list[bool] = []
        self._owners: list[pa.Array | None] = []
        self._rows = self._bytes = 0
        yield self

    def write(self, rows: Mapping[str, Rows]) -> None:
        """Take rows.

        :raises VoiceOSExportError: once there are more than allowed
        """
        batch = rows[self._table.name].batch
        self._rows += len(batch)
        if self._max_rows is not None and self._rows > self._max_rows:
            raise VoiceOSExportError(
                f"There are more than max_rows={self._max_rows:,} {self._table.name}; {_ADVICE}."
            )
        if self._max_bytes is not None:
            self._bytes += len(msgspec.json.encode(plain_rows(batch.select(self._names))))
            if self._bytes > self._max_bytes:
                raise VoiceOSExportError(
                    f"The {self._table.name} have more than max_bytes={self._max_bytes:,} bytes; select fewer "
                    f"columns, or {_ADVICE}."
                )
        self._batches.append(batch)
        self._owners.append(rows[self._table.name].positions)
        conversations = rows["conversations"].batch
        self._conversations += conversations.column("id").to_pylist()
        self._not_ended += not_ended(conversations).to_pylist()

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Raise if there is any record without a usable id; it would be lost silently.

        :raises VoiceOSExportError: if there is one
        """
        if rejected:
            raise VoiceOSExportError(f"{len(rejected)} conversations cannot be keyed: {rejected[0].reason}.")

    def checkpoint(self) -> SpooledRows:
        """Return nothing: no row outlives this process."""
        return SpooledRows()

    def resumed(self) -> Resumed:
        """Return nothing: no earlier attempt has written anything."""
        return Resumed()

    def publish(self, reading: ReadCounts) -> ExportReceipt:
        """Set `table`; of the rows of one conversation, the last ones count."""
        table = pa.Table.from_batches(self._batches, self._table.schema)
        last = {id_: at for at, id_ in enumerate(self._conversations)}
        if all(owner is not None for owner in self._owners) and len(last) < len(self._conversations):
            owners = pa.chunked_array(self._owners, pa.int64())
            table = table.filter(pa.compute.is_in(owners, value_set=pa.array(last.values(), pa.int64())))
        self.table = table.select(self._names)
        replaced = len(self._conversations) - len(last)
        reading = reading.with_rows(
            exported=last.keys() & reading.pending_ids,
            unfinished=[id_ for id_, at in last.items() if self._not_ended[at]],
        )
        return ExportReceipt.of(reading, target=self.uri, exported=len(last), replaced=replaced)


def require_data_frames(df_type: str) -> None:
    """Raise if a kind of DataFrame is unknown, or its package is not installed.

    :raises VoiceOSValueError: naming the kinds, or the extra to install
    """
    if df_type not in ("pandas", "polars", "arrow"):
        raise VoiceOSValueError(f"df_type {df_type!r} is not one of pandas, polars, arrow.")
    if df_type == "polars":
        try:
            import polars  # noqa: F401
        except ImportError as error:
            raise VoiceOSValueError(
                "df_type 'polars' needs polars: pip install 'airflow-provider-voiceos[polars]'."
            ) from error


def data_frame(table: pa.Table, df_type: str) -> Any:
    """Return a table as ``pandas``, ``polars`` or ``arrow``, without loss."""
    if df_type == "arrow":
        return table
    if df_type == "polars":
        import polars as pl

        return pl.from_arrow(table)
    import pandas as pd

    # By default pandas turns whole numbers beside a null into floats, which are not exact, and booleans into objects.
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    return table.to_pandas(types_mapper=nullable.get)


def plain_rows(rows: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as plain JSON: date-times in RFC 3339, decimals as text so that none goes through a float."""
    return [{name: as_json(value) for name, value in row.items()} for row in rows.to_pylist()]
