"""Iceberg tables, written with PyIceberg.

PyIceberg commits the data files that `iceberg_files` writes. Rows are removed by copy-on-write: only data files that
contain a row to remove are written again, together with the new rows of their partition, so that the number of files
does not grow.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
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
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
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
from voiceos_provider.load.lake.iceberg_files import DataFileWriter
from voiceos_provider.load.lake.table import EXPORT_ID, Change, Lake, LakeTable
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import AGENT_CONFIGS, CONVERSATIONS, MONEY_DIGITS, MONEY_PLACES

_PARTITIONED_BY = "_interval_start"
_TYPES: Mapping[str, IcebergType] = {
    "instant": TimestamptzType(),
    "money": DecimalType(MONEY_DIGITS, MONEY_PLACES),
    "number": DoubleType(),
    "count": LongType(),
    "flag": BooleanType(),
    "text": StringType(),
    "json": StringType(),
}

_DELETIONS = uuid.UUID("5d0b4a52-5f0f-4f6f-9d0e-3b1c2f7a9e61")

_RETRIES = "commit.retry.num-retries"
_MERGE_MANIFESTS = "commit.manifest-merge.enabled"

_TRANSIENT = (ServiceUnavailableError, TooManyRequestsError, OSError)
_LASTING = (ForbiddenError, NotInstalledError, OAuthError, UnauthorizedError)


def embedded_catalog(folder: str, *, must_exist: bool = False) -> dict[str, str]:
    """Return the properties of an SQL catalog in SQLite, with all files in one local folder.

    :param folder: a path, or a URL such as file:///data/lake
    :param must_exist: do not create the folder, as for a read or an erasure
    :raises VoiceOSExportError: if the catalog must exist, and does not
    """
    path = Path(folder.removeprefix("file://")).expanduser().absolute()
    file = path / "catalog.db"
    if must_exist and not file.exists():
        raise VoiceOSExportError(f"{path} holds no export: {file.name} does not exist. Check the path.")
    path.mkdir(parents=True, exist_ok=True)
    return {"type": "sql", "uri": f"sqlite:///{file}", "warehouse": path.as_uri()}


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


class IcebergLakeTable(LakeTable[IcebergTable]):
    """One Iceberg table."""

    def __init__(self, lake: IcebergLake, table: Table) -> None:
        super().__init__(table, f"{lake.namespace}.{lake.table_prefix}{table.name}")
        self._lake = lake
        self._identifier = (*lake.namespace.split("."), f"{lake.table_prefix}{table.name}")

    def _open(self) -> IcebergTable | None:
        try:
            return self._lake.catalog.load_table(self._identifier)
        except NoSuchTableError:
            return None

    def _create(self) -> IcebergTable:
        catalog, numbers = self._lake.catalog, {name: n for n, name in enumerate(self.table.schema.names, 1)}
        spec = PartitionSpec()
        if self.table is not AGENT_CONFIGS:
            name = f"{_PARTITIONED_BY}_day"
            spec = PartitionSpec(PartitionField(numbers[_PARTITIONED_BY], 1000, DayTransform(), name))
        sorted_by = ("account_id", "started_at") if self.table is CONVERSATIONS else self.table.key
        metrics = "write.metadata.metrics"
        catalog.create_namespace_if_not_exists(self._identifier[:-1])
        return catalog.create_table_if_not_exists(
            self._identifier,
            Schema(*(_field(numbers[column.name], column) for column in self.table.columns)),
            partition_spec=spec,
            sort_order=SortOrder(*(SortField(numbers[name], IdentityTransform()) for name in sorted_by)),
            properties={
                "comment": self.table.description,
                _MERGE_MANIFESTS: "true",
                f"{metrics}.default": "counts",
                **{f"{metrics}.column.{name}": "full" for name in self.bounded_columns},
            },
        )

    def _types(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        existing = {field.name: str(field.field_type) for field in self._state.schema().fields}
        return existing, {column.name: str(_TYPES[column.kind.name]) for column in self.table.columns}

    def _add_columns(self, columns: Sequence[Column]) -> None:
        try:
            with self._state.update_schema() as update:
                for column in columns:
                    update.add_column(column.name, _TYPES[column.kind.name], doc=column.description)
        except CommitFailedException as error:
            raise self._conflict() from error

    def find_commit(self, export_id: str) -> Mapping[str, str] | None:
        """Return the properties of the snapshot whose summary has this export id; None if there is none."""
        for snapshot in ancestors_of(self._state.current_snapshot(), self._state.metadata):
            if snapshot.summary and snapshot.summary.additional_properties.get(EXPORT_ID) == export_id:
                return snapshot.summary.additional_properties
        return None

    def scan(self, columns: Sequence[str], intervals: Sequence[Interval] | None) -> Iterator[pa.RecordBatch]:
        """Yield existing rows of intervals that touch one of these; of all intervals for None."""
        schema = pa.schema([self.table.schema.field(name) for name in columns])
        touching = _touching(intervals)
        for task in self._files(intervals):
            for batch in self._read(task, columns, touching):
                arrays = [batch.column(each.name).cast(each.type) for each in schema]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def commit(self, change: Change) -> None:
        """Remove and add rows in one snapshot, based on the state that has been read."""
        with self._writing() as writer:
            replaced = []
            if len(change.removed):
                replaced = list(self._rewrite(change.removed, change.intervals, writer))
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
        for task in self._state.scan(row_filter=filter_).plan_files():
            partitions.setdefault((task.file.spec_id, task.file.partition), []).append(task)
        tasks = [task for several in partitions.values() if len(several) > 1 for task in several]
        if not tasks:
            return
        with self._writing() as writer:
            for task in tasks:
                for batch in self._read(task, self._state.schema().column_names, ALWAYS_TRUE):
                    writer.add(batch)
            self._replace_files([task.file for task in tasks], writer.close(), {})

    def delete(self, values: pa.Array) -> None:
        """Remove rows by copy-on-write, in one snapshot."""
        with self._writing() as writer:
            replaced = list(self._rewrite(values, None, writer))
            self._replace_files(replaced, writer.close(), {}, commit_id=_deletion_of(self._current))

    def purge(self) -> int:
        """Expire all snapshots but the current one, and delete the files that only they use.

        Files are deleted before their snapshots expire, and data before what refers to it, so that another run finds
        what a killed one has left.
        """
        if self._state.current_snapshot() is None:
            return 0
        if refs := sorted(name for name in self._state.refs() if name != MAIN_BRANCH):
            raise VoiceOSExportError(
                f"Remove the branches and tags of {self.name}, whose snapshots keep the rows, and erase again: "
                f"{', '.join(refs)}."
            )
        if any(manifest.deleted_files_count for manifest in self._manifests(self._current)):
            # The manifest of removed files has bounds of their ids. A snapshot without changes leaves it out.
            self._replace_files([], [], {})
            self.refresh()
        used = {path for paths in self._files_of(self._current) for path in paths}
        others = [each for each in self._state.snapshots() if each != self._current]
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
                self._state.maintenance.expire_snapshots().by_ids(ids).commit()
            except CommitFailedException as error:
                raise self._conflict() from error
        return len(deleted)

    @property
    def _current(self) -> Snapshot:
        snapshot = self._state.current_snapshot()
        assert snapshot is not None
        return snapshot

    def _manifests(self, snapshot: Snapshot) -> list[ManifestFile]:
        """Return the manifests of a snapshot that have not been deleted."""
        io = self._state.io
        if not io.new_input(snapshot.manifest_list).exists():
            return []
        return [each for each in snapshot.manifests(io) if io.new_input(each.manifest_path).exists()]

    def _files_of(self, snapshot: Snapshot) -> tuple[list[str], list[str], list[str]]:
        """Return the data files, the manifests and the manifest list of a snapshot."""
        manifests = self._manifests(snapshot)
        entries = [each.fetch_manifest_entry(self._state.io, discard_deleted=True) for each in manifests]
        data = [entry.data_file.file_path for several in entries for entry in several]
        return data, [each.manifest_path for each in manifests], [snapshot.manifest_list]

    def _delete_uncommitted_manifests(self, snapshot: Snapshot, used: Collection[str]) -> None:
        """Delete what a deletion that was killed before its commit, based on this snapshot, has written."""
        for number in count():
            name = f"{_deletion_of(snapshot)}-m{number}.avro"
            path = self._state.location_provider().new_metadata_location(name)
            if path not in used and not self._delete(path):
                return

    def _delete(self, path: str) -> bool:
        """Delete a file, and return whether it existed."""
        io = self._state.io
        if not io.new_input(path).exists():
            return False
        io.delete(path)
        return True

    @contextmanager
    def _writing(self) -> Iterator[DataFileWriter]:
        """Yield a writer, whose files are removed if they are not committed."""
        writer = DataFileWriter(self._state)
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
        table_properties = self._state.metadata.properties
        table_properties[_RETRIES] = "0"
        transaction = self._state.transaction()
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

    def _rewrite(
        self, removed: pa.Array, intervals: Sequence[Interval] | None, writer: DataFileWriter
    ) -> Iterator[DataFile]:
        """Write the remaining rows of each file that holds a row to remove, and yield that file."""
        key, removed = self.table.key[0], removed.cast(pa.large_string())
        for task in self._files(intervals):
            keys = self._read(task, [key], ALWAYS_TRUE)
            if not any(pc.any(pc.is_in(batch.column(key), value_set=removed)).as_py() for batch in keys):
                continue
            yield task.file
            for batch in self._read(task, self._state.schema().column_names, ALWAYS_TRUE):
                writer.add(batch.filter(pc.invert(pc.is_in(batch.column(key), value_set=removed))))

    def _files(self, intervals: Sequence[Interval] | None) -> list[FileScanTask]:
        return list(self._state.scan(row_filter=_touching(intervals)).plan_files())

    def _read(
        self, task: FileScanTask, columns: Sequence[str], row_filter: BooleanExpression
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows of one file, without those that delete files remove. Of several files, PyIceberg reads ahead."""
        existing = self._state
        projected = existing.schema().select(*columns)
        return ArrowScan(existing.metadata, existing.io, projected, row_filter).to_record_batches([task])


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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]
