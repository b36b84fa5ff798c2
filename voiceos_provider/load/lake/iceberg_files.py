"""Data files of Iceberg tables, written with PyArrow: PyIceberg does not stream rows into partitioned tables."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table import Table as IcebergTable
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record

_ROW_GROUP_BYTES = 32 * 2**20
_FILE_BYTES = 64 * 2**20
"""Bytes of rows in a data file, before encoding. PyIceberg reads a file at once, so they bound the memory of a load."""

_PartitionValues = tuple[Any, ...]
"""The value of each partition field; empty for a table without partitions."""


class _OpenFile:
    """One data file while it is written.

    :param partition: values of the partition fields
    :ivar buffered_bytes: bytes of the rows that are not yet in a row group
    :ivar written_bytes: bytes of the rows in finished row groups, before encoding
    """

    def __init__(
        self, path: str, partition: _PartitionValues, stream: Any, parquet: pq.ParquetWriter
    ) -> None:
        self.path = path
        self.partition = partition
        self.stream = stream
        self.buffered_bytes = 0
        self.written_bytes = 0
        self._parquet = parquet
        self._buffered: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows to the next row group."""
        self._buffered.append(batch)
        self.buffered_bytes += batch.nbytes

    def write_row_group(self, sort_keys: Sequence[tuple[str, str]]) -> None:
        """Write the rows that have been added since the last row group, in order."""
        if not self._buffered:
            return
        rows = pa.Table.from_batches(self._buffered)
        if sort_keys:
            rows = rows.sort_by([*sort_keys])
        self._parquet.write_table(rows, row_group_size=len(rows))
        self.written_bytes += self.buffered_bytes
        self._buffered, self.buffered_bytes = [], 0

    def close(self) -> tuple[int, pq.FileMetaData]:
        """Finish the file, and return its size and its Parquet metadata."""
        self._parquet.close()
        size = self.stream.tell()
        self.stream.close()
        return size, self._parquet.writer.metadata


class DataFileWriter:
    """Writes rows to data files of the current schema, one for each partition at a time.

    Rows are sorted within a row group. Memory holds the unfinished row groups, which are limited in sum.
    """

    def __init__(self, table: IcebergTable) -> None:
        self._table = table
        self._schema, self._spec = table.schema(), table.spec()
        self._arrow_schema = schema_to_pyarrow(self._schema, include_field_ids=True)
        self._sort_keys = [
            (str(self._schema.find_column_name(each.source_id)), "ascending")
            for each in table.sort_order().fields
            if isinstance(each.transform, IdentityTransform)
        ]
        self._id = uuid.uuid4()
        self._paths: list[str] = []
        self._open: dict[_PartitionValues, _OpenFile] = {}
        self._finished: list[DataFile] = []

    def add(self, batch: pa.RecordBatch) -> int:
        """Add rows, and return their number. Columns that they lack become null."""
        arrays = [
            batch.column(each.name).cast(each.type)
            if each.name in batch.schema.names
            else pa.nulls(len(batch), each.type)
            for each in self._arrow_schema
        ]
        rows = pa.RecordBatch.from_arrays(arrays, schema=self._arrow_schema)
        for partition, part in self._partitioned(rows):
            file = self._open.get(partition) or self._create(partition)
            file.add(part)
        while sum(file.buffered_bytes for file in self._open.values()) > _ROW_GROUP_BYTES:
            largest = max(self._open.values(), key=lambda file: file.buffered_bytes)
            largest.write_row_group(self._sort_keys)
            if largest.written_bytes >= _FILE_BYTES:
                self._finish(largest)
        return len(batch)

    def close(self) -> list[DataFile]:
        """Finish all files, and return them."""
        for file in [*self._open.values()]:
            self._finish(file)
        return self._finished

    def remove_files(self) -> None:
        """Remove all files, which belong to no table."""
        for file in self._open.values():
            with suppress(Exception):
                file.stream.close()
        for path in self._paths:
            with suppress(Exception):
                self._table.io.delete(path)

    def _partitioned(self, rows: pa.RecordBatch) -> Iterator[tuple[_PartitionValues, pa.RecordBatch]]:
        """Yield the rows of each partition with its values."""
        if not len(rows):
            return
        if not self._spec.fields:
            yield (), rows
            return
        sources = [self._schema.find_column_name(each.source_id) for each in self._spec.fields]
        transforms = [
            each.transform.transform(self._schema.find_type(each.source_id)) for each in self._spec.fields
        ]
        # Few distinct values, such as the starts of intervals, so that each is transformed in Python.
        names = list(dict.fromkeys(sources))
        distinct = pa.Table.from_batches([rows.select(names)]).group_by(names).aggregate([])
        for found in distinct.to_pylist():
            values = (transform(found[name]) for transform, name in zip(transforms, sources, strict=True))
            of_partition = reduce(pc.and_, (_equal(rows.column(name), found[name]) for name in names))
            yield tuple(values), rows.filter(of_partition)

    def _create(self, values: _PartitionValues) -> _OpenFile:
        name = f"{self._id}-{len(self._paths):05}.parquet"
        path = self._table.location_provider().new_data_location(name, self._partition_key(values))
        self._paths.append(path)
        stream = self._table.io.new_output(path).create()
        codec = self._table.properties.get("write.parquet.compression-codec", "zstd")
        parquet = pq.ParquetWriter(
            stream,
            self._arrow_schema,
            compression="none" if codec == "uncompressed" else codec,
            store_decimal_as_integer=False,
        )
        self._open[values] = _OpenFile(path, values, stream, parquet)
        return self._open[values]

    def _finish(self, file: _OpenFile) -> None:
        """Write what is buffered for a file, and close it."""
        file.write_row_group(self._sort_keys)
        del self._open[file.partition]
        size, metadata = file.close()
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=metadata,
            stats_columns=compute_statistics_plan(self._schema, self._table.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(self._schema),
        )
        key = self._partition_key(file.partition)
        self._finished.append(
            DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=file.path,
                file_format=FileFormat.PARQUET,
                partition=key.partition if key else Record(),
                file_size_in_bytes=size,
                sort_order_id=None,
                spec_id=self._spec.spec_id,
                equality_ids=None,
                key_metadata=None,
                **statistics.to_serialized_dict(),
            )
        )

    def _partition_key(self, values: _PartitionValues) -> PartitionKey | None:
        if not values:
            return None
        pairs = zip(self._spec.fields, values, strict=True)
        return PartitionKey(
            [PartitionFieldValue(each, value) for each, value in pairs], self._spec, self._schema
        )


def _equal(column: pa.Array, value: Any) -> pa.Array:
    return pc.is_null(column) if value is None else pc.equal(column, value)
