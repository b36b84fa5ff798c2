"""Iceberg tables, written with PyIceberg.

Data files are written with PyArrow, since PyIceberg does not stream rows into partitioned tables, and committed by
PyIceberg. Rows are removed by copy-on-write: only data files that contain a row to remove are written again, together
with the new rows of their partition, so that the number of files does not grow.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, reduce
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    OAuthError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
    ValidationException,
)
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    ArrowScan,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionFieldValue, PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import ALWAYS_TRUE, FileScanTask
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BooleanType,
    DecimalType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError, VoiceOSExportError
from voiceos_provider.interval import Interval
from voiceos_provider.load.lake.table import EXPORT_ID, Change, ConflictError, Lake, LakeTable
from voiceos_provider.load.plan import AUDIT_COLUMNS
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import (
    AGENT_CONFIGS,
    CONVERSATION_COSTS,
    CONVERSATION_MESSAGES,
    CONVERSATIONS,
    MONEY_DIGITS,
    MONEY_PLACES,
)

_PARTITIONED_BY = "_interval_start"
_SORTED_BY = {
    CONVERSATIONS.name: ("account_id", "started_at"),
    CONVERSATION_COSTS.name: CONVERSATION_COSTS.key,
    CONVERSATION_MESSAGES.name: CONVERSATION_MESSAGES.key,
    AGENT_CONFIGS.name: AGENT_CONFIGS.key,
}

_BOUNDED = ("account_id", "started_at", *AUDIT_COLUMNS)
"""Columns besides the keys whose smallest and largest values are in the metadata, so that readers skip files.

Those of other columns, such as phone numbers and messages, would stay there after their rows were deleted.
"""

_TYPES: Mapping[str, IcebergType] = {
    "instant": TimestamptzType(),
    "money": DecimalType(MONEY_DIGITS, MONEY_PLACES),
    "number": DoubleType(),
    "count": LongType(),
    "flag": BooleanType(),
    "text": StringType(),
    "json": StringType(),
}

_ROW_GROUP_BYTES = 32 * 2**20
_FILE_BYTES = 64 * 2**20
"""Bytes of rows in a data file, before encoding. PyIceberg reads a file at once, so they bound the memory of a load."""

_DELETIONS = uuid.UUID("5d0b4a52-5f0f-4f6f-9d0e-3b1c2f7a9e61")

_RETRIES = "commit.retry.num-retries"
_MERGE_MANIFESTS = "commit.manifest-merge.enabled"

_TRANSIENT = (ServiceUnavailableError, TooManyRequestsError, OSError)
_LASTING = (ForbiddenError, NotInstalledError, OAuthError, UnauthorizedError)


def embedded_catalog(folder: str) -> dict[str, str]:
    """Return the properties of an SQL catalog in SQLite, with all files in one local folder, which is created.

    :param folder: a path, or a URL such as file:///data/lake
    """
    path = Path(folder.removeprefix("file://")).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    return {"type": "sql", "uri": f"sqlite:///{path / 'catalog.db'}", "warehouse": path.as_uri()}


class IcebergLake(Lake):
    """Iceberg tables in one namespace of a catalog.

    :param catalog: name of the catalog; what `properties` lack comes from PyIceberg's own configuration of that name
    :param namespace: the namespace, which is created with the first table
    :param table_prefix: the beginning of each table name
    :param properties: properties of the catalog, such as `uri` and `warehouse`
    """

    title = "Iceberg"

    def __init__(
        self,
        catalog: str,
        *,
        namespace: str,
        table_prefix: str = "",
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.namespace = namespace
        self.table_prefix = table_prefix
        self._name = catalog
        self._properties = dict(properties or {})
        self.uri = f"iceberg://{catalog}/{namespace}/{table_prefix}{CONVERSATIONS.name}"

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog, which is opened at first use."""
        return load_catalog(self._name, **self._properties)

    def table(self, table: Table) -> IcebergLakeTable:
        """Return one table, without reading anything."""
        return IcebergLakeTable(self, table)

    def describe(self, error: Exception, action: str) -> VoiceOSError:
        """Return the exception to raise for an error of PyIceberg; its message contains no value of a row."""
        kind = type(error).__name__
        if isinstance(error, (*_LASTING, NoSuchNamespaceError)):
            return VoiceOSExportError(f"Iceberg refused to {action} ({kind}): {_first_line(error)}")
        message = f"Iceberg failed to {action} ({kind})."
        return (
            VoiceOSDestinationError(message) if isinstance(error, _TRANSIENT) else VoiceOSExportError(message)
        )


class IcebergLakeTable(LakeTable):
    """One Iceberg table."""

    def __init__(self, lake: IcebergLake, table: Table) -> None:
        super().__init__(table, f"{lake.namespace}.{lake.table_prefix}{table.name}")
        self._lake = lake
        self._identifier = (*lake.namespace.split("."), f"{lake.table_prefix}{table.name}")

    @cached_property
    def _existing(self) -> IcebergTable:
        return self._lake.catalog.load_table(self._identifier)

    def exists(self) -> bool:
        """Return whether the table exists."""
        return self._lake.catalog.table_exists(self._identifier)

    def load(self, *, create: bool) -> None:
        """Read the current state of the table; create it, or add missing columns, if that is allowed."""
        self.__dict__.pop("_existing", None)
        try:
            existing = self._existing
        except NoSuchTableError:
            if not create:
                raise VoiceOSExportError(
                    f"The table {self.name} does not exist. Create it, or set create_tables=True."
                ) from None
            existing = self._create()
        fields = {field.name: field for field in existing.schema().fields}
        for column in self.table.columns:
            found = fields.get(column.name)
            if found is not None and found.field_type != _TYPES[column.kind.name]:
                raise VoiceOSExportError(
                    f"The column {column.name} of {self.name} has the type {found.field_type} instead of "
                    f"{_TYPES[column.kind.name]}. Use another table_prefix."
                )
        missing = [column for column in self.table.columns if column.name not in fields]
        if not missing:
            return
        if not create:
            names = ", ".join(column.name for column in missing)
            raise VoiceOSExportError(
                f"The table {self.name} lacks the columns {names}. Add them, or set create_tables=True."
            )
        try:
            with existing.update_schema() as update:
                for column in missing:
                    update.add_column(column.name, _TYPES[column.kind.name], doc=column.description)
        except CommitFailedException as error:
            raise self._conflict() from error

    def _create(self) -> IcebergTable:
        catalog, fields = self._lake.catalog, [*enumerate(self.table.columns, 1)]
        schema = Schema(*(_field(number, column) for number, column in fields))
        ids = {column.name: number for number, column in fields}
        spec = PartitionSpec()
        if self.table is not AGENT_CONFIGS:
            name = f"{_PARTITIONED_BY}_day"
            spec = PartitionSpec(PartitionField(ids[_PARTITIONED_BY], 1000, DayTransform(), name))
        order = SortOrder(
            *(SortField(ids[name], IdentityTransform()) for name in _SORTED_BY[self.table.name])
        )
        catalog.create_namespace_if_not_exists(self._identifier[:-1])
        self._existing = catalog.create_table_if_not_exists(
            self._identifier,
            schema,
            partition_spec=spec,
            sort_order=order,
            properties={"comment": self.table.description, _MERGE_MANIFESTS: "true"} | _metrics(self.table),
        )
        return self._existing

    def find_commit(self, export_id: str) -> Mapping[str, str] | None:
        """Return the properties of the snapshot whose summary has this export id; None if there is none."""
        for properties in self.commits():
            if properties.get(EXPORT_ID) == export_id:
                return properties
        return None

    def commits(self) -> Iterator[Mapping[str, str]]:
        """Yield the properties of the snapshots in the table's history, the newest first."""
        for snapshot in ancestors_of(self._existing.current_snapshot(), self._existing.metadata):
            if snapshot.summary is not None:
                yield snapshot.summary.additional_properties

    def scan(self, columns: Sequence[str], intervals: Sequence[Interval] | None) -> Iterator[pa.RecordBatch]:
        """Yield existing rows of intervals that touch one of these; of all intervals for None."""
        schema = pa.schema([self.table.schema.field(name) for name in columns])
        touching = _touching(intervals)
        for task in self._files(intervals):
            for batch in self._read(task, columns, touching):
                arrays = [batch.column(each.name).cast(each.type) for each in schema]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def commit(self, change: Change) -> None:
        """Remove and add rows in one snapshot, based on the state that `load` has read."""
        with self._writing() as writer:
            replaced = list(self._rewrite(change, writer)) if len(change.removed) else []
            added = sum(writer.add(batch) for batch in change.added())
            if added != change.rows:
                raise VoiceOSExportError(f"{self.name}: {added} rows instead of {change.rows} were written.")
            self._replace_files(replaced, writer.close(), change.properties)

    def compact(self, before: datetime) -> None:
        """Write the files of each partition that has several as one, in one snapshot.

        :param before: files that only hold rows of intervals that start later are left as they are
        :raises ConflictError: if another writer has committed meanwhile; then nothing is changed
        """
        filter_ = parse(f"_interval_start < '{before.isoformat()}'")
        partitions: dict[tuple[int, Record], list[FileScanTask]] = {}
        for task in self._existing.scan(row_filter=filter_).plan_files():
            partitions.setdefault((task.file.spec_id, task.file.partition), []).append(task)
        tasks = [task for several in partitions.values() if len(several) > 1 for task in several]
        if not tasks:
            return
        with self._writing() as writer:
            for task in tasks:
                for batch in self._read(task, self._existing.schema().column_names, ALWAYS_TRUE):
                    writer.add(batch)
            self._replace_files([task.file for task in tasks], writer.close(), {})

    def refresh(self) -> None:
        """Read the current state of the existing table, whichever columns it has."""
        self.__dict__.pop("_existing", None)

    def delete(self, values: pa.Array) -> None:
        """Remove rows by copy-on-write, in one snapshot."""
        change = Change(removed=values, intervals=None, added=lambda: iter(()), rows=0)
        with self._writing() as writer:
            replaced = list(self._rewrite(change, writer))
            self._replace_files(replaced, writer.close(), {}, commit_id=_deletion_of(self._current))

    def purge(self) -> int:
        """Expire all snapshots but the current one, and delete the files that only they use.

        Files are deleted before their snapshots expire, and data before what refers to it, so that another run finds
        what a killed one has left.
        """
        if self._existing.current_snapshot() is None:
            return 0
        if refs := sorted(name for name in self._existing.refs() if name != MAIN_BRANCH):
            raise VoiceOSExportError(
                f"Remove the branches and tags of {self.name}, whose snapshots keep the rows, and erase again: "
                f"{', '.join(refs)}."
            )
        if any(manifest.deleted_files_count for manifest in self._manifests(self._current)):
            # The manifest of removed files has bounds of their ids. A snapshot without changes leaves it out.
            self._replace_files([], [], {})
            self.refresh()
        used = {path for paths in self._files_of(self._current) for path in paths}
        others = [each for each in self._existing.snapshots() if each != self._current]
        deleted = set[str]()
        for snapshot in (*others, self._current):
            self._delete_uncommitted_manifests(snapshot, used)
        for snapshot in others:
            data, *described = self._files_of(snapshot)
            deleted |= {path for path in data if path not in used and self._delete(path)}
            for path in (path for paths in described for path in paths if path not in used):
                self._delete(path)
        if others:
            ids = [each.snapshot_id for each in others]
            try:
                self._existing.maintenance.expire_snapshots().by_ids(ids).commit()
            except CommitFailedException as error:
                raise self._conflict() from error
        return len(deleted)

    @property
    def _current(self) -> Snapshot:
        snapshot = self._existing.current_snapshot()
        assert snapshot is not None
        return snapshot

    def _manifests(self, snapshot: Snapshot) -> list[ManifestFile]:
        """Return the manifests of a snapshot that have not been deleted."""
        io = self._existing.io
        if not io.new_input(snapshot.manifest_list).exists():
            return []
        return [each for each in snapshot.manifests(io) if io.new_input(each.manifest_path).exists()]

    def _files_of(self, snapshot: Snapshot) -> tuple[list[str], list[str], list[str]]:
        """Return the data files, the manifests and the manifest list of a snapshot."""
        manifests = self._manifests(snapshot)
        entries = [each.fetch_manifest_entry(self._existing.io, discard_deleted=True) for each in manifests]
        data = [entry.data_file.file_path for several in entries for entry in several]
        return data, [each.manifest_path for each in manifests], [snapshot.manifest_list]

    def _delete_uncommitted_manifests(self, snapshot: Snapshot, used: Collection[str]) -> None:
        """Delete what a deletion that was killed before its commit, based on this snapshot, has written."""
        for number in count():
            name = f"{_deletion_of(snapshot)}-m{number}.avro"
            path = self._existing.location_provider().new_metadata_location(name)
            if path not in used and not self._delete(path):
                return

    def _delete(self, path: str) -> bool:
        """Delete a file, and return whether it existed."""
        io = self._existing.io
        if not io.new_input(path).exists():
            return False
        io.delete(path)
        return True

    @contextmanager
    def _writing(self) -> Iterator[_Writer]:
        """Yield a writer, whose files are removed if they are not committed."""
        writer = _Writer(self._existing)
        try:
            yield writer
        except CommitStateUnknownException as error:  # the files may belong to the table
            raise self._conflict() from error
        except (CommitFailedException, ValidationException) as error:
            writer.remove_files()
            raise self._conflict() from error
        except BaseException:
            writer.remove_files()
            raise

    def _replace_files(
        self,
        replaced: Sequence[DataFile],
        files: Sequence[DataFile],
        properties: Mapping[str, str],
        commit_id: uuid.UUID | None = None,
    ) -> None:
        # PyIceberg would commit again on top of another writer's rows, among which may be the same keys.
        table_properties = self._existing.metadata.properties
        table_properties[_RETRIES] = "0"
        transaction = self._existing.transaction()
        update = transaction.update_snapshot(snapshot_properties=dict(properties))
        if replaced:
            producer: Any = update.overwrite(commit_id)
        elif table_properties.get(_MERGE_MANIFESTS) == "true":
            producer = update.merge_append()
        else:
            producer = update.fast_append()
        with producer as snapshot:
            for file in replaced:
                snapshot.delete_data_file(file)
            for file in files:
                snapshot.append_data_file(file)
        transaction.commit_transaction()

    def _conflict(self) -> ConflictError:
        return ConflictError(f"Another writer has committed to the table {self.name}.")

    def _rewrite(self, change: Change, writer: _Writer) -> Iterator[DataFile]:
        """Write the remaining rows of each file that holds a row to remove, and yield that file."""
        key = self.table.key[0]
        removed = change.removed.cast(pa.large_string())
        for task in self._files(change.intervals):
            keys = self._read(task, [key], ALWAYS_TRUE)
            if not any(pc.any(pc.is_in(batch.column(key), value_set=removed)).as_py() for batch in keys):
                continue
            yield task.file
            for batch in self._read(task, self._existing.schema().column_names, ALWAYS_TRUE):
                writer.add(batch.filter(pc.invert(pc.is_in(batch.column(key), value_set=removed))))

    def _files(self, intervals: Sequence[Interval] | None) -> list[FileScanTask]:
        return list(self._existing.scan(row_filter=_touching(intervals)).plan_files())

    def _read(
        self, task: FileScanTask, columns: Sequence[str], row_filter: BooleanExpression
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows of one file, without those that delete files remove. Of several files, PyIceberg reads ahead."""
        existing = self._existing
        projected = existing.schema().select(*columns)
        return ArrowScan(existing.metadata, existing.io, projected, row_filter).to_record_batches([task])


@dataclass(slots=True)
class _DataFileWriter:
    """One data file while it is written.

    :ivar buffered: rows of the next row group
    :ivar written_bytes: bytes of the rows in finished row groups, before encoding
    """

    path: str
    partition: PartitionKey | None
    stream: Any
    parquet: pq.ParquetWriter
    buffered: list[pa.RecordBatch] = field(default_factory=list)
    buffered_bytes: int = 0
    written_bytes: int = 0


class _Writer:
    """Writes rows to data files of the current schema, one for each partition at a time.

    Rows are sorted within a row group. Memory holds the unfinished row groups, which are limited in sum.
    """

    def __init__(self, table: IcebergTable) -> None:
        self._table = table
        self._io: FileIO = table.io
        self._schema, self._spec = table.schema(), table.spec()
        self._arrow_schema = schema_to_pyarrow(self._schema, include_field_ids=True)
        self._transforms = [
            each.transform.transform(self._schema.find_type(each.source_id)) for each in self._spec.fields
        ]
        self._sort_keys = [
            (self._schema.find_column_name(each.source_id), "ascending")
            for each in table.sort_order().fields
            if isinstance(each.transform, IdentityTransform)
        ]
        self._id = uuid.uuid4()
        self._paths: list[str] = []
        self._open: dict[tuple[Any, ...], _DataFileWriter] = {}
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
        for values, part in self._partitioned(rows):
            file = self._open.get(values) or self._create(values)
            file.buffered.append(part)
            file.buffered_bytes += part.nbytes
        while sum(file.buffered_bytes for file in self._open.values()) > _ROW_GROUP_BYTES:
            self._flush(max(self._open.values(), key=lambda file: file.buffered_bytes))
        return len(batch)

    def close(self) -> list[DataFile]:
        """Finish all files, and return them."""
        for values in [*self._open]:
            self._finish(values)
        return self._finished

    def remove_files(self) -> None:
        """Remove all files, which belong to no table."""
        for file in self._open.values():
            with suppress(Exception):
                file.stream.close()
        for path in self._paths:
            with suppress(Exception):
                self._io.delete(path)

    def _partitioned(self, rows: pa.RecordBatch) -> Iterator[tuple[tuple[Any, ...], pa.RecordBatch]]:
        """Yield the rows of each partition with its values."""
        if not len(rows):
            return
        sources = [self._schema.find_column_name(each.source_id) for each in self._spec.fields]
        if not sources:
            yield (), rows
            return
        # Few distinct values, such as the starts of intervals, so that each is transformed in Python.
        distinct = rows.select(list(dict.fromkeys(sources)))
        for found in (
            pa.Table.from_batches([distinct]).group_by(distinct.schema.names).aggregate([]).to_pylist()
        ):
            values = tuple(
                transform(found[source]) for transform, source in zip(self._transforms, sources, strict=True)
            )
            of_partition = reduce(pc.and_, (_equal(rows.column(name), found[name]) for name in found))
            yield values, rows.filter(of_partition)

    def _create(self, values: tuple[Any, ...]) -> _DataFileWriter:
        partition = None
        if values:
            pairs = zip(self._spec.fields, values, strict=True)
            partition = PartitionKey(
                [PartitionFieldValue(each, value) for each, value in pairs], self._spec, self._schema
            )
        name = f"{self._id}-{len(self._paths):05}.parquet"
        path = self._table.location_provider().new_data_location(name, partition)
        self._paths.append(path)
        stream = self._io.new_output(path).create()
        properties = self._table.properties
        codec = properties.get("write.parquet.compression-codec", "zstd")
        parquet = pq.ParquetWriter(
            stream,
            self._arrow_schema,
            compression="none" if codec == "uncompressed" else codec,
            store_decimal_as_integer=False,
        )
        self._open[values] = _DataFileWriter(path, partition, stream, parquet)
        return self._open[values]

    def _flush(self, file: _DataFileWriter) -> None:
        if not file.buffered:
            return
        rows = pa.Table.from_batches(file.buffered, self._arrow_schema)
        file.written_bytes += file.buffered_bytes
        file.buffered, file.buffered_bytes = [], 0
        if self._sort_keys:
            rows = rows.sort_by(self._sort_keys)
        file.parquet.write_table(rows, row_group_size=len(rows))
        if file.written_bytes >= _FILE_BYTES:
            values = next(values for values, other in self._open.items() if other is file)
            self._finish(values)

    def _finish(self, values: tuple[Any, ...]) -> None:
        file = self._open[values]
        self._flush(file)
        if self._open.pop(values, None) is None:  # the last row group has filled the file
            return
        file.parquet.close()
        size = file.stream.tell()
        file.stream.close()
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=file.parquet.writer.metadata,
            stats_columns=compute_statistics_plan(self._schema, self._table.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(self._schema),
        )
        self._finished.append(
            DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=file.path,
                file_format=FileFormat.PARQUET,
                partition=file.partition.partition if file.partition else Record(),
                file_size_in_bytes=size,
                sort_order_id=None,
                spec_id=self._spec.spec_id,
                equality_ids=None,
                key_metadata=None,
                **statistics.to_serialized_dict(),
            )
        )


def _metrics(table: Table) -> dict[str, str]:
    bounded = [name for name in table.schema.names if name in (*table.key, *_BOUNDED)]
    prefix = "write.metadata.metrics"
    return {f"{prefix}.default": "counts"} | {f"{prefix}.column.{name}": "full" for name in bounded}


def _field(number: int, column: Column) -> NestedField:
    return NestedField(
        number,
        column.name,
        _TYPES[column.kind.name],
        required=not column.nullable,
        doc=column.description,
    )


def _touching(intervals: Sequence[Interval] | None) -> BooleanExpression:
    """Return the condition for rows whose interval touches one of these."""
    if intervals is None:
        return ALWAYS_TRUE
    return parse(
        " or ".join(
            f"(_interval_start <= '{interval.end.isoformat()}' and _interval_end >= '{interval.start.isoformat()}')"
            for interval in intervals
        )
    )


def _deletion_of(snapshot: Snapshot) -> uuid.UUID:
    """Return the id of a deletion based on a snapshot. PyIceberg names manifests by it, which have bounds of ids."""
    return uuid.uuid5(_DELETIONS, str(snapshot.snapshot_id))


def _equal(column: pa.Array, value: Any) -> pa.Array:
    return pc.is_null(column) if value is None else pc.equal(column, value)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]
