"""Delta Lake tables, written with delta-rs (the package deltalake)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSelector, FileType

from voiceos_provider.exceptions import VoiceOSDestinationError, VoiceOSError, VoiceOSExportError
from voiceos_provider.interval import Interval, isoformat
from voiceos_provider.load.lake.table import EXPORT_ID, Change, Lake, LakeTable
from voiceos_provider.transform import Column, Table
from voiceos_provider.transform.schema import CONVERSATIONS

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable, Field
    from deltalake.table import TableMerger

_REMOVED = "_voiceos_removed"
_ABANDONED_AFTER = 24
"""Hours after which a file that no commit names belongs to a killed export."""

_STATISTICS = timedelta(milliseconds=1)
"""How far statistics of files may be from the values: they are cut off after milliseconds."""


class DeltaLake(Lake):
    """Delta Lake tables below one path.

    :param path: a local path, or the URL of a folder of an object store
    :param table_prefix: the beginning of each table name
    :param storage_options: returns options of the object store, with current credentials
    """

    title = "Delta Lake"

    def __init__(
        self,
        path: str,
        *,
        table_prefix: str = "",
        storage_options: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._root = path.removeprefix("file://").rstrip("/")
        self._prefix = table_prefix
        self._storage_options = storage_options
        uri = self._uri(CONVERSATIONS)
        self.uri = uri if "://" in uri else f"file://{uri}"

    def table(self, table: Table) -> DeltaLakeTable:
        """Return one table, without reading anything."""
        return DeltaLakeTable(table, self._uri(table), self._storage_options)

    def describe(self, error: Exception, action: str) -> VoiceOSError:
        """Return the exception to raise for an error of delta-rs."""
        from deltalake.exceptions import SchemaMismatchError

        kind = type(error).__name__
        if isinstance(error, SchemaMismatchError):
            return VoiceOSExportError(f"Cannot {action}: {_one_line(error)}.")
        if isinstance(error, OSError):  # of the object store, whose messages contain no rows
            return VoiceOSDestinationError(f"Cannot {action}: {kind}: {_one_line(error)}.")
        return VoiceOSDestinationError(f"Cannot {action}: {kind}.")

    def _uri(self, table: Table) -> str:
        return f"{self._root}/{self._prefix}{table.name}"


class DeltaLakeTable(LakeTable["DeltaTable"]):
    """One table in Delta Lake.

    :param storage_options: returns options of the object store, with current credentials
    """

    def __init__(
        self, table: Table, name: str, storage_options: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        super().__init__(table, name)
        self._storage_options = storage_options

    def find_commit(self, export_id: str) -> Mapping[str, str] | None:
        """Return the properties of a commit; its transaction identifier is found without reading the history."""
        if self._state.transaction_version(export_id) is None:
            return None
        for commit in self._state.history():
            if commit.get(EXPORT_ID) == export_id:
                return commit
        raise VoiceOSExportError(
            f"The table {self.name} has the rows of this export, but not their counts: its log was cleaned up."
        )

    def scan(self, columns: Sequence[str], intervals: Sequence[Interval] | None) -> Iterator[pa.RecordBatch]:
        """Yield existing rows; files are skipped by the statistics of their intervals."""
        from deltalake import QueryBuilder

        schema = pa.schema([self.table.schema.field(name) for name in columns])
        query = f"SELECT {', '.join(map(_quoted, columns))} FROM t"
        if intervals is not None:
            query += f" WHERE {' OR '.join(_touches(one) for one in intervals) or 'false'}"
        batches = QueryBuilder().register("t", self._state).execute(query)
        for batch in pa.RecordBatchReader.from_stream(batches):
            yield batch.cast(schema)

    def commit(self, change: Change) -> None:
        """Append the rows, or merge them if others are to be removed."""
        from deltalake import CommitProperties, Transaction, WriterProperties, write_deltalake

        properties = CommitProperties(
            custom_metadata=dict(change.properties),
            # Without retries, every other commit since `load` is a conflict, also one that only appends.
            max_commit_retries=0,
            app_transactions=[Transaction(change.properties[EXPORT_ID], 1, int(time.time() * 1000))],
        )
        with self._conflicts():
            if len(change.removed):
                self._merge(change, properties)
                return
            write_deltalake(
                self._state,
                pa.RecordBatchReader.from_batches(_plain(self.table.schema), self._added(change)),
                mode="append",
                schema_mode="merge",  # columns that are not ours become null
                writer_properties=WriterProperties(compression="ZSTD"),
                commit_properties=properties,
            )

    def _merge(self, change: Change, properties: CommitProperties) -> None:
        """Update, insert and delete rows by their keys, so that columns that are not ours keep their values."""
        names = self.table.schema.names
        schema = pa.schema([field.with_nullable(True) for field in _plain(self.table.schema)])
        schema = schema.append(pa.field(_REMOVED, pa.bool_()))

        removed = self._removed_keys(change)  # not within the merge, whose engine cannot run a second query

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in self._added(change):
                yield _with_removed(batch, schema, removed=False)
            for batch in removed.to_batches():
                yield _with_removed(batch, schema, removed=True)

        conditions = [_equal(key) for key in self.table.key]
        if change.intervals:
            bounds = Interval(
                min(one.start for one in change.intervals), max(one.end for one in change.intervals)
            )
            conditions.append(_touches(bounds, "t."))
        values = {_quoted(name): f"s.{_quoted(name)}" for name in names}
        source = pa.RecordBatchReader.from_batches(schema, batches())
        (
            self._merger(source, conditions, properties)
            .when_matched_delete(f"s.{_REMOVED}")
            .when_matched_update(values, f"NOT s.{_REMOVED}")
            .when_not_matched_insert(values, f"NOT s.{_REMOVED}")
            .execute()
        )

    def delete(self, values: pa.Array) -> None:
        """Remove rows by a merge. The predicate of a deletion would be in the log, with the values."""
        from deltalake import CommitProperties

        key, properties = self.table.key[0], CommitProperties(max_commit_retries=0)
        with self._conflicts():
            merger = self._merger(pa.table({key: values}), [_equal(key)], properties)
            merger.when_matched_delete().execute()

    def _merger(
        self, source: pa.Table | pa.RecordBatchReader, conditions: Sequence[str], properties: CommitProperties
    ) -> TableMerger:
        """Return a merge of the rows `s` into the existing rows `t`."""
        from deltalake import WriterProperties

        return self._state.merge(
            source,
            " AND ".join(conditions),
            source_alias="s",
            target_alias="t",
            writer_properties=WriterProperties(compression="ZSTD"),
            commit_properties=properties,
        )

    def purge(self) -> int:
        """Delete data files that the table does not use, its change data feed, and its log up to a new checkpoint.

        A file that no commit names may belong to a commit in progress, unless it is a day old.
        """
        from deltalake.fs import DeltaStorageHandler

        state = self._state
        files = DeltaStorageHandler(self.name, dict(self._storage_options()))
        existing = [
            file.path
            for file in files.get_file_info_selector(FileSelector("", recursive=True))
            if file.type == FileType.File
        ]
        unused = {
            *state.vacuum(0, dry_run=True, enforce_retention_duration=False),
            *state.vacuum(_ABANDONED_AFTER, dry_run=True, enforce_retention_duration=False, full=True),
        }
        removed = [path for path in existing if path in unused or path.startswith("_change_data/")]
        # The latest commit stays, or a commit in progress could take its number.
        log = [
            path
            for path in existing
            if (version := _version_of(path)) is not None and version < state.version()
        ]
        if log:
            state.create_checkpoint()
        for path in (*removed, *log):
            files.delete_file(path)
        return len(removed)

    def _added(self, change: Change) -> Iterator[pa.RecordBatch]:
        schema = _plain(self.table.schema)
        return (batch.cast(schema) for batch in change.added())

    def _removed_keys(self, change: Change) -> pa.Table:
        """Return the keys of removed rows that are not added again."""
        keys = list(self.table.key)
        schema = _plain(self.table.schema)
        schema = pa.schema([schema.field(key) for key in keys])
        existing = [
            batch.filter(pc.is_in(batch.column(keys[0]), value_set=change.removed)).cast(schema)
            for batch in self.scan(keys, change.intervals)
        ]
        added = [batch.select(keys) for batch in self._added(change)]
        return pa.Table.from_batches(existing, schema).join(
            pa.Table.from_batches(added, schema), keys, join_type="left anti", use_threads=False
        )

    def _open(self) -> DeltaTable | None:
        """Return the table, or None if it does not exist."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            # Not `is_deltatable`, which stops all other threads while it waits for the store.
            return DeltaTable(self.name, storage_options=dict(self._storage_options()))
        except TableNotFoundError:
            return None

    def _create(self) -> DeltaTable:
        from deltalake import DeltaTable

        try:
            DeltaTable.create(
                self.name,
                pa.schema([self._commented(name) for name in self.table.schema.names]),
                name=self.name.rpartition("/")[2],
                description=self.table.description,
                configuration={
                    "delta.dataSkippingStatsColumns": ",".join(self.bounded_columns),
                    "delta.setTransactionRetentionDuration": "interval 30 days",
                },
                storage_options=dict(self._storage_options()),
            )
        except Exception:
            existing = self._open()
            if existing is None:  # otherwise another export has created it meanwhile
                raise
            return existing
        return DeltaTable(self.name, storage_options=dict(self._storage_options()))

    def _types(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        return _types_by_name(self._state.schema().fields), _types_by_name(self._fields(self.table.columns))

    def _add_columns(self, columns: Sequence[Column]) -> None:
        with self._conflicts():
            self._state.alter.add_columns(self._fields(columns))

    def _fields(self, columns: Sequence[Column]) -> list[Field]:
        """Return nullable fields of columns."""
        from deltalake import Schema

        fields = [self._commented(column.name).with_nullable(True) for column in columns]
        return Schema.from_arrow(pa.schema(fields)).fields

    def _commented(self, name: str) -> pa.Field:
        """Return the field of a column with its description under the key that Spark reads."""
        field = self.table.schema.field(name)
        return field.with_metadata({"comment": self.table.column(name).description})

    @contextmanager
    def _conflicts(self) -> Iterator[None]:
        from deltalake.exceptions import CommitFailedError

        conflict = False
        try:
            yield
        except CommitFailedError:
            conflict = True
        if conflict:
            raise self._conflict()


def _version_of(path: str) -> int | None:
    """Return the version of a commit or a checkpoint; None for another file."""
    found = re.fullmatch(r"_delta_log/(\d{20})\..*", path)
    return int(found[1]) if found else None


def _types_by_name(fields: Sequence[Field]) -> dict[str, str]:
    return {field.name: str(getattr(field.type, "type", field.type)) for field in fields}


def _quoted(name: str) -> str:
    return f'"{name}"'


def _equal(key: str) -> str:
    return f"t.{_quoted(key)} = s.{_quoted(key)}"


def _touches(interval: Interval, alias: str = "") -> str:
    """Return the condition for rows whose interval touches another one, as far as statistics can show it."""
    start, end = _literal(interval.start - _STATISTICS), _literal(interval.end + _STATISTICS)
    return f'({alias}"_interval_start" <= {end} AND {alias}"_interval_end" >= {start})'


def _literal(at: datetime) -> str:
    return f"timestamp '{isoformat(at)}'"


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema without metadata, which would otherwise be merged into that of the table."""
    return pa.schema([field.remove_metadata() for field in schema])


def _with_removed(batch: pa.RecordBatch, schema: pa.Schema, *, removed: bool) -> pa.RecordBatch:
    """Return rows with the columns of a schema, null where they have none, and whether they are to be removed."""
    arrays = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in schema
        if field.name != _REMOVED
    ]
    return pa.RecordBatch.from_arrays([*arrays, pa.array([removed] * len(batch), pa.bool_())], schema=schema)


def _one_line(error: Exception) -> str:
    """Return the message of an error without colours, line breaks and the markup of S3's responses."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"<Error>.*?<Code>(.*?)</Code>.*", r"\1", text, flags=re.DOTALL)
    return " ".join(text.split()).removesuffix(".")
